"""What training minimises: the mean squared error of the noise that the network finds in segments, or of the velocity.

Shapes: B segments, H rows, N notes, 3 features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dexter_model.composer.config import ComposerConfig
from dexter_model.composer.data import Batch
from dexter_model.diffusion.schedule import NoiseSchedule, add_noise, v_from
from dexter_model.training.loop import Predict


def times_learnt(config: ComposerConfig) -> int:
    """How many times of the diffusion are learnt, from 0 on."""
    return max(1, config.diffusion.steps - (not config.training.last_time))


def diffusion_loss(
    network: Predict, batch: Batch, schedule: NoiseSchedule, config: ComposerConfig, generator: torch.Generator
) -> Tensor:
    """Loss of a batch of normalised segments, a scalar: times and noise are drawn from ``generator``."""
    x0, device = batch.values_BHN3, batch.values_BHN3.device
    t_B = torch.randint(times_learnt(config), (len(x0),), generator=generator, device=device)
    noise = torch.randn(x0.shape, generator=generator, device=device)
    return errors(network, batch, schedule, config, t_B, noise).mean()


def errors(
    network: Predict, batch: Batch, schedule: NoiseSchedule, config: ComposerConfig, t_B: Tensor, noise_BHN3: Tensor
) -> Tensor:
    """Mean squared errors (B, 3) of each feature over the notes of rows that hold some, of what the output is to be."""
    x0, alpha_bar_B = batch.values_BHN3, schedule.alpha_bar_T[t_B]
    x_t = add_noise(x0, noise_BHN3, alpha_bar_B) * batch.active_BH[..., None, None]
    meant = noise_BHN3 if config.network.target == "epsilon" else v_from(x0, noise_BHN3, alpha_bar_B)
    found = network(x_t, t_B, batch.program_BH, batch.active_BH).float()
    squares = (found - meant).square().mean(dim=2) * batch.active_BH[..., None]
    return squares.sum(dim=1) / batch.active_BH.sum(dim=1, keepdim=True).clamp_min(1)


def noise_errors(errors_B3: Tensor, alpha_bar_B: Tensor, config: ComposerConfig) -> Tensor:
    """The errors of the noise that the output implies: it is sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t."""
    return errors_B3 if config.network.target == "epsilon" else errors_B3 * alpha_bar_B[:, None]
