"""Checkpoints: a folder of safetensors and JSON that appears whole or not at all, and never a pickle.

::

    model.safetensors            averaged weights, what everything downstream uses
    checkpoint.json              format, label, config, statistics, dataset, code_version, seed, step, history
    training_state.safetensors   what resuming needs beside them; absent from a model that is shipped

Loading checks names before contents and needs no torch, so that a hostile or mistaken file is refused at once.
"""

from __future__ import annotations

import glob
import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as tensors_as_bytes

from dexter_model.digests import json_digest, sha256_bytes
from dexter_model.errors import InputError
from dexter_model.places import copy_of, is_url, join, local, names

if TYPE_CHECKING:
    from torch import nn

FORMAT = "dexter-checkpoint-1"
MODEL, META, TRAINING_STATE = "model.safetensors", "checkpoint.json", "training_state.safetensors"
CHECKPOINTS = "checkpoints"  # in a training's output folder: step_..., each a checkpoint
BEST = "best"  # beside them: the model of the lowest criterion so far
_STEP = re.compile(r"step_\d{8,}")
_PICKLES = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".joblib", ".npy"}
_PICKLE_STARTS = (b"\x80", b"PK\x03\x04")  # pickle protocol 2 and above; the zip that torch.save writes
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint: float32 weights by name, ``meta`` the whole of checkpoint.json.

    ``digest`` covers what decides what the model says: weights, config and statistics, not label, history or code.
    """

    path: Path
    config: dict[str, Any]
    statistics: dict[str, Any]  # what makes data numbers of unit size: means and deviations a column
    state: dict[str, np.ndarray]
    meta: dict[str, Any]
    digest: str

    @property
    def system(self) -> str:
        """What it is of; checkpoints that do not say so are DExter's."""
        return str(self.meta.get("system", "dexter"))

    @property
    def label(self) -> str:
        """The name that stands beside everything made with it."""
        return str(self.meta["label"])


