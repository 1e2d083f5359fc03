"""Models to hand on: a zip archive or a folder of safetensors and JSON, which say of each other what they are.

::

    model.safetensors    weights
    bundle.json          format, configuration, all settings, vocabulary, description, data set, step, measures, sha256

Other than a checkpoint it holds nothing to resume from, and other than a published ``.mag`` no graph to run.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as tensors_as_bytes

from dexter_model.digests import json_digest, sha256_bytes
from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import PerformanceRnnConfig
from dexter_model.performance_rnn.encodings import heads
from dexter_model.performance_rnn.magenta_bundle import load_magenta_bundle
from dexter_model.performance_rnn.vocabulary import MAX_SHIFT, STEPS_PER_SECOND
from dexter_model.places import is_url, join, local, names, write
from dexter_model.training.checkpoint import Checkpoint, load_checkpoint

FORMAT = "performance-rnn-bundle-1"
MODEL, META = "model.safetensors", "bundle.json"
MAX_BYTES = 512 << 20
_TOLD = {"label": str, "description": str, "dataset": dict, "step": int}  # of what meta holds, the types


def load_model(path: str | Path) -> Checkpoint:
    """A model of any kind: a published ``.mag``, a bundle (folder or archive), a checkpoint or a training's output.

    Raises:
        InputError: it is none that can be read (``bundle_unreadable``, ``checkpoint_unreadable``).
    """
    there = names(path) if is_url(path) else [name for name in ("", META) if Path(path, name).is_file()]
    if META in there or ("" in there and _is_archive(local(path))):
        return read_bundle(path)
    return load_magenta_bundle(path) if str(path).endswith(".mag") else load_checkpoint(path)


def write_bundle(checkpoint: Checkpoint, path: str | Path, description: str = "") -> str:
    """Write a model as a bundle and return its digest.

    The same model and words give the same bytes.

    Args:
        checkpoint: the model; its ``measures`` are what the last validation found, if there was any.
        path: an archive, of whatever ending; a folder if it has none; here or at S3.
        description: what people should know.
    """
    config = PerformanceRnnConfig.from_dict(checkpoint.config)
    weights = tensors_as_bytes(dict(checkpoint.state))
    validated = [loss for *_, loss in checkpoint.meta.get("history", []) if loss is not None]
    told = {
        "format": FORMAT,
        "id": config.network.name,
        "config": config.to_dict(),
        "vocabulary": {
            "classes": list(heads(config.network)),
            "velocity_bins": config.network.velocity_bins,
            "steps_per_second": STEPS_PER_SECOND,
            "longest_shift": MAX_SHIFT,
        },
        "description": description,
        "label": checkpoint.label,
        "dataset": checkpoint.meta.get("dataset", {}),
        "step": checkpoint.meta["step"],
        "measures": {"loss": validated[-1]} if validated else {},
        "sha256": {MODEL: sha256_bytes(weights)},
    }
    files = {MODEL: weights, META: (json.dumps(told, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()}
    if PurePosixPath(path).suffix:
        files = {"": _archived(files)}
    for name, data in files.items():
        write(join(path, name) if name else path, data)
    return _digest(told)


def read_bundle(path: str | Path) -> Checkpoint:
    """What ``write_bundle`` wrote, as a checkpoint.

    Raises:
        InputError: it is none, is damaged, or its weights are not those it was written with (``bundle_unreadable``).
    """
    place = local(path)
    try:
        files = _unpacked(place) if place.is_file() else _files(place)
        told = json.loads(files[META])
        _check(told, files[MODEL])
        config = PerformanceRnnConfig.from_dict(told["config"])
        if told["id"] != config.network.name:
            raise ValueError(f"its id is {told['id']!r}, its network {config.network.name!r}")
        tensors = {name: value.astype(np.float32) for name, value in parse_tensors(files[MODEL]).items()}
        if not all(np.isfinite(value).all() for value in tensors.values()):
            raise ValueError("it holds weights that are no numbers")
        meta = {name: told[name] for name in _TOLD} | {"history": [], "system": PerformanceRnnConfig.system}
        return Checkpoint(place, config.to_dict(), {"mean": [], "std": []}, tensors, meta, _digest(told))
    except InputError as error:
        raise _unreadable(path, f"{error.path}: {error.reason}") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, SafetensorError, EOFError, RuntimeError) as error:
        raise _unreadable(path, str(error) or "it is damaged") from error


def _check(told: Mapping[str, Any], weights: bytes) -> None:
    """Refuse what is of another format or type, or tells of other weights (ValueError, KeyError, TypeError)."""
    if told["format"] != FORMAT:
        raise ValueError(f"its format is {told['format']!r}, not {FORMAT!r}")
    if told["sha256"] != {MODEL: sha256_bytes(weights)}:
        raise ValueError("its weights are not those it was written with")
    for name, kind in _TOLD.items():
        if type(told[name]) is not kind:
            raise ValueError(f"its {name} is no {kind.__name__}")


def _is_archive(file: Path) -> bool:
    """Whether a file is a bundle, whole or not, going by its name or by what it holds."""
    if file.suffix == ".zip":
        return True
    try:
        with zipfile.ZipFile(file) as archive:
            return META in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def _digest(told: Mapping[str, Any]) -> str:
    return json_digest([told["sha256"], told["config"]])


def _archived(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # dated 1980, so that bytes depend on nothing else
    return packed.getvalue()


def _unpacked(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        sizes = {name: archive.getinfo(name).file_size for name in (MODEL, META)}
        _check_size(sum(sizes.values()))
        return {name: archive.read(name) for name in (MODEL, META)}


def _files(folder: Path) -> dict[str, bytes]:
    _check_size(sum((folder / name).stat().st_size for name in (MODEL, META)))
    return {name: (folder / name).read_bytes() for name in (MODEL, META)}


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"it holds more than {MAX_BYTES >> 20} MiB")


def _unreadable(path: str | Path, reason: str) -> InputError:
    return InputError(path, reason, "Give a bundle that was written by this project, fetched anew", "bundle_unreadable")
