"""Classifier-free guidance (Ho & Salimans 2022): lean further from the unconditional to the conditional prediction."""

from __future__ import annotations

from torch import Tensor


def guided(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """``weight`` x conditional + (1 - ``weight``) x unconditional: 1 is the conditional model, above 1 exaggerates.

    Linear, so it holds for predictions of the noise and of the clean sample alike.
    """
    return unconditional + weight * (conditional - unconditional)
