"""A moving average of the weights: what is validated, published and rendered with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def copy_weights(model: nn.Module) -> Weights:
    """The model's weights by name, detached and copied."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def update_average(average: Weights, model: nn.Module, decay: float, step: int) -> None:
    """Move ``average`` towards the weights after step ``step`` (from 1), in place.

    The decay starts low and rises to ``decay`` over some 10 / (1 - decay) steps, so that a short training is not an
    average over its random start.
    """
    decay = min(decay, (1.0 + step) / (10.0 + step))
    weights = model.state_dict()
    torch._foreach_lerp_(list(average.values()), [weights[name] for name in average], 1.0 - decay)
