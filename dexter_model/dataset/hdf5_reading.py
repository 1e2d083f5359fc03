"""Reading the original's HDF5 files and the arrays beside them, which nobody trusts: this runs in the sandbox.

A file may name datasets outside it, claim any size, or crash the library. So only datasets that lie in the file itself
are read, of the types and shapes of the layout and within limits, group by group; arrays of Python objects (pickles)
are not read at all.
"""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dexter_model.dataset.hdf5 import NOTE_ARRAYS, OWN, S_CODEC
from dexter_model.dataset.packing import FRAME_ARRAYS
from dexter_model.digests import array_digest
from dexter_model.errors import InputError
from dexter_model.notes import CODEC_COLUMNS, PERCEPTUAL_FEATURES, SCORE_NOTE

MAX_BYTES = 256 << 20  # of a dataset, unpacked: a performance with a hundred mixups of 12,000 notes has 24 MB
MAX_GROUPS = 1_000_000
_NAME = re.compile(r"(\w[\w.-]*)_(\d+)")
# What h5py and numpy raise over damaged files, and we do: not the errors of a slip in the program, as NameError is.
DAMAGED = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError, SystemError)
_REMEDY = "Give a codec_N=....hdf5 of DExter's layout"


@dataclass(frozen=True)
class Listed:
    """A group of the file: ``rows`` is the digest of its score rows; ``failure`` what is wrong, or its ``error``."""

    group: str
    corpus: str
    index: int
    piece: str
    rows: str = ""
    failure: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    damaged: bool = False  # the failure is the file's, not one that the file tells of


@dataclass(frozen=True, eq=False)
class Stored:
    """What a group says of its performance (n notes, real ones), its mixups left out.

    ``c_codec`` is None where the group has none; ``own`` are the arrays of our own group by name; ``splits`` is the
    split that the file says, a window.
    """

    p_codec: np.ndarray
    s_codec: np.ndarray
    c_codec: np.ndarray | None
    id_paths: list[str]
    splits: list[str]
    score_path: str
    mixups: int
    own: dict[str, np.ndarray]


def list_groups(path: str) -> tuple[int, list[Listed]]:
    """The window N and the groups of a file, by corpus and number; a damaged one is listed with its failure.

    Raises:
        InputError: ``hdf5_unreadable``, also when the file has no group of the layout.
    """
    with _opened(path) as file:
        if len(file) > MAX_GROUPS:
            raise ValueError(f"it has more than {MAX_GROUPS:,} groups")
        names = [(match, name) for name in file if (match := _NAME.fullmatch(name))]
        listed = [_listed(file, name, match[1], int(match[2])) for match, name in names if len(match[2]) < 10]
        windows = {window for window, _ in listed if window}
    if len(windows) != 1:
        raise _unreadable(path, "its windows differ in length" if windows else "it holds no performance of the layout")
    return windows.pop(), sorted((group for _, group in listed), key=lambda group: (group.corpus, group.index))


def read_group(path: str, name: str) -> Stored:
    """One performance.

    Raises:
        InputError: ``hdf5_unreadable``.
    """
    with _opened(path) as file:
        group = _group(file, name)
        s_codec = _score_rows(group)
        count = _first_variant(s_codec)
        real = s_codec[:count].reshape(-1, len(S_CODEC))[:, 2] > 0
        p_codec = _array(group, "p_codec", "f", (*s_codec.shape[:2], len(CODEC_COLUMNS)), count)
        c_shape = (*s_codec.shape[:2], len(PERCEPTUAL_FEATURES))
        c_codec = _array(group, "c_codec", "f", c_shape, count) if "c_codec" in group else None
        codec = p_codec.reshape(-1, len(CODEC_COLUMNS))[real].astype(np.float32)
        if not np.isfinite(codec).all() or (codec[:, 0] <= 0).any():
            raise ValueError(
                f"p_codec of {name} holds values that are no numbers, or beat periods that are not above 0"
            )
        return Stored(
            codec,
            s_codec[:count].reshape(-1, len(S_CODEC))[real],
            None if c_codec is None else c_codec.reshape(-1, len(PERCEPTUAL_FEATURES))[real].astype(np.float32),
            _texts(group, "snote_id_path")[:count],
            _texts(group, "split")[:count],
            next(iter(_texts(group, "score_path")), ""),
            len(s_codec) - count,
            _own_arrays(group, int(real.sum())),
        )


