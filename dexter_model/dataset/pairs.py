"""Pairs of performances of the same notes: ordered ones for transfer training, unordered ones to mix.

In each window of a piece with m performances there are m (m - 1) ordered pairs. All pairs of a data set are numbered
through, and a number becomes its pair by arithmetic alone, so that two million take a second, K of them are drawn
without making the others, and a list of pairs is three arrays of integers.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from dexter_model.dataset.windows import window_count
from dexter_model.places import join, write
from dexter_model.ragged import members

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion

PAIRED, UNPAIRED = "paired.parquet", "unpaired.parquet"


class Pairs(NamedTuple):
    """Pairs (k,) int64: two performances, and the note where their window begins."""

    a: np.ndarray
    b: np.ndarray
    start: np.ndarray


@dataclass(frozen=True, eq=False)
class PairIndex:
    """All pairs of a set of performances, numbered from 0: piece by piece, window by window.

    Attributes:
        performance: (R,) the performances, those of a piece side by side.
        first: (G,) where in ``performance`` those of each piece begin.
        members: (G,) how many they are.
        windows: (G,) windows of each piece.
        hop: notes from window to window.
        ordered: whether (a, b) and (b, a) are two pairs.
    """

    performance: np.ndarray
    first: np.ndarray
    members: np.ndarray
    windows: np.ndarray
    hop: int
    ordered: bool

    def __len__(self) -> int:
        return int((self._in_window * self.windows).sum())

    @property
    def _in_window(self) -> np.ndarray:
        """Pairs (G,) in a window of each piece."""
        return self.members * (self.members - 1) // (1 if self.ordered else 2)

    def at(self, number: np.ndarray) -> Pairs:
        """The pairs with these numbers (k,), each less than ``len``."""
        in_window = self._in_window
        ends = np.cumsum(in_window * self.windows)
        piece = np.searchsorted(ends, number, side="right")
        window, place = np.divmod(number - (ends - in_window * self.windows)[piece], in_window[piece])
        if self.ordered:
            a, b = np.divmod(place, self.members[piece] - 1)
            b += b >= a
        else:  # (1, 0), (2, 0), (2, 1), (3, 0), ...
            a = (1 + np.sqrt(8 * place + 1).astype(np.int64)) // 2
            a, b = place - a * (a - 1) // 2, a
        return Pairs(
            self.performance[self.first[piece] + a], self.performance[self.first[piece] + b], window * self.hop
        )

    def all(self) -> Pairs:
        """Every pair, in order."""
        return self.at(np.arange(len(self)))

    def draw(self, count: int, seed: int) -> Pairs:
        """So many different pairs by a seed, in the order of their numbers; all of them when there are no more."""
        if count >= len(self):
            return self.all()
        return self.at(np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False)))


def pair_index(
    piece: np.ndarray,
    length: np.ndarray,
    window: int,
    *,
    hop: int | None = None,
    among: np.ndarray | None = None,
    ordered: bool = True,
) -> PairIndex:
    """Number the pairs of different performances of one piece in one window.

    Args:
        piece: (P,) equal for performances of the same piece.
        length: (P,) notes of the piece.
        window: notes in a window.
        hop: notes from window to window, at most ``window``; side by side when None.
        among: (P,) which performances are to be paired; all when None.
        ordered: whether (a, b) and (b, a) are two pairs.
    """
    kept = np.arange(len(piece)) if among is None else np.flatnonzero(among)
    _, code = np.unique(piece, return_inverse=True)
    performance = kept[np.argsort(code[kept], kind="stable")]
    _, first, members = np.unique(code[performance], return_index=True, return_counts=True)
    windows = window_count(np.asarray(length, np.int64)[performance[first]], window, hop)
    return PairIndex(performance, first, members, windows, hop or window, ordered)


def alone(
    piece: np.ndarray, length: np.ndarray, window: int, *, hop: int | None = None, among: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Performances (k,) and starts (k,) of the windows that nobody else plays; arguments as for ``pair_index``."""
    index = pair_index(piece, length, window, hop=hop, among=among)
    single = index.members == 1
    windows = index.windows[single]
    owner, start = members(np.zeros_like(windows), windows)
    return index.performance[index.first[single]][owner], start * index.hop


def mixup(block: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What performances a (k,) and b (k,) of a (P, ...) block are on average; a mask holds where both do.

    An average of codecs, or of perceptual rows, is an interpretation too (unknown where either is). It is an example
    to train on, never one to test with.
    """
    if block.dtype == np.bool_:
        return block[a] & block[b]
    return (block[a] + block[b]) / 2


def pair_tables(
    version: DatasetVersion,
    window: int,
    *,
    hop: int | None = None,
    count: int | None = None,
    seed: int = 0,
    split: str | None = None,
    mixups: bool = False,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs of a data set version as index tables; synthetic performances are not paired.

    Args:
        version: the version.
        window: notes in a window.
        hop: notes from window to window, at most ``window``; side by side when None.
        count: how many pairs to draw; all when None.
        seed: decides which.
        split: which split; all of them when None.
        mixups: add those of the training split to the second table.

    Returns:
        Paired windows, and windows without a partner, with the mixups. Columns: corpus, piece, split, performance_a and
        performance_b (keys), a and b (rows of ``version.performances``), start (first note). ``b`` is null where a
        performance is alone.
    """
    pieces = version.catalogue.select("corpus", piece="key", notes="notes", split="split").with_row_index("index")
    told = version.performances.join(pieces, on=["corpus", "piece"], how="left", maintain_order="left")
    piece, length = told["index"].to_numpy(), told["notes"].to_numpy()
    real = ~told["synthetic"].to_numpy()
    here = real & (told["split"] == split).to_numpy() if split else real
    index = pair_index(piece, length, window, hop=hop, among=here)
    paired = pair_table(told, *(index.all() if count is None else index.draw(count, seed)))
    lonely, start = alone(piece, length, window, hop=hop, among=here)
    unpaired = pair_table(told, lonely, np.full(len(lonely), -1), start)
    if mixups:
        training = here & (told["split"] == "train").to_numpy()
        mixed = pair_index(piece, length, window, hop=hop, among=training, ordered=False).all()
        unpaired = pl.concat([unpaired, pair_table(told, *mixed)])
    return paired, unpaired


def pair_table(told: pl.DataFrame, a: np.ndarray, b: np.ndarray, start: np.ndarray) -> pl.DataFrame:
    """Pairs (k,) as a table; ``told`` has the corpus, piece, split and key of each performance, ``b`` -1 for nobody."""
    names = told.select(pl.col("corpus", "piece", "split", "key").cast(pl.Categorical))
    partner = pl.Series("b", b, pl.Int32)
    partner = partner.set(partner < 0, None)
    return (
        names[a]
        .rename({"key": "performance_a"})
        .with_columns(
            names["key"].gather(partner).alias("performance_b"),
            pl.Series("a", a, pl.Int32),
            partner,
            pl.Series("start", start, pl.Int32),
        )
    )


def write_pairs(folder: str | Path, paired: pl.DataFrame, unpaired: pl.DataFrame, made_from: dict[str, str]) -> None:
    """Write both tables as Parquet; ``made_from`` (version digest, window, seed) goes into the files' metadata."""
    for name, table in ((PAIRED, paired), (UNPAIRED, unpaired)):
        write_table(join(folder, name), table, made_from)


def write_table(path: str | Path, table: pl.DataFrame, made_from: dict[str, str]) -> None:
    """Write a table as Parquet, all or nothing."""
    file = io.BytesIO()
    table.write_parquet(file, metadata=made_from)
    write(path, file.getvalue())
