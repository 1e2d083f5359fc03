"""A split as a few flat arrays on the training device, and windows of it cut by index.

ASAP's codecs are 60 MB: kept whole on the GPU (or in memory) and gathered a batch at a time, so that a step never waits
for data. Mixed and paired windows are index expressions of the same arrays. Needs numpy and torch alone; ``save`` and
``load`` carry a split to a machine that cannot open the store.

Shapes: P performances, K rows of all of them, M score rows of all pieces, B windows, N notes, R condition rows, S of
them of the score, 5 codec columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dexter_model.errors import InputError
from dexter_model.expression.condition import score_condition, score_table
from dexter_model.expression.config import PERCEPTUAL_LIMIT, DenoiserConfig, ExpressionConfig

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion

# Codecs that a model is shown or learns are clipped to so many standard deviations: trills and wrong alignments reach
# 80 (1 row in 1,000 lies beyond 8) and would otherwise own every squared error. On the robust scale, whose unit is
# smaller, half of it will do: of timing, 0.13 s off the chord, where arpeggios end. What a model says at a step of
# sampling is clipped at LIMIT on either scale, as it was when the default model was measured.
LIMIT = 8.0
ROBUST_LIMIT = 4.0
OUTLIERS = 0.05  # share at either end of a column that the robust scale takes as the value that bounds it
WRITTEN = ("onset_beat", "duration_beat", "pitch")
_SHORTEST = 0.01  # s a beat; below it a logarithm says nothing


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

    def perceptual_notes(self, *, delta: bool) -> np.ndarray:
        """(p, n, 7) perceptual features at each note, NaN where not known; ``delta``: less those of the deadpan."""


class Windows(NamedTuple):
    """A batch: z-scored codecs, condition, which rows are notes, which of them were played.

    ``partner_BN5`` is another performance of the same notes, where windows were drawn in pairs.
    """

    x0_BN5: Tensor
    condition_BNR: Tensor
    mask_BN: Tensor
    matched_BN: Tensor
    partner_BN5: Tensor | None = None


@dataclass(frozen=True)
class Statistics:
    """What makes codecs and perceptual features numbers of unit size, from the training split alone.

    ``mean`` and ``std`` of each codec column over matched rows. With ``pace`` the beat period counts as log2 of its
    ratio to the performance's own, its *level* (mean log2 s); ``pace`` is how the level follows from the score: the
    usual one of unmarked scores, and the line (intercept, slope) over log2 of the marked beat period.
    ``perceptual_mean`` and ``perceptual_std`` of each perceptual row, empty when there are none.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pace: tuple[float, ...] = ()
    perceptual_mean: tuple[float, ...] = ()
    perceptual_std: tuple[float, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Statistics:
        """The statistics of a checkpoint."""
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**given)

    @property
    def limit(self) -> float:
        """How far from 0 z-scores of codecs are let, as targets and as performances to start from."""
        return ROBUST_LIMIT if self.pace else LIMIT

    def normalise(self, codec: Tensor, level: Tensor | float = 0.0) -> Tensor:
        """(..., 5) codecs as z-scores; ``level`` is that of the performance, or (..., 1) of each row's."""
        codec = _relative(codec, level) if self.pace else codec
        return (codec - codec.new_tensor(self.mean)) / codec.new_tensor(self.std)

    def restore(self, z_scores: Tensor, level: Tensor | float = 0.0) -> Tensor:
        """(..., 5) z-scores as codecs; inverse of ``normalise``."""
        codec = z_scores * z_scores.new_tensor(self.std) + z_scores.new_tensor(self.mean)
        return torch.cat([(codec[..., :1] + level).exp2(), codec[..., 1:]], dim=-1) if self.pace else codec

    def expected_level(self, marked: Tensor) -> Tensor:
        """Levels to play at, of scores marked with these beat periods (log2 s, NaN where not; ``marked_period``)."""
        if not self.pace:
            return torch.zeros_like(marked)
        unmarked, intercept, slope = self.pace
        return torch.where(marked.isnan(), unmarked, intercept + slope * marked)

    def normalise_perceptual(self, rows: Tensor) -> Tensor:
        """(..., 7) perceptual rows as z-scores within 3 standard deviations; NaN stays NaN."""
        z_scores = (rows - rows.new_tensor(self.perceptual_mean)) / rows.new_tensor(self.perceptual_std)
        return z_scores.clamp(-PERCEPTUAL_LIMIT, PERCEPTUAL_LIMIT)


def marked_period(notes: np.ndarray) -> float:
    """log2 s a beat as most notes of a score (SCORE_NOTE) are marked; NaN when they are not."""
    known = notes["tempo"] > 0
    return float(np.log2(60 / np.median(notes["tempo"][known]))) if 2 * known.sum() > len(notes) else math.nan


