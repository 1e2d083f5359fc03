"""What training minimises: the mean squared error of the noise that the network finds in segments.

Shapes: B segments, H rows, N notes, 3 features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dexter_model.composer.config import ComposerConfig
from dexter_model.composer.data import Batch
from dexter_model.diffusion.schedule import NoiseSchedule, add_noise
from dexter_model.training.loop import Predict


def times_learnt(config: ComposerConfig) -> int:
    """How many times of the diffusion are learnt, from 0 on."""
    return max(1, config.diffusion.steps - (not config.training.last_time))


def noise_loss(
    network: Predict, batch: Batch, schedule: NoiseSchedule, config: ComposerConfig, generator: torch.Generator
) -> Tensor:
    """Loss of a batch of normalised segments, a scalar: times and noise are drawn from ``generator``."""
    x0, device = batch.values_BHN3, batch.values_BHN3.device
    t_B = torch.randint(times_learnt(config), (len(x0),), generator=generator, device=device)
    noise = torch.randn(x0.shape, generator=generator, device=device)
    return errors(network, batch, schedule, t_B, noise).mean()


def errors(network: Predict, batch: Batch, schedule: NoiseSchedule, t_B: Tensor, noise_BHN3: Tensor) -> Tensor:
    """Mean squared errors (B, 3) of each feature over the notes of rows that hold some."""
    awake_BH11 = batch.active_BH[..., None, None]
    x_t = add_noise(batch.values_BHN3, noise_BHN3, schedule.alpha_bar_T[t_B]) * awake_BH11
    found = network(x_t, t_B, batch.program_BH, batch.active_BH).float()
    squares = (found - noise_BHN3).square().mean(dim=2) * batch.active_BH[..., None]
    return squares.sum(dim=1) / batch.active_BH.sum(dim=1, keepdim=True).clamp_min(1)
