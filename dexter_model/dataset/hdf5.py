"""The storage of the original DExter, written from a data set version: windows of N notes in one HDF5 file.

::

    codec_N={N}[_mixup].hdf5            a group {corpus}_{index} a performance, S windows each:
        p_codec (S, N, 5)  s_codec (S, N, 4)  c_codec (S, N, 7)  snote_id_path  score_path  piece_name  split (S)
                                        or a single dataset ``error``
    snote_ids/N={N}/{corpus}_{piece}_seg{k}.npy      ids of a window's score notes, of all performances of the piece
    codec_N={N}[_mixup]_paired_K={K}.npy, codec_N={N}[_mixup]_unpaired_K={K}.npy
    errors.jsonl

With mixups, the windows of a performance are followed by those of its means with the later performances of its piece.
What this layout cannot say (which notes were played, frames, performers, beats) is in a group ``dexter`` inside each
group, which its readers do not look at, and which makes the way back exact (``hdf5_import``). ``hdf5_pairs`` writes the
pairs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from dexter_model.dataset.packing import FRAME_ARRAYS
from dexter_model.dataset.pairs import mixup
from dexter_model.dataset.windows import cut, window_count
from dexter_model.digests import json_digest, write_atomically
from dexter_model.places import is_url, shown

if TYPE_CHECKING:
    import polars as pl

    from dexter_model.dataset.piece import Piece
    from dexter_model.dataset.store import DatasetVersion

S_CODEC = ("onset_div", "duration_div", "pitch", "voice")
OWN = "dexter"  # our group inside a performance's, and its attribute
NOTE_ARRAYS = ("matched", "named", "keydown_articulation")
# The original's reasons by ours; other reasons are codec_extraction_error.
REASONS = {
    "missing_score": "missing_files",
    "missing_alignment": "missing_files",
    "alignment_unreadable": "alignment_load_error",
    "low_alignment_match_ratio": "low_alignment_match_ratio",
    "unknown_ids": "length_mismatch",
}
KNOWN_REASONS = {*REASONS.values(), "codec_extraction_error", "tempo_outlier"}
_PACKED: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


@dataclass(frozen=True)
class Exported:
    """The file written, and how many performances, windows (mixed ones included) and failures are in it."""

    path: Path
    performances: int
    windows: int
    errors: int


def export_hdf5(
    version: DatasetVersion,
    folder: str | Path,
    window: int,
    *,
    mixups: bool = False,
    score_paths: Mapping[tuple[str, str], str] | None = None,
    path_remap: Mapping[str, str] | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> Exported:
    """Write a version as the original's files.

    Args:
        version: the version.
        folder: where to; made when missing.
        window: N.
        mixups: add the means of every two real performances of a piece of the training split.
        score_paths: the score's file by corpus and key of the piece, for ``score_path``, which says where it lies from
            the folder on; '' where there is none.
        path_remap: old and new beginnings of the scores' paths; these are written as they become.
        progress: called with the performances written so far.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem(window, mixups)}.hdf5"
    splits = version.catalogue["split"].to_list()
    names = _file_names(version.catalogue.select("corpus", "key").rows())
    index = windows = 0
    with _written(path) as file:
        for piece, split in zip(version.pieces(), splits, strict=True):
            ids = _write_ids(folder, window, names[piece.corpus, piece.key], piece.note_id)
            told = {"piece_name": piece.key, "split": split}
            place = (score_paths or {}).get((piece.corpus, piece.key), "")
            told["score_path"] = _written_path(place, folder, path_remap or {})
            blocks = _windows(piece, window)
            for row in range(len(piece.performance)):
                later = _later(piece, row) if mixups and split == "train" else np.zeros(0, int)
                group = file.create_group(f"{piece.corpus}_{index}")
                windows += _write_performance(group, blocks, row, later, told, ids)
                _write_own(group.create_group(OWN), piece, row)
                index += 1
                progress(index)
        _write_errors(file, index, version.quarantine)
    _write_error_lines(folder, version.quarantine)
    return Exported(path, index, windows, version.quarantine.height)


def stem(window: int, mixups: bool) -> str:
    """How the files of an export begin."""
    return f"codec_N={window}{'_mixup' if mixups else ''}"


def remapped(path: str, prefixes: Mapping[str, str]) -> str:
    """A path with the first prefix that it begins with replaced; prefixes end where a folder's name does."""
    for old, new in prefixes.items():
        if path == old or path.startswith(old.rstrip("/") + "/"):
            return new.rstrip("/") + path[len(old.rstrip("/")) :]
    return path


def _written_path(path: str, folder: Path, prefixes: Mapping[str, str]) -> str:
    """A score's path as the file tells it: remapped, else relative, so that corpus and export can be moved together.

    Where these share no more than the root, it names every folder on the way down to the score: remapping hides them.
    """
    elsewhere = remapped(path, prefixes)
    if not path or elsewhere != path or is_url(path) or is_url(shown(folder)):
        return elsewhere
    return os.path.relpath(os.path.realpath(path), os.path.realpath(folder))


