"""A shard: the arrays of many pieces laid end to end, so that a data set is tens of arrays and not a hundred thousand.

Arrays along the note axis hold each piece's score once; arrays along the cell axis hold its performances one after
another, a row a note; those along the frame axis their perceptual features. What the arrays do not say (names, places,
digests, failures) is in tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, overload

import numpy as np
import polars as pl
import zarr
from zarr.codecs import BloscCodec

from dexter_model.dataset import quality
from dexter_model.dataset.piece import Piece, Quarantined
from dexter_model.dataset.recordings import Recording
from dexter_model.notes import CODEC_COLUMNS, PERCEPTUAL_FEATURES, SCORE_NOTE

Row = dict[str, Any]
FRAME_ARRAYS: dict[str, tuple[tuple[int, ...], type]] = {
    "frame_time": ((0,), np.float64),
    "perceptual": ((0, len(PERCEPTUAL_FEATURES)), np.float32),
    "perceptual_reference": ((0, len(PERCEPTUAL_FEATURES)), np.float32),
}
CATALOGUE: dict[str, type] = {
    "corpus": str,
    "key": str,
    "work": str,
    "composer": str,
    "title": str,
    "split": str,
    "assigned": str,  # the split that the corpus's own books give it; empty where they do not
    "notes": int,
    "performances": int,
    "synthetic": bool,  # whether any performance is
    "score_digest": str,
    "digest": str,  # of every array and attribute of the piece
    "shard": str,
    "note_start": int,
    "cell_start": int,
    "frame_start": int,
}
PERFORMANCES: dict[str, type] = {
    "corpus": str,
    "piece": str,
    "row": int,  # place on the piece's performance axis
    "key": str,
    "performer": str,
    "synthetic": bool,
    "named": int,
    "matched": int,
    "unknown_ids": int,
    "tempo_outlier": bool,
    "mean_tempo": float,
    "perceptual": str,  # source of the perceptual features
    "frames": int,  # how many there are
    **quality.columns(),
    "performance_digest": str,
    "alignment_digest": str,
}
QUARANTINE: dict[str, type] = {name: str for name in Quarantined.__dataclass_fields__}
# Of every piece that was looked at, failed ones too.
SOURCES: dict[str, type] = {"corpus": str, "key": str, "result": str, "fingerprint": str}
NOT_ATTRIBUTES = ("corpus", "piece", "row", "named", "matched", "frames")  # of PERFORMANCES: told by the piece itself
TABLES: dict[str, dict[str, type]] = {
    "catalogue": CATALOGUE,
    "performances": PERFORMANCES,
    "quarantine": QUARANTINE,
    "sources": SOURCES,
}
# What stands in the columns that versions lack whose builders did not know them; null in others.
BEFORE = {"assigned": "", "frame_start": 0, "frames": 0, "perceptual": "none"}


def pack(pieces: Sequence[Piece] | Sequence[Recording]) -> dict[str, np.ndarray]:
    """The arrays of a shard: of codecs ``_pack_codecs``; of recordings their notes end to end, as records."""
    recordings = [piece for piece in pieces if isinstance(piece, Recording)]
    if recordings:
        return {"recorded": np.concatenate([recording.notes for recording in recordings])}
    return _pack_codecs([piece for piece in pieces if isinstance(piece, Piece)])


def _pack_codecs(pieces: Sequence[Piece]) -> dict[str, np.ndarray]:
    """``note_id`` (notes, width) uint8, ``score`` (notes,) records, cell and frame arrays.

    A round trip to S3 costs as much as a hundred kilobytes: the score is one array, and frames without rows are none.
    """
    ids = np.char.encode(np.concatenate([np.zeros(0, "U1"), *(piece.note_id for piece in pieces)]), "utf-8")
    arrays = {"note_id": ids.view(np.uint8).reshape(len(ids), ids.dtype.itemsize)}
    arrays["score"] = np.concatenate([np.zeros(0, SCORE_NOTE), *(piece.score for piece in pieces)])
    arrays["performance"] = _cells([p.performance for p in pieces], (0, len(CODEC_COLUMNS)), np.float32)
    arrays["matched"] = _cells([p.matched for p in pieces], (0,), np.bool_)
    arrays["named"] = _cells([p.named for p in pieces], (0,), np.bool_)
    arrays["keydown_articulation"] = _cells([p.keydown_articulation for p in pieces], (0,), np.float32)
    frames = {name: [getattr(piece, name) for piece in pieces] for name in FRAME_ARRAYS}
    arrays |= {name: _cells(rows, *FRAME_ARRAYS[name]) for name, rows in frames.items() if any(map(len, rows))}
    return arrays


def write_array(group: zarr.Group, name: str, array: np.ndarray) -> None:
    """Write an array of a shard as one chunk; records as bytes, shuffled so that those of a field lie together."""
    chunks = tuple(max(1, length) for length in array.shape)
    if array.dtype.names is None:
        group.create_array(name, data=array, chunks=chunks)
        return
    width = array.dtype.itemsize
    data = np.ascontiguousarray(array).view(np.uint8).reshape(len(array), width)
    shuffled = BloscCodec(typesize=width, cname="zstd", clevel=3, shuffle="shuffle")
    told: dict[str, Any] = {"record": [[field, array.dtype[field].str] for field in array.dtype.names]}
    group.create_array(name, data=data, chunks=(*chunks, width), compressors=shuffled, attributes=told)


def _cells(blocks: Iterable[np.ndarray], empty: tuple[int, ...], kind: type) -> np.ndarray:
    """(P, n, ...) blocks end to end as (cells, ...)."""
    flat: list[np.ndarray] = [block.reshape(-1, *empty[1:]).astype(kind, copy=False) for block in blocks]
    return np.concatenate([np.zeros(empty, kind), *flat])


def opened(arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """A shard's arrays as its pieces want them, for all at once: records as such, note ids as text.

    Args:
        arrays: as stored.
        attributes: of the arrays.
    """
    if "recorded" in arrays:
        return {"recorded": _records(arrays["recorded"], attributes["recorded"])}
    ids = np.ascontiguousarray(arrays["note_id"])
    score = {name: array for name, array in arrays.items() if name.startswith("score")}
    kept = {name: array for name, array in arrays.items() if name not in score}
    return kept | {"score": _score(len(ids), score, attributes), "note_id": _as_text(ids)}


def _score(n: int, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """The score (n,); fields that the version's builder did not know are 0. Formats 1 and 2 had an array a field."""
    if "score" in arrays:
        records = _records(arrays["score"], attributes["score"])
        if records.dtype == SCORE_NOTE:
            return records
        fields = {field: records[field] for field in records.dtype.names or ()}
    else:
        fields = {name.removeprefix("score_"): array for name, array in arrays.items()}
    score = np.zeros(n, SCORE_NOTE)
    for field in fields.keys() & set(SCORE_NOTE.names or ()):
        score[field] = fields[field]
    return score


