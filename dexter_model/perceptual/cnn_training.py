"""Training the mid-level network on windows of sound and the values they should get: the plain published recipe.

Whoever has rated excerpts trains with them. Without, the estimator's values of synthesised performances show that the
loop learns, no more.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dexter_model.notes import Performance
from dexter_model.perceptual.cnn import MidLevelNetwork
from dexter_model.perceptual.estimate import estimate
from dexter_model.perceptual.frontend import spectrogram
from dexter_model.perceptual.hearing import centres_of, sound_of, windows_of

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-5


def estimated_pairs(performance: Performance) -> tuple[Tensor, Tensor]:
    """Windows (M, 1, 149, 469) of a performance played by FluidSynth, and the estimator's values (M, 7) of each.

    Raises:
        InputError: nothing can be synthesised (``no_synthesis``).
    """
    bands, lead = spectrogram(sound_of(performance))
    windows = windows_of(bands)
    values = estimate(performance).per_note(lead + centres_of(len(windows)))
    known = np.isfinite(values).all(axis=1)
    return windows[known], torch.from_numpy(values[known])


def fit(
    network: MidLevelNetwork, windows: Tensor, targets: Tensor, *, steps: int, batch: int = 8, seed: int = 0
) -> list[float]:
    """Train a network by Adam on the mean squared error; the loss of each step.

    Args:
        network: trained in place, on the device it is on.
        windows: (K, 1, 149, T).
        targets: (K, 7) on any scale; what the network will say.
        steps: of ``batch`` windows each, drawn from ``seed``.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    network.train()
    losses = []
    for _ in range(steps):
        drawn = torch.randint(len(windows), (batch,), generator=generator)
        loss = functional.mse_loss(network(windows[drawn].to(device)), targets[drawn].to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    network.eval()
    return losses
