"""A folder of renders: MIDI (and codec) of each, a journal while a job runs, ``renders.json`` when it is done.

A render is known by its key: everything that decides what it sounds like (renderer, score, checkpoint, steps,
guidance, seed, sample). One that is whole on disk and has the key that is wanted is not made again, whichever job made
it. The journal gets a line when both files of a render are written, so that a job that is killed loses at most the
render at hand; ``renders.json`` exists only when its job came to the end, and then names exactly that job's renders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dexter_model.digests import file_digest, write_atomically

FORMAT = "dexter-renders-1"
LISTING, JOURNAL = "renders.json", "unfinished.jsonl"
MADE_FROM = ("source", "like")  # in an entry, keys of the piece's performances that the render was made from or like
DEVIATIONS = "perceptual_std"  # of steered renders, what a perceptual feature is steered in: its deviation in training
# Ending of each file of a render, and what its entry calls the file's digest.
FILES = {"midi": (".mid", "digest"), "codec": (".npz", "codec_digest")}
Writers = Mapping[str, Callable[[Path], None]]


class RendersFolder:
    """The folder a rendering job writes to, with the renders that it holds already.

    Args:
        path: the folder.
        kinds: which of ``FILES`` a render has.
    """

    def __init__(self, path: str | Path, kinds: Sequence[str] = ("midi", "codec")) -> None:
        self.path = Path(path)
        self.kinds = kinds
        self._written = ("notes", "duration_sec", *(name for kind in kinds for name in (kind, FILES[kind][1])))
        self.listing = self.path / LISTING
        self._journal = self.path / JOURNAL
        rows = [*_listed(self.listing), *_journalled(self._journal)]
        self._known = {str(row["name"]): row for row in rows if self._whole(row)}

    def kept(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The entry of a render that is here already, None when it is not or was made otherwise.

        Args:
            row: its entry so far: name, key and what it is to be made from.
        """
        known = self._known.get(row["name"])
        if known is None or known["key"] != row["key"]:
            return None
        return row | {name: known[name] for name in self._written}

    def begin(self) -> None:
        """From now on the folder is unfinished, until ``finish``."""
        lines = [json.dumps(row) + "\n" for row in self._known.values()]
        write_atomically(self._journal, "".join(lines).encode())
        self.listing.unlink(missing_ok=True)

    def add(self, row: dict[str, Any], writers: Writers, notes: int, seconds: float) -> dict[str, Any]:
        """Write a render's files and note it in the journal.

        Args:
            row: its entry in ``renders.json``: name, key and what it was made from.
            writers: what writes each kind of file.
            notes: how many it has.
            seconds: how long it sounds.

        Returns:
            The entry with the files' names and digests.
        """
        row = row | {"notes": notes, "duration_sec": round(seconds, 3)}
        for kind in self.kinds:
            ending, digest = FILES[kind]
            file = self.path / f"{row['name']}{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            writers[kind](file)
            row |= {kind: f"{row['name']}{ending}", digest: file_digest(file, verify=True)}
        with self._journal.open("a") as journal:
            journal.write(json.dumps(row) + "\n")
        return row

    def finish(self, about: dict[str, Any], renders: Iterable[dict[str, Any]], quarantined: Iterable[dict]) -> None:
        """Publish ``renders.json`` and drop the journal.

        Args:
            about: checkpoint, steps, guidance and seed of the job.
            renders: entries, in the order of the job.
            quarantined: path, code and reason of each input that was refused.
        """
        content = {"format": FORMAT, **about, "renders": list(renders), "quarantined": list(quarantined)}
        write_atomically(self.listing, (json.dumps(content, indent=1) + "\n").encode())
        self._journal.unlink(missing_ok=True)

    def _whole(self, row: dict[str, Any]) -> bool:
        try:
            files = {kind: f"{row['name']}{FILES[kind][0]}" for kind in self.kinds}
            there = {FILES[kind][1]: file_digest(self.path / file) for kind, file in files.items()}
            wanted = files | there
            return {"key", *self._written} <= row.keys() and all(row[name] == wanted[name] for name in wanted)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False


def _listed(path: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(path.read_text())["renders"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # none, or not ours: everything is made anew


def _journalled(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue  # cut off when the job was killed
    return rows