def _records(stored: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Records (n,) of their bytes (n, width)."""
    kind = np.dtype([(field, type_) for field, type_ in attributes["record"]])
    return np.ascontiguousarray(stored).view(kind).reshape(len(stored))


def _as_text(utf8: np.ndarray) -> np.ndarray:
    """Texts (n,) of zero-padded rows (n, width) of UTF-8."""
    if utf8.size and utf8.max() < 128:  # a hundred times faster
        return utf8.astype(np.uint32).view(f"U{utf8.shape[1]}").reshape(len(utf8))
    return np.char.decode(utf8.view(f"S{utf8.shape[1]}").reshape(len(utf8)), "utf-8")


class Performances(Sequence[Row]):
    """What a piece says of its performances, taken from the version's table when it is asked for.

    Args:
        table: the performances of the version, without what the piece itself tells.
        rows: those of the piece.
    """

    def __init__(self, table: pl.DataFrame, rows: slice) -> None:
        self._table, self._slice = table, rows

    @cached_property
    def _rows(self) -> list[Row]:
        rows = self._table[self._slice].iter_rows(named=True)
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    def __len__(self) -> int:
        return self._slice.stop - self._slice.start

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self._rows[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


def unpack(
    arrays: Mapping[str, np.ndarray], row: Row, performances: Performances, frames: np.ndarray
) -> Piece | Recording:
    """The piece or the recording of a catalogue row, from its shard's ``opened`` arrays.

    Args:
        arrays: of the shard.
        row: of the piece.
        performances: of the piece.
        frames: (P,) how many each of these has.

    Perceptual features that the version's builder did not know are unknown.
    """
    n, P = row["notes"], row["performances"]
    if "recorded" in arrays:
        names = (row["corpus"], row["key"], row["work"], row["composer"], row["title"])
        start = row["note_start"]
        return Recording(*names, arrays["recorded"][start : start + n], performances, row["assigned"])
    notes = slice(row["note_start"], row["note_start"] + n)
    cells = slice(row["cell_start"], row["cell_start"] + n * P)
    heard = slice(row["frame_start"], row["frame_start"] + int(frames.sum()))
    return Piece(
        row["corpus"],
        row["key"],
        row["work"],
        row["composer"],
        row["title"],
        row["score_digest"],
        arrays["note_id"][notes],
        arrays["score"][notes],
        arrays["performance"][cells].reshape(P, n, len(CODEC_COLUMNS)),
        arrays["matched"][cells].reshape(P, n),
        arrays["named"][cells].reshape(P, n),
        arrays["keydown_articulation"][cells].reshape(P, n),
        performances,
        frames,
        **{name: arrays[name][heard] for name in FRAME_ARRAYS if name in arrays},
        assigned=row["assigned"],
    )


def describe(pieces: Sequence[Piece] | Sequence[Recording], shard: str) -> dict[str, list[Row]]:
    """The rows of the catalogue and of the performances for the pieces of a shard, in the order they are packed."""
    catalogue: list[Row] = []
    performances: list[Row] = []
    start = np.zeros(3, int)  # along the axes of notes, cells and frames
    for piece in pieces:
        names = {name: getattr(piece, name) for name in ("corpus", "key", "work", "composer", "title", "score_digest")}
        catalogue.append(
            {
                **names,
                "split": "",  # known when all works of the version are
                "assigned": piece.assigned,
                "notes": piece.size[0],
                "performances": len(piece.performances),
                "synthetic": any(performance["synthetic"] for performance in piece.performances),
                "digest": piece.digest(),
                "shard": shard,
                **dict(zip(("note_start", "cell_start", "frame_start"), map(int, start), strict=True)),
            }
        )
        for index, (attributes, counts) in enumerate(zip(piece.performances, piece.counts(), strict=True)):
            performances.append({"corpus": piece.corpus, "piece": piece.key, "row": index, **attributes, **counts})
        start += piece.size
    return {"catalogue": catalogue, "performances": performances}


def quarantine_rows(quarantined: Iterable[Quarantined]) -> list[Row]:
    """Rows of the quarantine table."""
    return [asdict(item) for item in quarantined]
