"""Codec files: one ``.npz`` a performance with ``p_codec``, ``s_codec``, ``matched`` and ``note_id``; no pickles."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dexter_model.codec.performance_codec import EncodedPerformance
from dexter_model.errors import InputError
from dexter_model.places import local, write

MAX_BYTES = 256 << 20  # unpacked; 100,000 notes take 10 MB


@dataclass(frozen=True, eq=False)
class Codec:
    """What a codec file holds: ``p_codec`` (n, 5), ``s_codec`` (n, 4), ``matched`` (n,), ``note_id`` (n,)."""

    p_codec: np.ndarray
    s_codec: np.ndarray
    matched: np.ndarray
    note_id: np.ndarray


def save_codec(path: str | Path, codec: Codec | EncodedPerformance) -> None:
    """Write a codec file, all or nothing; equal codecs give equal bytes."""
    packed = io.BytesIO()
    np.savez_compressed(
        packed, p_codec=codec.p_codec, s_codec=codec.s_codec, matched=codec.matched, note_id=codec.note_id
    )
    write(path, packed.getvalue())


def load_codec(path: str | Path) -> Codec:
    """Read a codec file.

    Raises:
        InputError: ``codec_unreadable`` when it is none, or its arrays do not fit together.
    """
    file = local(path)
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
        with np.load(file, allow_pickle=False) as arrays:
            codec = Codec(*(arrays[name] for name in ("p_codec", "s_codec", "matched", "note_id")))
        _check(codec)
    except Exception as error:  # a damaged archive raises all sorts of errors, MemoryError among them
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
        raise InputError(path, reason, "Give a file that dexter encode or render wrote", "codec_unreadable") from error
    return codec


def _check(codec: Codec) -> None:
    n = len(codec.note_id)
    if n == 0:
        raise ValueError("it holds no note")
    if codec.p_codec.shape != (n, 5) or codec.s_codec.shape != (n, 4) or codec.matched.shape != (n,):
        raise ValueError("its arrays differ in their number of notes")
    kinds = (codec.p_codec.dtype.kind, codec.s_codec.dtype.kind, codec.matched.dtype.kind, codec.note_id.dtype.kind)
    if kinds != ("f", "i", "b", "U"):
        raise ValueError("its arrays are of other types than a codec's")
    if not np.isfinite(codec.p_codec).all():
        raise ValueError("its p_codec holds values that are no numbers")
