"""Long pieces as overlapping windows, and seamless pieces out of them again, at every step of sampling.

A denoiser sees N notes at a time. Windows are spread evenly over a piece, so that each of them is full (only a piece
shorter than N is padded) and neighbours share at least ``overlap`` notes. In the middle of what two neighbours share,
where both have the most context, a ramp of ``overlap`` notes fades one out and the other in: the weights of the windows
at a note are differences of one rising ramp a seam, so they sum to one by construction.

What is sampled is the piece: a step cuts windows from it, and joins the clean samples that they imply before it moves
on (averaging the overlap at every step as in DiffCollage, Zhang et al. 2023, and MultiDiffusion, Bar-Tal et al. 2023).
So neighbours go on from the same notes and come to agree. Fading windows that were sampled alone, as published, leaves
jumps (``benchmarks/seams.py``).

Shapes: M notes of all pieces laid end to end, W windows of them, N notes of a window, K windows at most at a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dexter_model.ragged import members


@dataclass(frozen=True, eq=False)
class Collage:
    """Pieces laid end to end, and their windows: indices and weights to go from one to the other and back.

    Both ways gather, and add in a fixed order, so that a piece comes out with the same bits in any company.
    """

    row_WN: Tensor  # int64, which of the M notes; padding repeats a piece's last
    mask_WN: Tensor  # bool, True at notes, False at padding
    source_KM: Tensor  # int64, which of the W x N rows of the windows
    weight_KM: Tensor  # float32, of that row; over K they sum to 1

    @classmethod
    def of(cls, notes: Sequence[int], length: int, overlap: int) -> Collage:
        """Windows of N = ``length`` notes over pieces of so many notes; see ``window_starts``."""
        rows, masks, weights, first = [], [], [], 0
        for count in notes:
            starts = window_starts(count, length, overlap)
            place = starts[:, None] + np.arange(length)
            rows.append(first + np.minimum(place, count - 1))
            masks.append(place < count)
            weights.append(fade_weights(starts, count, length, overlap) * masks[-1])
            first += count
        row_WN, mask_WN, weight_WN = map(np.concatenate, (rows, masks, weights))
        source_KM, weight_KM = _by_note(row_WN.ravel(), weight_WN.ravel(), first)
        arrays = row_WN, mask_WN, source_KM, weight_KM.astype(np.float32)
        return cls(*map(torch.from_numpy, arrays))

    def to(self, device: torch.device | str) -> Collage:
        """The same windows on another device."""
        return Collage(*(each.to(device) for each in (self.row_WN, self.mask_WN, self.source_KM, self.weight_KM)))

    def cut(self, pieces_M: Tensor) -> Tensor:
        """(M, ...) values at notes as (W, N, ...) windows, 0 on padding."""
        windows = pieces_M[self.row_WN]
        return windows.masked_fill(~self.mask_WN.reshape(self.mask_WN.shape + (1,) * (windows.ndim - 2)), 0.0)

    def join(self, windows_WN: Tensor) -> Tensor:
        """(W, N, ...) windows as (M, ...) values at notes: the weighted mean where windows overlap."""
        rows = windows_WN.flatten(0, 1)
        joined = torch.zeros_like(rows[self.source_KM[0]])
        for source_M, weight_M in zip(self.source_KM, self.weight_KM, strict=True):
            joined = joined + rows[source_M] * weight_M.reshape(weight_M.shape + (1,) * (rows.ndim - 1))
        return joined


def _by_note(row: np.ndarray, weight: np.ndarray, notes: int) -> tuple[np.ndarray, np.ndarray]:
    """(K, M) sources and weights: for every note the window rows with a weight there, in order; filled up with 0."""
    source = np.flatnonzero(weight > 0)
    source = source[np.argsort(row[source], kind="stable")]
    count = np.bincount(row[source], minlength=notes)
    _, rank = members(np.zeros_like(count), count)
    sources, weights = np.zeros((count.max(), notes), np.int64), np.zeros((count.max(), notes))
    sources[rank, row[source]], weights[rank, row[source]] = source, weight[source]
    return sources, weights


def window_starts(notes: int, length: int, overlap: int) -> np.ndarray:
    """First note of each window.

    Args:
        notes: notes of the piece.
        length: N, notes of a window.
        overlap: notes that neighbours share at least, ``0 <= overlap < length``.

    Returns:
        (k,) int64, ascending from 0; the last window ends with the piece, or there is only one.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"windows of {length} notes cannot overlap by {overlap}")
    if notes <= length:
        return np.zeros(1, np.int64)
    count = -(-(notes - overlap) // (length - overlap))
    return np.arange(count) * (notes - length) // (count - 1)


def fade_weights(starts: np.ndarray, notes: int, length: int, overlap: int) -> np.ndarray:
    """Weight of every window at every one of its notes.

    Args:
        starts: (k,) from ``window_starts``.
        notes: notes of the piece.
        length: N, notes of a window.
        overlap: notes of a fade.

    Returns:
        (k, N) float64; at each note of the piece the weights of the windows that cover it sum to 1. Rows past the end
        of a short piece count as its notes.
    """
    seams = (starts[:-1] + length + starts[1:]) / 2  # middle of what neighbours share
    position = starts[:, None] + np.arange(length) + 0.5
    before, after = np.full(len(starts), -np.inf), np.full(len(starts), np.inf)
    before[1:], after[:-1] = seams, seams

    def risen(seam: np.ndarray) -> np.ndarray:
        return np.clip((position - seam[:, None]) / max(overlap, 1) + 0.5, 0.0, 1.0)

    return risen(before) - risen(after)
