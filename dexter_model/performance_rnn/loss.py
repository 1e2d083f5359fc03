"""What is learnt, and what is told of it: the cross-entropy of the tokens that come, over all of a batch alike.

Shapes: B sequences, T tokens of which T - 1 are predicted, K numbers of a token, C controls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

NO_TOKEN = -1  # after the end of a sequence


class Batch(NamedTuple):
    """Sequences of tokens (B, T, K), ``NO_TOKEN`` after their ends, and what steers at each (B, T, C)."""

    tokens_BTK: Tensor
    controls_BTC: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """What predicts: all tokens but the last, with the controls at those that follow."""
        return self.tokens_BTK[:, :-1].clamp_min(0), self.controls_BTC[:, 1:]

    @property
    def labels(self) -> Tensor:
        """What is predicted (B, T - 1, K)."""
        return self.tokens_BTK[:, 1:]


def token_loss(network: Callable[[Tensor, Tensor], Tensor], batch: Batch, heads: tuple[int, ...]) -> Tensor:
    """Mean cross-entropy in nats over all predicted tokens and their numbers; each token of a batch weighs the same."""
    return cross_entropies(network(*batch.inputs), batch.labels, heads).sum() / _count(batch.labels)


def cross_entropies(logits_BTN: Tensor, labels_BTK: Tensor, heads: tuple[int, ...]) -> Tensor:
    """(B, T, K) nats of each number, float32 or finer; 0 where there is no token."""
    parts = logits_BTN.to(torch.promote_types(logits_BTN.dtype, torch.float32)).split(heads, dim=-1)
    nats = [
        functional.cross_entropy(part.transpose(1, 2), labels_BTK[..., head], ignore_index=NO_TOKEN, reduction="none")
        for head, part in enumerate(parts)
    ]
    return torch.stack(nats, dim=-1)


def _count(labels_BTK: Tensor) -> Tensor:
    return (labels_BTK != NO_TOKEN).sum().clamp_min(1)
