"""Where corpora lie: the command line, then the environment, then ``configs/corpora.yaml``, then the public names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dexter_model.errors import InputError
from dexter_model.places import absolute, is_url, join, local

# The folder of each corpus under the datasets root: the public name of its repository or archive.
SUBPATHS: Mapping[str, str] = {
    "VIENNA422": "vienna4x22",
    "ASAP": "asap-dataset",
    "ATEPP": "ATEPP",
    "MAESTRO": "maestro-v3.0.0",
    "LAKH": "lmd_full",
}
OWN = {"FOLDER": "match and score files", "MIDI": "MIDI, MusicXML or TFRecord files"}  # what --data-root may hold
CONFIG = (
    Path(__file__).resolve().parents[2] / "configs" / "corpora.yaml"
)  # a checkout has one, an installation need not


@dataclass(frozen=True)
class CorpusRoots:
    """Folders or s3:// URLs given on the command line, and how the others are found.

    Args:
        datasets_root: folder that holds corpora under their public names; else ``DEXTER_DATASETS_ROOT``, else the YAML.
        data_root: folder of the corpora in ``OWN``; else ``DEXTER_DATA_ROOT``, else the YAML.
        config: the YAML file: ``datasets_root``, ``data_root``, and ``subpaths`` with one sub-path a corpus.
    """

    datasets_root: Path | str | None = None
    data_root: Path | str | None = None
    config: Path = CONFIG

    def folder(self, corpus: str) -> Path:
        """The existing folder of a corpus in ``SUBPATHS`` or ``OWN``, absolute; of one at S3, a copy.

        Raises:
            InputError: ``corpus_missing``, naming the folder looked for; ``config_invalid`` for a broken YAML file.
        """
        folder = local(self.data(corpus) if corpus in OWN else self.destination(corpus), missing_ok=True)
        if not folder.is_dir():
            reason = "is a file, not the folder of" if folder.exists() else "does not exist; it should hold"
            raise InputError(folder, f"{reason} the corpus {corpus}", _remedy(corpus), "corpus_missing")
        return folder

    def datasets(self, corpus: str) -> str:
        """The place that holds ``corpus`` and others; it need not exist (a download makes it)."""
        found = self._first(self.datasets_root, "DEXTER_DATASETS_ROOT", "datasets_root")
        if found is None:
            reason = "no folder of corpora is known: neither --datasets-root nor DEXTER_DATASETS_ROOT is given"
            raise InputError(corpus, reason, _remedy(corpus), "corpus_missing")
        return found

    def data(self, corpus: str) -> str:
        """The place of a corpus in ``OWN``."""
        found = self._first(self.data_root, "DEXTER_DATA_ROOT", "data_root")
        if found is None:
            reason = "no folder is known: neither --data-root nor DEXTER_DATA_ROOT is given"
            raise InputError(corpus, reason, _remedy(corpus), "corpus_missing")
        return found

    def destination(self, corpus: str) -> str:
        """Where ``corpus`` lies, or belongs."""
        return join(self.datasets(corpus), self._subpath(corpus))

    def _first(self, given: Path | str | None, variable: str, key: str) -> str | None:
        found = given or os.environ.get(variable) or self._yaml().get(key)
        return absolute(str(found) if is_url(str(found)) else Path(str(found)).expanduser()) if found else None

    def _subpath(self, corpus: str) -> str:
        return str(self._yaml().get("subpaths", {}).get(corpus) or SUBPATHS[corpus])

    def _yaml(self) -> dict[str, Any]:
        import yaml

        try:
            values = yaml.safe_load(self.config.read_text()) or {}
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = f"not a readable YAML file ({' '.join(str(error).split())})"
            raise InputError(self.config, reason, "Correct or remove it", "config_invalid") from None
        if not isinstance(values, dict) or not isinstance(values.get("subpaths", {}), dict):
            remedy = "Write datasets_root, data_root and subpaths: {CORPUS: folder}"
            raise InputError(self.config, "holds no mapping of corpora to folders", remedy, "config_invalid")
        return values


def _remedy(corpus: str) -> str:
    if corpus in OWN:
        return f"Name your folder of {OWN[corpus]} with --data-root DIR"
    remedy = "Name the folder that holds it with --datasets-root DIR"
    if corpus == "ATEPP":
        return f"{remedy}; ATEPP is sent on request, see the disclaimer in its repository"
    if corpus in ("MAESTRO", "LAKH"):
        return f"{remedy}; `dexter corpora download {corpus}` says where it is to be had"
    return f"{remedy}, or run `dexter corpora download {corpus}`"
