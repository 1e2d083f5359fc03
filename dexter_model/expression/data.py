"""A split as a few flat arrays on the training device, and windows of it cut by index.

ASAP's codecs are 60 MB: kept whole on the GPU (or in memory) and gathered a batch at a time, so that a step never waits
for data. Needs numpy and torch alone; ``save`` and ``load`` carry a split to a machine that cannot open the store.

Shapes: P performances, K rows of all of them, M score rows of all pieces, B windows, N notes, R condition rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dexter_model.errors import InputError
from dexter_model.expression.condition import score_condition, score_table

# Codecs are clipped to this many standard deviations, in training and at every step of sampling. Trills and wrong
# alignments reach 80 (1 row in 1,000 lies beyond 8) and would otherwise own every squared error.
LIMIT = 8.0


class AlignedPiece(Protocol):
    """What is used of a piece of the data set: n notes, p performances."""

    @property
    def score(self) -> np.ndarray:
        """(n,) SCORE_NOTE."""

    @property
    def performance(self) -> np.ndarray:
        """(p, n, 5) codecs."""

    @property
    def matched(self) -> np.ndarray:
        """(p, n) bool: played."""


class Windows(NamedTuple):
    """A batch: z-scored codecs, score condition, which rows are notes, which of them were played."""

    x0_BN5: Tensor
    condition_BNR: Tensor
    mask_BN: Tensor
    matched_BN: Tensor


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each codec column, over the matched rows of the training split."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, codec: Tensor) -> Tensor:
        """(..., 5) codecs as z-scores."""
        return (codec - codec.new_tensor(self.mean)) / codec.new_tensor(self.std)

    def restore(self, z_scores: Tensor) -> Tensor:
        """(..., 5) z-scores as codecs; inverse of ``normalise``."""
        return z_scores * z_scores.new_tensor(self.std) + z_scores.new_tensor(self.mean)


@dataclass(frozen=True, eq=False)
class ResidentNotes:
    """Flat arrays of a split; performance p has ``length[p]`` rows from ``codec_start[p]``, ``score_start[p]`` on."""

    score: Tensor  # (M, R) float32, unscaled condition columns
    codec: Tensor  # (K, 5) float32
    matched: Tensor  # (K,) bool
    score_start: Tensor  # (P,) int64
    codec_start: Tensor  # (P,) int64
    length: Tensor  # (P,) int64

    @classmethod
    def from_pieces(cls, pieces: Iterable[AlignedPiece], condition: str = "published") -> ResidentNotes:
        """Lay the performances of pieces end to end, in the order given."""
        scores: list[np.ndarray] = []
        codecs: list[np.ndarray] = []
        matched: list[np.ndarray] = []
        lengths: list[int] = []
        score_starts: list[int] = []
        notes = 0
        for piece in pieces:
            scores.append(score_table(piece.score, condition))
            codecs.extend(np.asarray(piece.performance, np.float32))
            matched.extend(np.asarray(piece.matched, bool))
            lengths += [len(piece.score)] * len(piece.performance)
            score_starts += [notes] * len(piece.performance)
            notes += len(piece.score)
        if not lengths:
            raise InputError("split", "holds no performance", "Build a data set of more pieces", "empty_split")
        arrays = (np.concatenate(scores), np.concatenate(codecs), np.concatenate(matched))
        starts = (np.array(score_starts), np.cumsum(lengths) - lengths, np.array(lengths))
        return cls(*map(torch.from_numpy, arrays), *(torch.from_numpy(each.astype(np.int64)) for each in starts))

    @classmethod
    def load(cls, path: str | Path) -> ResidentNotes:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: torch.from_numpy(arrays[field.name]) for field in fields(cls)})

    def save(self, path: str | Path) -> None:
        """Write the arrays as a compressed ``.npz``."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name).cpu().numpy() for field in fields(self)}
        np.savez_compressed(path, **arrays)

    def to(self, device: torch.device | str) -> ResidentNotes:
        """The same arrays on another device."""
        return ResidentNotes(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def statistics(self) -> Statistics:
        """Mean and standard deviation of the codec over matched rows, in float64; a constant column keeps its scale."""
        rows = self.codec[self.matched].double()
        std = rows.std(dim=0, correction=0)
        std = torch.where(std > 1e-8, std, torch.ones_like(std))
        return Statistics(tuple(rows.mean(dim=0).tolist()), tuple(std.tolist()))

    def normalised(self, statistics: Statistics) -> ResidentNotes:
        """The same notes with z-scored codecs, clipped to ``LIMIT``."""
        return replace(self, codec=statistics.normalise(self.codec).clamp(-LIMIT, LIMIT))

    def cut(self, performance_B: Tensor, start_B: Tensor, window: int) -> Windows:
        """Windows of N notes from the given first notes; past a performance's end rows are zero and masked."""
        row_BN = start_B[:, None] + torch.arange(window, device=start_B.device)
        last_B1 = self.length[performance_B][:, None] - 1
        mask_BN, row_BN = row_BN <= last_B1, torch.minimum(row_BN, last_B1)
        codec_row = self.codec_start[performance_B][:, None] + row_BN
        table_BNR = self.score[self.score_start[performance_B][:, None] + row_BN]
        return Windows(
            x0_BN5=self.codec[codec_row] * mask_BN[..., None],
            condition_BNR=score_condition(table_BNR, mask_BN),
            mask_BN=mask_BN,
            matched_BN=self.matched[codec_row] & mask_BN,
        )

    def draw(self, batch: int, window: int, generator: torch.Generator) -> Windows:
        """A batch of random windows: each place of a window in each performance is equally likely.

        A performance shorter than a window has one place, its beginning; windows are full otherwise, as in rendering.
        """
        places_P = (self.length - window + 1).clamp_min(1)
        ends_P = places_P.cumsum(0)
        uniform_B = torch.rand(batch, generator=generator, device=self.codec.device, dtype=torch.float64)
        place_B = (uniform_B * ends_P[-1]).long().minimum(ends_P[-1] - 1)
        performance_B = torch.searchsorted(ends_P, place_B, right=True)
        return self.cut(performance_B, place_B - (ends_P - places_P)[performance_B], window)

    def tiles(self, window: int, limit: int) -> Windows:
        """At most ``limit`` windows that lie side by side, spread evenly over the split: a fixed validation batch."""
        count_P = (self.length + window - 1) // window
        performance = torch.repeat_interleave(torch.arange(len(count_P), device=count_P.device), count_P)
        tile = torch.arange(len(performance), device=count_P.device) - (count_P.cumsum(0) - count_P)[performance]
        kept = torch.arange(min(limit, len(tile)), device=tile.device) * len(tile) // min(limit, len(tile))
        return self.cut(performance[kept], tile[kept] * window, window)
