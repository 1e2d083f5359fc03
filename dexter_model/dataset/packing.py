"""A shard: the arrays of many pieces laid end to end, so that a data set is tens of arrays and not a hundred thousand.

Arrays along the note axis hold each piece's score once; arrays along the cell axis hold its performances one after
another, a row a note; those along the frame axis their perceptual features. What the arrays do not say (names, places,
digests, failures) is in tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dexter_model.dataset import quality
from dexter_model.dataset.piece import Piece, Quarantined
from dexter_model.notes import CODEC_COLUMNS, PERCEPTUAL_FEATURES, SCORE_NOTE

Row = dict[str, Any]
CELL_ARRAYS = ("performance", "matched", "named", "keydown_articulation")
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
_NOT_ATTRIBUTES = ("corpus", "piece", "row", "named", "matched", "frames")  # of PERFORMANCES: told by the piece itself
TABLES: dict[str, dict[str, type]] = {
    "catalogue": CATALOGUE,
    "performances": PERFORMANCES,
    "quarantine": QUARANTINE,
    "sources": SOURCES,
}
# What stands in the columns that versions lack whose builders did not know them; null in others.
BEFORE = {"frame_start": 0, "frames": 0, "perceptual": "none"}


def _kind(field: str) -> np.dtype:
    """The type that a field of the score is stored in: a flag is a number."""
    kind = SCORE_NOTE[field]
    return kind if kind != np.bool_ else np.dtype(np.int8)


# The fields of the score that an array holds, a row each.
SCORE_FIELDS: dict[str, list[str]] = {}
for _field in SCORE_NOTE.names or ():
    SCORE_FIELDS.setdefault(f"score_{_kind(_field).name}", []).append(_field)


def pack(pieces: Sequence[Piece]) -> dict[str, np.ndarray]:
    """The arrays of a shard: ``note_id`` (notes, width) uint8, the score's fields by type, cell and frame arrays.

    A round trip to S3 costs as much as a hundred kilobytes, so fields of one type are the rows of one array, named by
    ``SCORE_FIELDS``.
    """
    notes = np.concatenate([np.zeros(0, SCORE_NOTE), *(piece.score for piece in pieces)])
    ids = np.char.encode(np.concatenate([np.zeros(0, "U1"), *(piece.note_id for piece in pieces)]), "utf-8")
    arrays = {"note_id": ids.view(np.uint8).reshape(len(ids), ids.dtype.itemsize)}
    arrays |= {name: np.stack([notes[field].astype(_kind(field)) for field in f]) for name, f in SCORE_FIELDS.items()}
    arrays["performance"] = _cells([p.performance for p in pieces], (0, len(CODEC_COLUMNS)), np.float32)
    arrays["matched"] = _cells([p.matched for p in pieces], (0,), np.bool_)
    arrays["named"] = _cells([p.named for p in pieces], (0,), np.bool_)
    arrays["keydown_articulation"] = _cells([p.keydown_articulation for p in pieces], (0,), np.float32)
    for name, (shape, kind) in FRAME_ARRAYS.items():
        arrays[name] = _cells([getattr(piece, name) for piece in pieces], shape, kind)
    return arrays


def _cells(blocks: Iterable[np.ndarray], empty: tuple[int, ...], kind: type) -> np.ndarray:
    """(P, n, ...) blocks end to end as (cells, ...)."""
    flat: list[np.ndarray] = [block.reshape(-1, *empty[1:]).astype(kind, copy=False) for block in blocks]
    return np.concatenate([np.zeros(empty, kind), *flat])


def opened(arrays: Mapping[str, np.ndarray], fields: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """A shard's arrays as its pieces want them, for all at once: the score's fields as ``score``, note ids as text.

    Fields of the score that the version's builder did not know are 0.

    Args:
        arrays: of ``pack``, or of a format before, which had an array ``score_<field>`` for each field.
        fields: which fields of the score are the rows of an array.
    """
    ids = np.ascontiguousarray(arrays["note_id"])
    score = np.zeros(len(ids), SCORE_NOTE)
    known = {f"score_{field}": [field] for field in SCORE_NOTE.names or ()} | dict(fields)
    for name, array in arrays.items():
        for field, values in zip(known.get(name, ()), np.atleast_2d(array), strict=False):
            if field in (SCORE_NOTE.names or ()):
                score[field] = values
    kept = {name: array for name, array in arrays.items() if not name.startswith("score_")}
    return kept | {"score": score, "note_id": _as_text(ids)}


def _as_text(utf8: np.ndarray) -> np.ndarray:
    """Texts (n,) of zero-padded rows (n, width) of UTF-8."""
    if utf8.size and utf8.max() < 128:  # a hundred times faster
        return utf8.astype(np.uint32).view(f"U{utf8.shape[1]}").reshape(len(utf8))
    return np.char.decode(utf8.view(f"S{utf8.shape[1]}").reshape(len(utf8)), "utf-8")


def unpack(arrays: Mapping[str, np.ndarray], row: Row, performances: list[Row]) -> Piece:
    """The piece of a catalogue row, from its shard's ``opened`` arrays; ``performances`` are its rows, in order.

    Perceptual features that the version's builder did not know are unknown.
    """
    n, P = row["notes"], row["performances"]
    frames = np.array([told["frames"] for told in performances], np.int32)
    heard = slice(row["frame_start"], row["frame_start"] + int(frames.sum()))
    notes = slice(row["note_start"], row["note_start"] + n)
    cells = slice(row["cell_start"], row["cell_start"] + n * P)
    blocks: dict[str, Any] = {name: arrays[name][cells] for name in CELL_ARRAYS}
    rows: dict[str, Any] = {name: arrays[name][heard] for name in FRAME_ARRAYS if name in arrays}
    return Piece(
        **{name: row[name] for name in ("corpus", "key", "work", "composer", "title", "score_digest")},
        note_id=arrays["note_id"][notes],
        score=arrays["score"][notes],
        **{name: block.reshape(P, n, *block.shape[1:]) for name, block in blocks.items()},
        performances=[
            {name: value for name, value in told.items() if name not in _NOT_ATTRIBUTES and value is not None}
            for told in performances
        ],
        frames=frames,
        **rows,
    )


def describe(pieces: Sequence[Piece], shard: str) -> dict[str, list[Row]]:
    """The rows of the catalogue and of the performances for the pieces of a shard, in the order they are packed."""
    catalogue: list[Row] = []
    performances: list[Row] = []
    note_start = cell_start = frame_start = 0
    for piece in pieces:
        P, n = piece.matched.shape
        catalogue.append(
            {
                **{name: getattr(piece, name) for name in ("corpus", "key", "work", "composer", "title")},
                "split": "",  # known when all works of the version are
                "notes": n,
                "performances": P,
                "synthetic": any(performance["synthetic"] for performance in piece.performances),
                "score_digest": piece.score_digest,
                "digest": piece.digest(),
                "shard": shard,
                "note_start": note_start,
                "cell_start": cell_start,
                "frame_start": frame_start,
            }
        )
        for index, attributes in enumerate(piece.performances):
            counts = {"named": int(piece.named[index].sum()), "matched": int(piece.matched[index].sum())}
            counts["frames"] = int(piece.frames[index])
            names = {"corpus": piece.corpus, "piece": piece.key, "row": index}
            performances.append({**names, **attributes, **counts})
        note_start += n
        cell_start += P * n
        frame_start += int(piece.frames.sum())
    return {"catalogue": catalogue, "performances": performances}


def quarantine_rows(quarantined: Iterable[Quarantined]) -> list[Row]:
    """Rows of the quarantine table."""
    return [asdict(item) for item in quarantined]