@contextlib.contextmanager
def _written(path: Path) -> Iterator[h5py.File]:
    """A new file that appears under its name when it is whole."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    try:
        with h5py.File(temporary, "w") as file:
            yield file
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _windows(piece: Piece, window: int) -> dict[str, np.ndarray]:
    """``p_codec`` and ``c_codec`` (P, S, N, ...) and ``s_codec`` (1, S, N, 4) of a piece; padding is zero."""
    rows = np.stack([piece.score[name] for name in S_CODEC], axis=1).astype(np.int32)
    blocks = {"p_codec": piece.performance, "s_codec": rows[None], "c_codec": piece.perceptual_notes(delta=False)}
    return {name: cut(block, window) for name, block in blocks.items()}


def _later(piece: Piece, row: int) -> np.ndarray:
    """The performances that a performance is mixed with: the real ones after it."""
    real = np.array([not told["synthetic"] for told in piece.performances])
    return row + 1 + np.flatnonzero(real[row + 1 :]) if real[row] else np.zeros(0, int)


def _write_performance(
    group: h5py.Group, blocks: Mapping[str, np.ndarray], row: int, later: np.ndarray, told: Mapping[str, str], ids: Any
) -> int:
    """The datasets of the layout; returns S."""
    variants = 1 + len(later)
    for name in ("p_codec", "c_codec"):
        mixed = mixup(blocks[name], np.full(len(later), row), later)
        rows = np.concatenate([blocks[name][row : row + 1], mixed])
        group.create_dataset(name, data=rows.reshape(-1, *rows.shape[2:]), **_PACKED)
    group.create_dataset("s_codec", data=np.tile(blocks["s_codec"][0], (variants, 1, 1)), **_PACKED)
    text = h5py.string_dtype()
    group.create_dataset("snote_id_path", data=np.array(ids * variants, object), dtype=text)
    for name, value in told.items():
        group.create_dataset(name, data=np.array([value] * (len(ids) * variants), object), dtype=text)
    return len(ids) * variants


def _write_own(group: h5py.Group, piece: Piece, row: int) -> None:
    """What the layout cannot say of a performance; with a piece's first one also its score."""
    for name in NOTE_ARRAYS:
        group.create_dataset(name, data=getattr(piece, name)[row], **_PACKED)
    end = int(piece.frames[: row + 1].sum())
    for name in FRAME_ARRAYS:
        group.create_dataset(name, data=getattr(piece, name)[end - int(piece.frames[row]) : end])
    if row == 0:
        group.create_dataset("score", data=piece.score, **_PACKED)
    names = ("corpus", "key", "work", "composer", "title", "score_digest")
    about = {"piece": {name: getattr(piece, name) for name in names}, "performance": piece.performances[row]}
    group.attrs[OWN] = json.dumps(about, sort_keys=True)


def _write_ids(folder: Path, window: int, name: str, note_id: np.ndarray) -> list[str]:
    """Write a piece's note ids, a file a window; their paths inside the folder."""
    paths = [f"snote_ids/N={window}/{name}_seg{k}.npy" for k in range(window_count(len(note_id), window))]
    for k, path in enumerate(paths):
        write_atomically(folder / path, _npy(note_id[k * window : (k + 1) * window].astype(np.str_)))
    return paths


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _file_names(pieces: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A file name for each corpus and key, none twice."""
    names = {place: f"{place[0]}_{place[1].replace('/', '__')}" for place in pieces}
    taken = Counter(names.values())
    return {
        place: name if taken[name] == 1 and len(name.encode()) < 200 else f"{place[0]}_{json_digest(place)[:20]}"
        for place, name in names.items()
    }


def _write_errors(file: h5py.File, index: int, quarantine: pl.DataFrame) -> None:
    for number, row in enumerate(quarantine.drop("traceback").iter_rows(named=True), start=index):
        group = file.create_group(f"{row['corpus']}_{number}")
        group.create_dataset("error", data=_reason(row["code"]), dtype=h5py.string_dtype())
        group.attrs[OWN] = json.dumps(row, sort_keys=True)


def _write_error_lines(folder: Path, quarantine: pl.DataFrame) -> None:
    told = quarantine.select("corpus", "piece", "performance", "code", "reason", "remedy")
    lines = [json.dumps(row | {"reason": _reason(row["code"]), "detail": row["reason"]}) for row in told.to_dicts()]
    write_atomically(folder / "errors.jsonl", "".join(f"{line}\n" for line in lines).encode())


def _reason(code: str) -> str:
    return code if code in KNOWN_REASONS else REASONS.get(code, "codec_extraction_error")
