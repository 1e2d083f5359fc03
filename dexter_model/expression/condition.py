"""What the denoiser knows of the score: rows of numbers a note, scaled within the window, or nothing at all.

``published``: onset and duration in divs, pitch and voice, each min-max scaled over the window's real notes (padding
does not count, unlike in the original). Whole batches are scaled on the device, from tables that stay resident.

Shapes: B windows, N notes, R rows of the condition.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SCORE_COLUMNS = {"published": ("onset_div", "duration_div", "pitch", "voice")}
NULL = -1.0  # "no condition", in training and sampling alike; real rows lie in [0, 1]


def condition_rows(condition: str) -> int:
    """R, the number of rows of a condition."""
    return len(SCORE_COLUMNS[condition])


def score_table(notes: np.ndarray, condition: str = "published") -> np.ndarray:
    """(..., R) float32 columns of a SCORE_NOTE array of any shape, unscaled."""
    return np.stack([notes[name].astype(np.float32) for name in SCORE_COLUMNS[condition]], axis=-1)


def score_condition(table_BNR: Tensor, mask_BN: Tensor) -> Tensor:
    """Scale each row to [0, 1] over each window's real notes.

    Args:
        table_BNR: columns of ``score_table``, cut into windows.
        mask_BN: True on real notes, False on padding.

    Returns:
        (B, N, R) float32; 0 on padding, and where all notes of a window are alike.
    """
    padding = ~mask_BN[..., None]
    low = table_BNR.masked_fill(padding, torch.inf).amin(dim=1, keepdim=True)
    high = table_BNR.masked_fill(padding, -torch.inf).amax(dim=1, keepdim=True)
    scaled = (table_BNR - low) / (high - low).clamp_min(1.0)
    return scaled.masked_fill(padding, 0.0)


def drop_condition(condition_BNR: Tensor, dropped_B: Tensor | None = None) -> Tensor:
    """Replace the condition of whole windows by the null condition: those of ``dropped_B``, or all."""
    if dropped_B is None:
        return torch.full_like(condition_BNR, NULL)
    return condition_BNR.masked_fill(dropped_B[:, None, None], NULL)