def read_ids(paths: list[str]) -> np.ndarray | None:
    """Note ids (n,) of files of windows; None when one of them is not there.

    Raises:
        InputError: ``pickled`` or ``array_unreadable``.
    """
    if not paths or not all(is_file(path) for path in paths):
        return None
    parts = [_plain(path) for path in paths]
    try:
        if any(part.ndim != 1 or part.dtype.kind not in "US" for part in parts):
            raise ValueError("they are no list of text")
        ids = np.concatenate([part.astype(np.str_) for part in parts])
        np.char.encode(ids, "utf-8")
    except (ValueError, SystemError) as error:  # also of text that is no Unicode
        reason = f"holds no note ids: {error}"
        raise InputError(paths[0], reason, "Export the data set again", "array_unreadable") from None
    return ids


def read_pairs(path: str) -> np.ndarray:
    """An array of pairs as ``hdf5.export_pairs`` writes it: (k, 4) of paired windows, (k, 2) of unpaired ones.

    Raises:
        InputError: ``pickled`` or ``array_unreadable``.
    """
    pairs = _plain(path)
    if pairs.ndim != 2 or pairs.shape[1] not in (2, 4) or pairs.dtype.kind not in "iu":
        raise InputError(path, "holds no pairs of numbers", "Draw pairs: `dexter dataset pairs`", "array_unreadable")
    return pairs.astype(np.int64)


def is_file(path: str) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _plain(path: str) -> np.ndarray:
    """An array of a file that is no pickle."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.nbytes > MAX_BYTES:
            raise InputError(path, "is no array, or too large", "Give an .npy file", "array_unreadable")
        return np.array(array)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "pickle" in str(error) or "object" in str(error):
            reason = "is an array of Python objects (a pickle), which can run any program and is not loaded"
            remedy = "Draw pairs with `dexter dataset pairs`, or save it as plain numbers or text"
            raise InputError(path, reason, remedy, "pickled") from None
        raise InputError(path, str(error), "Give an .npy file", "array_unreadable") from None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGED as error:
        raise _unreadable(path, " ".join(str(error).split())) from error


def _unreadable(path: str, reason: str) -> InputError:
    return InputError(path, reason, _REMEDY, "hdf5_unreadable")


def _listed(file: h5py.File, name: str, corpus: str, index: int) -> tuple[int, Listed]:
    """A group and the length of its windows, 0 when it has none."""
    piece = name
    try:
        group = _group(file, name)
        about = _about(group)
        if "error" in group:
            return 0, Listed(name, corpus, index, name, failure=next(iter(_texts(group, "error")), ""), about=about)
        piece = next(iter(_texts(group, "piece_name")), name)
        rows = _score_rows(group)
        notes = rows.reshape(-1, len(S_CODEC))[: _first_variant(rows) * rows.shape[1]]
        return rows.shape[1], Listed(name, corpus, index, piece, array_digest(notes[notes[:, 2] > 0]), about=about)
    except DAMAGED as error:
        return 0, Listed(name, corpus, index, piece, failure=" ".join(str(error).split()), damaged=True)


def _member(group: h5py.Group, name: str) -> Any:
    """A member that lies in the file itself."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name}/{name} is not in the file" if name not in group else f"{name} is a link")
    return group[name]


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    group = _member(parent, name)
    if not isinstance(group, h5py.Group):
        raise ValueError(f"{name} is no group")
    return group


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    dataset = _member(group, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{group.name}/{name} is no dataset")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{group.name}/{name} has its values in another file")
    if dataset.size * max(dataset.dtype.itemsize, 1) > MAX_BYTES:
        raise ValueError(f"{group.name}/{name} is larger than {MAX_BYTES >> 20} MiB")
    return dataset