def step_folder(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` steps lies."""
    return checkpoints / f"step_{step:08d}"


def latest_checkpoint(checkpoints: Path) -> Path | None:
    """The checkpoint of the highest step in a folder of them."""
    return next(reversed(_by_step(checkpoints)), None)


def write_checkpoint(folder: Path, state: Arrays, meta: Mapping[str, Any], training_state: Arrays | None = None) -> str:
    """Publish a checkpoint as ``folder`` in one rename and return its digest.

    A checkpoint that is there already makes way in a rename before that one, and comes back when writing fails. Only
    a kill between the two leaves neither in its place: then ``recover_checkpoint`` puts the old one back.

    Args:
        folder: where.
        state: averaged weights by name.
        meta: checkpoint.json without ``format``.
        training_state: what resuming needs, or None for a model to ship.
    """
    files = {MODEL: tensors_as_bytes(dict(state)), META: _meta_as_bytes({"format": FORMAT, **meta})}
    digest = _digest(files[MODEL], meta)
    if training_state is not None:
        files[TRAINING_STATE] = tensors_as_bytes(dict(training_state))
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        (scratch / "new").mkdir()
        for name, data in files.items():
            (scratch / "new" / name).write_bytes(data)
        if folder.exists():
            folder.rename(scratch / "old")
        (scratch / "new").rename(folder)
    finally:
        _settle(folder, scratch)
    return digest


def recover_checkpoint(folder: Path) -> None:
    """Put back what a writer that was killed was about to replace as ``folder``, and remove what it left."""
    for scratch in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        _settle(folder, scratch)


def _settle(folder: Path, scratch: Path) -> None:
    """End a writer's work: its scratch folder goes, but the checkpoint it moved there, should no other be in place."""
    if not folder.exists() and (scratch / "old").exists():
        (scratch / "old").rename(folder)
    shutil.rmtree(scratch, ignore_errors=True)


def prune_checkpoints(checkpoints: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints, and what interrupted writers left."""
    kept = _by_step(checkpoints)[-keep:]
    for folder in [*(each for each in checkpoints.glob("step_*") if each not in kept), *checkpoints.glob(".step_*")]:
        shutil.rmtree(folder, ignore_errors=True)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Load a checkpoint folder, or the last checkpoint of a training's output folder (``best`` in it is the best).

    Args:
        path: a folder, or ``s3://bucket/prefix`` of one.

    Raises:
        InputError: a pickle (``unsafe_checkpoint``), broken or incomplete files (``checkpoint_unreadable``), or S3 has
            nothing there (``missing_file``).
    """
    path = _fetched(str(path)) if is_url(path) else Path(path)
    _refuse_pickle(path)
    folder = path if (path / META).exists() else latest_checkpoint(path / CHECKPOINTS) or path
    _refuse_pickle(folder / MODEL)
    try:
        files = {name: (folder / name).read_bytes() for name in (MODEL, META)}
    except OSError as error:
        reason = f"is no checkpoint folder ({error.strerror}: {Path(error.filename).name})"
        raise unreadable(path, reason) from None
    meta = _parsed_meta(folder / META, files[META])
    state = {
        name: array.astype(np.float32, copy=False) for name, array in _tensors(folder / MODEL, files[MODEL]).items()
    }
    return Checkpoint(folder, meta["config"], meta["statistics"], state, meta, _digest(files[MODEL], meta))


def _fetched(url: str) -> Path:
    """A copy of a checkpoint at S3, or of a training's last one, without what only training needs."""
    known = names(url)
    if META not in known:
        url = _last_at(url, known) or url
    for name in (MODEL, META):
        local(join(url, name))
    return copy_of(url)


def _last_at(url: str, known: list[str]) -> str | None:
    """The last checkpoint in a training's output folder at S3, of those that are whole."""
    found = re.compile(rf"{CHECKPOINTS}/{_STEP.pattern}/{META}")
    whole = [name.removesuffix(f"/{META}") for name in known if found.fullmatch(name)]
    return join(url, max(whole, key=lambda name: (len(name), name))) if whole else None


def last_meta(out: str | Path) -> dict[str, Any] | None:
    """The checkpoint.json of the last checkpoint in a training's output folder; None when there is none yet.

    Raises:
        InputError: it is broken (``checkpoint_unreadable``).
    """
    if not is_url(out):
        latest = latest_checkpoint(Path(out) / CHECKPOINTS)
        return None if latest is None else read_meta(latest)
    last = _last_at(str(out), names(out))
    return None if last is None else read_meta(local(join(last, META)).parent)


def read_meta(folder: Path) -> dict[str, Any]:
    """The checkpoint.json of a checkpoint folder, without its weights.

    Raises:
        InputError: it is broken or missing (``checkpoint_unreadable``).
    """
    try:
        return _parsed_meta(folder / META, (folder / META).read_bytes())
    except OSError as error:
        raise unreadable(folder, f"is no checkpoint folder ({error.strerror}: {META})") from None


def load_training_state(folder: Path) -> dict[str, np.ndarray]:
    """What ``write_checkpoint`` was given to resume from.

    Raises:
        InputError: there is none (a model made to ship), or it is broken (``checkpoint_unreadable``).
    """
    try:
        return _tensors(folder / TRAINING_STATE, (folder / TRAINING_STATE).read_bytes())
    except OSError:
        raise unreadable(folder, f"holds no {TRAINING_STATE} to resume from") from None


def export_checkpoint(source: str | Path, target: Path, label: str) -> str:
    """Write a checkpoint to ship: half-precision weights, no training state; returns its digest."""
    checkpoint = load_checkpoint(source)
    state = {name: array.astype(np.float16) for name, array in checkpoint.state.items()}
    meta = {name: value for name, value in checkpoint.meta.items() if name != "format"}
    return write_checkpoint(target, state, meta | {"label": label})


def _by_step(checkpoints: Path) -> list[Path]:
    """Those that are whole: at S3 a writer that is killed leaves one without what is written last."""
    found = (folder for folder in checkpoints.glob("step_*") if _STEP.fullmatch(folder.name))
    folders = [folder for folder in found if (folder / META).exists()]
    return sorted(folders, key=lambda folder: int(folder.name.removeprefix("step_")))


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Give a model (on the CPU or the meta device) a checkpoint's weights.

    Raises:
        InputError: names or shapes differ from the model's (``checkpoint_unreadable``).
    """
    import torch

    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: value.shape for name, value in checkpoint.state.items()}
    if expected != found:
        wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        first = f"{wrong[0]} is {found.get(wrong[0], 'missing')}, expected {expected.get(wrong[0], 'nothing')}"
        raise unreadable(checkpoint.path, f"{len(wrong)} weights do not fit its settings ({first})")
    model.load_state_dict({name: torch.from_numpy(value) for name, value in checkpoint.state.items()}, assign=True)


def _refuse_pickle(path: Path) -> None:
    starts = b""
    if path.is_file():
        with path.open("rb") as file:
            starts = file.read(9)
    tensors = starts.endswith(b"{")  # safetensors: the header's length in 8 bytes, which may begin as a pickle does
    if (path.suffix.lower() in _PICKLES and not path.is_dir()) or (starts.startswith(_PICKLE_STARTS) and not tensors):
        reason = "is a pickle, which can run any code when it is loaded"
        raise InputError(path, reason, "Give a checkpoint folder of safetensors and JSON", "unsafe_checkpoint")


def _tensors(path: Path, data: bytes) -> dict[str, np.ndarray]:
    try:
        return parse_tensors(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise unreadable(path, f"is no readable safetensors file ({error})") from None


def _parsed_meta(path: Path, data: bytes) -> dict[str, Any]:
    try:
        meta = json.loads(data)
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']!r} is not {FORMAT!r}")
        _check_statistics(meta["statistics"])
        if not isinstance(meta["config"], dict) or not isinstance(meta["step"], int) or "label" not in meta:
            raise ValueError("config, step or label have a wrong type")
        if not isinstance(meta.get("dataset", {}), dict):
            raise ValueError("dataset has a wrong type")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(path, f"is no checkpoint description ({type(error).__name__}: {error})") from None
    return meta


def _check_statistics(statistics: Mapping[str, Any]) -> None:
    """All are finite numbers, deviations (``std``, ``x_std``) positive and as many as means, where there are such."""
    if not isinstance(statistics, dict) or len(statistics.get("mean", ())) != len(statistics.get("std", ())):
        raise ValueError("statistics are not pairs of means and deviations")
    for name, values in statistics.items():
        numbers = values if isinstance(values, list) else [values]
        low = 0.0 if name.endswith("std") else -math.inf
        if not all(math.isfinite(value) and value > low for value in numbers):
            raise ValueError(f"statistics: {name} is not made of numbers, or of positive ones")


def _meta_as_bytes(meta: Mapping[str, Any]) -> bytes:
    lines = [f"{json.dumps(key)}: {json.dumps(meta[key], sort_keys=True, allow_nan=False)}" for key in sorted(meta)]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _digest(weights: bytes, meta: Mapping[str, Any]) -> str:
    return json_digest([sha256_bytes(weights), meta["config"], meta["statistics"]])


def unreadable(path: Path, reason: str) -> InputError:
    """The error of a checkpoint that cannot be used."""
    return InputError(path, reason, "Train again or fetch the checkpoint anew", "checkpoint_unreadable")