def own_level(codec: Tensor) -> float:
    """Mean log2 beat period of a performance's played rows (n, 5)."""
    return float(codec[:, 0].clamp_min(_SHORTEST).log2().mean()) if len(codec) else 0.0


def _relative(codec: Tensor, level: Tensor | float) -> Tensor:
    return torch.cat([codec[..., :1].clamp_min(_SHORTEST).log2() - level, codec[..., 1:]], dim=-1)


@dataclass(frozen=True, eq=False)
class ResidentNotes:
    """Flat arrays of a split; performance p has ``length[p]`` rows from ``codec_start[p]``, ``score_start[p]`` on.

    Performances of a piece lie side by side: those of p's piece are ``peers[p]`` from ``first_peer[p]`` on.
    """

    score: Tensor  # (M, S) float32, score rows of whole pieces
    written: Tensor  # (M, 3) float32, WRITTEN: what codecs are decoded and drawn by
    codec: Tensor  # (K, 5) float32
    matched: Tensor  # (K,) bool
    perceptual: Tensor  # (K, 7) float32, NaN where not known; (K, 0) when the model has none
    score_start: Tensor  # (P,) int64
    codec_start: Tensor  # (P,) int64
    length: Tensor  # (P,) int64
    first_peer: Tensor  # (P,) int64
    peers: Tensor  # (P,) int64
    level: Tensor  # (P,) float32, mean log2 beat period of the played rows
    marked: Tensor  # (P,) float32, log2 of the beat period that the score asks for, NaN where it does not
    condition: str = "published"  # which score rows

    @classmethod
    def from_pieces(cls, pieces: Iterable[AlignedPiece], config: DenoiserConfig | None = None) -> ResidentNotes:
        """Lay the performances of pieces end to end, in the order given, with the rows that a model wants.

        Raises:
            InputError: there is no performance (``empty_split``).
        """
        config = config or DenoiserConfig()
        blocks: dict[str, list[np.ndarray]] = {}
        sizes: list[tuple[int, int]] = []  # performances and notes of each piece
        for piece in pieces:
            sizes.append(piece.matched.shape)
            for name, block in _blocks(piece, config).items():
                blocks.setdefault(name, []).append(block)
        if not any(count for count, _ in sizes):
            raise InputError("split", "holds no performance", "Build a data set of more pieces", "empty_split")
        count, notes = np.array(sizes, np.int64).T
        length = np.repeat(notes, count)
        arrays = {name: np.concatenate(each) for name, each in blocks.items()} | {
            "score_start": np.repeat(np.cumsum(notes) - notes, count),
            "codec_start": np.cumsum(length) - length,
            "length": length,
            "first_peer": np.repeat(np.cumsum(count) - count, count),
            "peers": np.repeat(count, count),
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return cls(**tensors, condition=config.condition)

    @classmethod
    def load(cls, path: str | Path) -> ResidentNotes:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {name: torch.from_numpy(arrays[name]) for name in _tensor_names()}
            return cls(**tensors, condition=str(arrays["condition"]))

    def save(self, path: str | Path) -> None:
        """Write the arrays as a compressed ``.npz``."""
        arrays: dict[str, Any] = {name: getattr(self, name).cpu().numpy() for name in _tensor_names()}
        np.savez_compressed(path, **arrays, condition=np.array(self.condition))

    def to(self, device: torch.device | str) -> ResidentNotes:
        """The same arrays on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _tensor_names()})

    def statistics(self, scale: str = "published") -> Statistics:
        """Mean and standard deviation of codec columns and perceptual rows, in float64; constants keep their scale.

        ``robust`` takes the beat period in log2 of its ratio to the performance's level and makes expression the unit:
        the standard deviation within performances, of values moved to the 5 % and 95 % quantiles. Pieces differ in
        tempo by more than pianists vary it, and a few wrong alignments stretch timing's scale tenfold: both would leave
        less of what is heard than of the noise that sampling leaves, and a tempo that wanders.
        """
        robust = scale == "robust"
        codec = (_relative(self.codec, self._row_levels()) if robust else self.codec).double()
        mean, std = _moments(codec[self.matched])
        if robust:
            mean, std = _moments(_bounded(codec[self.matched]))[0], _moments(_bounded(self._deviations(codec)))[1]
        known = self.perceptual[self.matched & ~self.perceptual.isnan().any(dim=1)].double()
        if self.perceptual.shape[1] and not len(known):
            reason, remedy = "has no perceptual features", "Build it with --perceptual, or train without them"
            raise InputError("data set", reason, remedy, "no_perceptual")
        return Statistics(mean, std, self._pace() if robust else (), *(_moments(known) if known.numel() else ()))

    def _row_levels(self) -> Tensor:
        """(K, 1)."""
        return torch.repeat_interleave(self.level, self.length)[:, None]

    def _pace(self) -> tuple[float, float, float]:
        """Level of unmarked scores, and the line of the marked ones' over log2 of the marked beat period.

        Each piece counts alike. Where too few are marked for a line, the mark is taken at its word.
        """
        level, marked, weight = (each.double().numpy() for each in (self.level, self.marked, 1.0 / self.peers))
        known = np.isfinite(marked)
        alike = np.average(level[~known], weights=weight[~known]) if (~known).any() else level.mean()
        if len(np.unique(marked[known])) < 3:
            return float(alike), 0.0, 1.0
        slope, intercept = np.polyfit(marked[known], level[known], 1, w=np.sqrt(weight[known]))
        return float(alike), float(intercept), float(slope)

    def _deviations(self, codec: Tensor) -> Tensor:
        """Matched rows less the mean of their performance."""
        performance_K = torch.repeat_interleave(torch.arange(len(self.length)), self.length)[self.matched]
        count_P = performance_K.bincount(minlength=len(self.length)).clamp_min(1)
        sums_P5 = codec.new_zeros(len(self.length), codec.shape[1]).index_add(0, performance_K, codec[self.matched])
        return codec[self.matched] - (sums_P5 / count_P[:, None])[performance_K]

    def normalised(self, statistics: Statistics) -> ResidentNotes:
        """The same notes with z-scored codecs, clipped to the limit of their scale, and z-scored perceptual rows."""
        codec = statistics.normalise(self.codec, self._row_levels()).clamp(-statistics.limit, statistics.limit)
        heard = statistics.normalise_perceptual(self.perceptual) if self.perceptual.shape[1] else self.perceptual
        return replace(self, codec=codec, perceptual=heard)

    def paired(self) -> ResidentNotes:
        """The performances that have another one of their piece.

        Raises:
            InputError: there is none (``no_pairs``).
        """
        if not bool((self.peers > 1).any()):
            raise InputError("split", "no piece has two performances", "Train on a corpus that has", "no_pairs")
        return replace(self, length=torch.where(self.peers > 1, self.length, 0))

    def cut(self, performance_B: Tensor, start_B: Tensor, window: int) -> Windows:
        """Windows of N notes from the given first notes; past a performance's end rows are zero and masked."""
        row_BN = start_B[:, None] + torch.arange(window, device=start_B.device)
        last_B1 = self.length[performance_B][:, None] - 1
        mask_BN, row_BN = row_BN <= last_B1, torch.minimum(row_BN, last_B1)
        codec_row = self.codec_start[performance_B][:, None] + row_BN
        table_BNS = self.score[self.score_start[performance_B][:, None] + row_BN]
        score_BNS = score_condition(table_BNS, mask_BN, self.condition)
        heard = self.perceptual[codec_row].masked_fill(~mask_BN[..., None], 0.0)
        return Windows(
            x0_BN5=self.codec[codec_row] * mask_BN[..., None],
            condition_BNR=torch.cat([score_BNS, heard], dim=-1),
            mask_BN=mask_BN,
            matched_BN=self.matched[codec_row] & mask_BN,
        )

    def draw(self, batch: int, window: int, generator: torch.Generator, mixup: float = 0.0) -> Windows:
        """A batch of random windows: each place of a window in each performance is equally likely.

        A performance shorter than a window has one place, its beginning; windows are full otherwise, as in rendering.
        ``mixup`` is the share of windows that are the mean of two performances of their piece.
        """
        performance_B, start_B = self._places(batch, window, generator)
        windows = self.cut(performance_B, start_B, window)
        if not mixup:
            return windows
        other = self.cut(self._partners(performance_B, generator), start_B, window)
        draws = torch.rand(batch, generator=generator, device=start_B.device)
        mixed_B11 = ((draws < mixup) & (self.peers[performance_B] > 1))[:, None, None]
        return windows._replace(
            x0_BN5=torch.where(mixed_B11, (windows.x0_BN5 + other.x0_BN5) / 2, windows.x0_BN5),
            condition_BNR=torch.where(
                mixed_B11, (windows.condition_BNR + other.condition_BNR) / 2, windows.condition_BNR
            ),
            matched_BN=torch.where(mixed_B11[..., 0], windows.matched_BN & other.matched_BN, windows.matched_BN),
        )

    def draw_pairs(self, batch: int, window: int, generator: torch.Generator) -> Windows:
        """Random windows of ``paired`` notes, each beside another performance of them."""
        return self.cut_pairs(*self._places(batch, window, generator), window, generator)

    def cut_pairs(self, performance_B: Tensor, start_B: Tensor, window: int, generator: torch.Generator) -> Windows:
        """Windows with any other performance of each as ``partner_BN5``.

        Rows count as played where both play them; perceptual rows are differences to the partner's.
        """
        windows = self.cut(performance_B, start_B, window)
        partner = self.cut(self._partners(performance_B, generator), start_B, window)
        condition = windows.condition_BNR.clone()
        condition[..., self.score.shape[1] :] -= partner.condition_BNR[..., self.score.shape[1] :]
        matched = windows.matched_BN & partner.matched_BN
        return windows._replace(condition_BNR=condition, matched_BN=matched, partner_BN5=partner.x0_BN5)

    def _places(self, batch: int, window: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Performances and first notes of random windows."""
        places_P = (self.length - window + 1).clamp_min(1) * (self.length > 0)
        ends_P = places_P.cumsum(0)
        uniform_B = torch.rand(batch, generator=generator, device=self.codec.device, dtype=torch.float64)
        place_B = (uniform_B * ends_P[-1]).long().minimum(ends_P[-1] - 1)
        performance_B = torch.searchsorted(ends_P, place_B, right=True)
        return performance_B, place_B - (ends_P - places_P)[performance_B]

    def _partners(self, performance_B: Tensor, generator: torch.Generator) -> Tensor:
        """Another performance of the same piece for each; itself where there is none."""
        uniform_B = torch.rand(len(performance_B), generator=generator, device=self.codec.device, dtype=torch.float64)
        first, peers = self.first_peer[performance_B], self.peers[performance_B]
        further = 1 + (uniform_B * (peers - 1)).long().minimum((peers - 2).clamp_min(0))
        return first + (performance_B - first + further) % peers

    def tiles(self, window: int, limit: int) -> Windows:
        """The windows of ``tile_places``: a fixed validation batch."""
        return self.cut(*self.tile_places(window, limit), window)

    def tile_places(self, window: int, limit: int) -> tuple[Tensor, Tensor]:
        """Performances and first notes of at most ``limit`` windows that lie side by side, spread over the split."""
        count_P = (self.length + window - 1) // window
        performance = torch.repeat_interleave(torch.arange(len(count_P), device=count_P.device), count_P)
        tile = torch.arange(len(performance), device=count_P.device) - (count_P.cumsum(0) - count_P)[performance]
        kept = torch.arange(min(limit, len(tile)), device=tile.device) * len(tile) // min(limit, len(tile))
        return performance[kept], tile[kept] * window


def _tensor_names() -> list[str]:
    return [field.name for field in fields(ResidentNotes) if field.name != "condition"]


def _blocks(piece: AlignedPiece, config: DenoiserConfig) -> dict[str, np.ndarray]:
    """What a piece adds to the arrays of ``ResidentNotes``: rows of its score, rows and figures of its performances."""
    codec, matched = np.asarray(piece.performance, np.float32), np.asarray(piece.matched, bool)
    heard = np.zeros((*matched.shape, 0), np.float32)
    if config.perceptual != "none":
        heard = np.asarray(piece.perceptual_notes(delta=config.perceptual == "delta"), np.float32)
    levels = [own_level(torch.from_numpy(rows[played])) for rows, played in zip(codec, matched, strict=True)]
    return {
        "score": score_table(piece.score, config.condition),
        "written": np.stack([piece.score[name].astype(np.float32) for name in WRITTEN], axis=1),
        "codec": codec.reshape(matched.size, codec.shape[-1]),
        "matched": matched.reshape(matched.size),
        "perceptual": heard.reshape(matched.size, heard.shape[-1]),
        "level": np.array(levels, np.float32),
        "marked": np.full(len(codec), marked_period(piece.score), np.float32),
    }


def _moments(rows: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column; that of a constant is 1."""
    std = rows.std(dim=0, correction=0)
    std = torch.where(std > 1e-8, std, torch.ones_like(std))
    return tuple(rows.mean(dim=0).tolist()), tuple(std.tolist())


def _bounded(rows: Tensor) -> Tensor:
    """The rows with the outermost values of each column moved to its quantiles."""
    low, high = np.quantile(rows.numpy(), (OUTLIERS, 1.0 - OUTLIERS), axis=0)
    return rows.clamp(torch.from_numpy(low), torch.from_numpy(high))


def refuse_unfit(opened: DatasetVersion, config: ExpressionConfig) -> None:
    """Refuse a data set that the model cannot learn from.

    Raises:
        InputError: it holds no codecs (``other_encoding``), or not the perceptual features that the model is to see
            (``dataset.perceptual.refuse_unlearnable``).
    """
    from dexter_model.dataset.perceptual import refuse_unlearnable

    opened.pieces()
    refuse_unlearnable(opened, config.denoiser.perceptual)


def resident_split(opened: DatasetVersion, split: str, config: ExpressionConfig) -> ResidentNotes | None:
    """A split of a data set as resident arrays; None when it has no pieces."""
    empty = opened.catalogue.filter(opened.catalogue["split"] == split).is_empty()
    return None if empty else ResidentNotes.from_pieces(opened.pieces(split), config.denoiser)


Resident = ResidentNotes