def _array(
    group: h5py.Group, name: str, kinds: str, shape: tuple[int, ...] | None = None, count: int | None = None
) -> np.ndarray:
    """The first ``count`` rows of a dataset of numbers."""
    dataset = _dataset(group, name)
    if dataset.dtype.kind not in kinds or (shape is not None and dataset.shape != shape):
        raise ValueError(f"{group.name}/{name} is {dataset.dtype} of the shape {dataset.shape}, not as in the layout")
    return np.asarray(dataset[:count])


def _score_rows(group: h5py.Group) -> np.ndarray:
    """``s_codec`` (S, N, 4) int32."""
    dataset = _dataset(group, "s_codec")
    if dataset.ndim != 3 or 0 in dataset.shape or dataset.shape[2] != len(S_CODEC):
        raise ValueError(f"{group.name}/s_codec has the shape {dataset.shape}, not windows of {len(S_CODEC)} columns")
    rows = _array(group, "s_codec", "iuf")
    if not (np.abs(rows) < 2**31).all() or (rows != np.rint(rows)).any():
        raise ValueError(f"{group.name}/s_codec holds values that are no whole numbers")
    if not rows[0, :, 2].any() or rows[..., 2].min() < 0 or rows[..., 2].max() > 127:
        raise ValueError(f"{group.name}/s_codec holds no note, or pitches outside of 0 to 127")
    return rows.astype(np.int32)


def _first_variant(rows: np.ndarray) -> int:
    """How many windows the performance itself has: a mixup begins with the notes of the first window again."""
    again = np.flatnonzero((rows[1:] == rows[0]).all(axis=(1, 2)))
    return 1 + int(again[0]) if len(again) else len(rows)


def _texts(group: h5py.Group, name: str) -> list[str]:
    """A dataset of text, of any shape, as a list; empty when there is none."""
    if name not in group:
        return []
    dataset = _dataset(group, name)
    if h5py.check_string_dtype(dataset.dtype) is None:
        raise ValueError(f"{group.name}/{name} is {dataset.dtype}, not text")
    texts = np.atleast_1d(dataset.asstr("utf-8", "backslashreplace")[()])
    return [str(text) for text in texts.ravel()]


def _about(group: h5py.Group) -> dict[str, Any]:
    """What we wrote about the performance; empty in files of others."""
    holder = _group(group, OWN) if OWN in group else group
    text = holder.attrs.get(OWN)
    try:
        about = json.loads(text, parse_int=_integer) if isinstance(text, str) else {}
        json.dumps(about, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, OverflowError, RecursionError):
        raise ValueError(f"what its attribute {OWN} says is no JSON, or holds what no table can") from None
    return about if isinstance(about, dict) else {}


def _integer(text: str) -> int:
    """An integer of 64 bits."""
    return int(np.int64(text))


def _own_arrays(group: h5py.Group, notes: int) -> dict[str, np.ndarray]:
    """The arrays of our own group, where it is there."""
    if OWN not in group:
        return {}
    own = _group(group, OWN)
    arrays = {name: _array(own, name, "bf", (notes,)) for name in NOTE_ARRAYS}
    if not arrays["matched"].any() or not np.isfinite(arrays["keydown_articulation"]).all():
        raise ValueError(f"{own.name} says that no note is played, or articulations that are no numbers")
    frames = len(_dataset(own, "frame_time"))
    arrays |= {name: _array(own, name, "f", (frames, *shape[1:])) for name, (shape, _) in FRAME_ARRAYS.items()}
    times = arrays["frame_time"]
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError(f"{own.name}/frame_time holds no rising times")
    if any(np.isinf(arrays[name]).any() for name in FRAME_ARRAYS):
        raise ValueError(f"{own.name} holds perceptual features without end")
    if "score" in own:
        table = _array(own, "score", "V", (notes,))
        arrays["score"] = np.zeros(notes, SCORE_NOTE)
        for name in set(SCORE_NOTE.names or ()) & set(table.dtype.names or ()):
            arrays["score"][name] = table[name]
    return arrays
