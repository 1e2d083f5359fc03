"""A long piece as overlapping windows, and one seamless piece out of them again.

A denoiser sees N notes at a time. Windows are spread evenly over the piece, so that each of them is full (only a piece
shorter than N is padded) and neighbours share at least ``overlap`` notes. In the middle of what two neighbours share,
where both have the most context, a ramp of ``overlap`` notes fades one out and the other in: the weights of the windows
at a note are differences of one rising ramp a seam, so they sum to one by construction.

Fading, instead of denoising all windows of a piece jointly, lets windows of many pieces share a batch of fixed shape;
neighbours disagree about little because they are denoised from the same noise (``expression.plan``).
"""

from __future__ import annotations

import numpy as np


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


def join_windows(windows: np.ndarray, starts: np.ndarray, notes: int, overlap: int) -> np.ndarray:
    """One piece from its windows, faded into one another.

    Args:
        windows: (k, N, columns), in the order of ``starts``.
        starts: (k,) from ``window_starts``.
        notes: notes of the piece.
        overlap: notes of a fade.

    Returns:
        (notes, columns) float64.
    """
    length = windows.shape[1]
    weights = fade_weights(starts, notes, length, overlap)
    piece = np.zeros((max(notes, length), windows.shape[2]))
    for window, start, weight in zip(windows, starts, weights, strict=True):
        piece[start : start + length] += weight[:, None] * window
    return piece[:notes]
