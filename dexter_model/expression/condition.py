"""What the denoiser knows: rows of numbers a note about the score, and rows about how the performance is to sound.

``published``: onset and duration in divs, pitch and voice, each min-max scaled over the window's real notes (padding
does not count, unlike in the original). ``extended``: what a pianist reads (``score_rows``), in units that mean the
same in every piece. Perceptual rows are z-scores of the training split.

NaN means not known: a whole condition (guidance's null), its perceptual part, one feature, one frame. The network puts
its null condition there (``NullCondition``), so that training and sampling cannot differ in what they call nothing.

Shapes: B windows, N notes, R rows of the condition, S of them of the score.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from dexter_model.expression.config import DenoiserConfig
from dexter_model.expression.score_rows import EXTENDED_ROWS, extended_rows
from dexter_model.notes import PERCEPTUAL_FEATURES

PUBLISHED = ("onset_div", "duration_div", "pitch", "voice")
# Constants that no known row takes: published rows lie in [0, 1], perceptual ones within PERCEPTUAL_LIMIT.
SCORE_NULL, PERCEPTUAL_NULL = -1.0, -4.0


def score_row_count(condition: str) -> int:
    """S, the number of score rows of a condition."""
    return len(PUBLISHED) if condition == "published" else len(EXTENDED_ROWS)


def condition_rows(config: DenoiserConfig) -> int:
    """R, the number of all rows."""
    perceptual = 0 if config.perceptual == "none" else len(PERCEPTUAL_FEATURES)
    return score_row_count(config.condition) + perceptual


def score_table(notes: np.ndarray, condition: str = "published") -> np.ndarray:
    """(n, S) float32 score rows of a whole piece, SCORE_NOTE (n,); windows are slices of it."""
    if condition == "extended":
        return extended_rows(notes)
    return np.stack([notes[name].astype(np.float32) for name in PUBLISHED], axis=-1)


def score_condition(table_BNS: Tensor, mask_BN: Tensor, condition: str = "published") -> Tensor:
    """Score rows of windows: those of ``published`` scaled to [0, 1] over each window's real notes.

    Args:
        table_BNS: slices of ``score_table``.
        mask_BN: True on real notes, False on padding.
        condition: which rows they are.

    Returns:
        (B, N, S) float32; 0 on padding, and where all notes of a published window are alike.
    """
    padding = ~mask_BN[..., None]
    if condition == "published":
        low = table_BNS.masked_fill(padding, torch.inf).amin(dim=1, keepdim=True)
        high = table_BNS.masked_fill(padding, -torch.inf).amax(dim=1, keepdim=True)
        table_BNS = (table_BNS - low) / (high - low).clamp_min(1.0)
    return table_BNS.masked_fill(padding, 0.0)


def drop_condition(condition_BNR: Tensor, dropped_B: Tensor | None = None) -> Tensor:
    """Make the condition of whole windows unknown: those of ``dropped_B``, or all."""
    if dropped_B is None:
        return torch.full_like(condition_BNR, math.nan)
    return condition_BNR.masked_fill(dropped_B[:, None, None], math.nan)


class NullCondition(nn.Module):
    """Puts the null condition where a condition is NaN: constants (``fixed``), or weights that start from them."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        null_R = torch.full((condition_rows(config),), PERCEPTUAL_NULL, device="cpu")  # no checkpoint holds constants
        null_R[: score_row_count(config.condition)] = SCORE_NULL
        if config.null == "trainable":
            self.rows = nn.Parameter(null_R)
        else:
            self.register_buffer("rows", null_R, persistent=False)

    def forward(self, condition_BNR: Tensor) -> Tensor:
        """(B, N, R) without NaN."""
        return torch.where(condition_BNR.isnan(), self.rows.to(condition_BNR.dtype), condition_BNR)
