"""Tokens drawn from logits, each row with random numbers of its own.

A row's numbers come from its seed by Philox, a counter-based generator (Salmon et al. 2011): one for each number of a
token, whatever other rows there are, so that a seed makes the same performance in every batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dexter_model.performance_rnn.vocabulary import OFF, ON, SHIFT

_BLOCK = 256  # tokens whose random numbers are made at a time


class RandomStreams:
    """Uniform numbers in [0, 1) for each of several outputs, token after token.

    Args:
        seeds: one an output.
        shape: numbers of an output at each token.
        device: where they are wanted.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> None:
        self._streams = [np.random.Generator(np.random.Philox(np.random.SeedSequence(seed))) for seed in seeds]
        self._shape, self._device = shape, device
        self._block = torch.zeros(0, len(seeds), *shape)

    def keep(self, outputs: np.ndarray) -> None:
        """Go on with some of the outputs."""
        self._streams = [self._streams[output] for output in outputs]
        self._block = self._block[:, torch.from_numpy(outputs).to(self._device)]

    def draw(self) -> Tensor:
        """(outputs, *shape) float64 for the next token."""
        if not len(self._block):
            blocks = [stream.random((_BLOCK, *self._shape)) for stream in self._streams]
            self._block = torch.from_numpy(np.stack(blocks, axis=1)).to(self._device)
        self._block, numbers = self._block[1:], self._block[0]
        return numbers


def draw_tokens(
    logits_RN: Tensor, uniform_RK: Tensor, classes: tuple[int, ...], temperature: float, top_p: float
) -> tuple[Tensor, Tensor]:
    """Tokens (R, K) and their log-probabilities (R,) under the distribution that they are drawn from."""
    tokens, likelihood = [], torch.zeros(len(logits_RN), dtype=torch.float64, device=logits_RN.device)
    for head, logits in enumerate(logits_RN.split(classes, dim=-1)):
        probability = (logits.double() / temperature).softmax(dim=-1)
        if top_p < 1.0:
            probability = _likeliest(probability, top_p)
        total = probability.cumsum(dim=-1)
        token = torch.searchsorted(total, uniform_RK[:, head, None] * total[:, -1:], right=True)
        token = token.clamp_max(logits.shape[-1] - 1)
        likelihood += (probability.gather(1, token) / total[:, -1:]).log().squeeze(1)
        tokens.append(token)
    return torch.cat(tokens, dim=-1), likelihood


def _likeliest(probability_RN: Tensor, top_p: float) -> Tensor:
    """Probabilities with 0 for all but the likeliest classes that reach ``top_p`` together (Holtzman et al. 2020)."""
    ordered, order = probability_RN.sort(dim=-1, descending=True, stable=True)
    kept = ordered.cumsum(dim=-1) - ordered < top_p
    return torch.zeros_like(probability_RN).scatter(1, order, torch.where(kept, ordered, 0.0))


class HeldKeys:
    """Which keys are down in each row, so that no other event about a key is drawn than one that can happen."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.held = torch.zeros(rows, OFF, dtype=torch.bool, device=device)

    def allowed(self, logits_RN: Tensor) -> Tensor:
        """Logits without the keys that are down going down and the others going up."""
        logits_RN = logits_RN.clone()
        logits_RN[:, ON:OFF].masked_fill_(self.held, -torch.inf)
        logits_RN[:, OFF:SHIFT].masked_fill_(~self.held, -torch.inf)
        return logits_RN

    def played(self, tokens_RK: Tensor) -> None:
        """Take notice of an event in each row."""
        about_keys = tokens_RK < SHIFT
        pitch = torch.where(about_keys, tokens_RK % OFF, 0)
        before = self.held.gather(1, pitch)
        self.held.scatter_(1, pitch, torch.where(about_keys, tokens_RK < OFF, before))
