"""What training minimises: the error of the denoiser's prediction, and of the codec that the prediction implies.

Rows that nobody played (deletions, padding) count in neither: their gradient is zero.

Shapes: B windows, N notes, R condition rows, S of them of the score.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dexter_model.diffusion.schedule import NoiseSchedule, add_noise, clean_sample, v_from
from dexter_model.expression.condition import drop_condition
from dexter_model.expression.config import ExpressionConfig, TrainingConfig
from dexter_model.expression.data import Windows
from dexter_model.notes import PERCEPTUAL_FEATURES

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
DISTANCES: dict[str, Callable[..., Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss, "huber": F.smooth_l1_loss}


def diffusion_loss(
    denoiser: Denoiser,
    windows: Windows,
    schedule: NoiseSchedule,
    config: ExpressionConfig,
    generator: torch.Generator,
) -> Tensor:
    """Loss of one batch, a scalar: times, noise and dropped conditions are drawn from ``generator``.

    In training for transfer the partner's codec stands where the noise would.
    """
    x0, device, target = windows.x0_BN5, windows.x0_BN5.device, config.denoiser.target
    t_B = torch.randint(len(schedule), (len(x0),), generator=generator, device=device)
    noise = torch.randn(x0.shape, generator=generator, device=device)
    noise = noise if windows.partner_BN5 is None else windows.partner_BN5
    condition = unlearn(windows.condition_BNR, config, generator)
    if target == "mean":
        predicted = denoiser(torch.zeros_like(x0), torch.zeros_like(t_B), condition).float()
        return masked_mean(DISTANCES[config.training.loss](predicted, x0, reduction="none"), windows.matched_BN)
    alpha_bar_B = schedule.alpha_bar_T[t_B]
    x_t = add_noise(x0, noise, alpha_bar_B) * windows.mask_BN[..., None]  # padding is zero here as in sampling
    predicted = denoiser(x_t, t_B, condition).float()
    implied = clean_sample(x_t, predicted, alpha_bar_B, target)
    weight_B = snr_weight(alpha_bar_B) if target in ("epsilon", "ex_0") else torch.ones_like(alpha_bar_B)
    said, meant, share_B = {
        "epsilon": (predicted, noise, None),
        "x_0": (predicted, x0, None),
        "ex_0": (implied, x0, weight_B),
        "v": (predicted, v_from(x0, noise, alpha_bar_B), None),
    }[target]
    error = DISTANCES[config.training.loss](said, meant, reduction="none")
    error = error if share_B is None else error * share_B[:, None, None]
    reconstruction = column_weighted(F.mse_loss(implied, x0, reduction="none"), config.training)
    played, weight = windows.matched_BN, config.training.recon_loss_weight
    return masked_mean(error, played) + weight * masked_mean(reconstruction * weight_B[:, None, None], played)


def unlearn(condition_BNR: Tensor, config: ExpressionConfig, generator: torch.Generator) -> Tensor:
    """Make parts of the condition unknown, so that the network learns to do without: whole conditions of some windows,
    the perceptual rows of some, single features of some (Ho & Salimans 2022; specified shares in ``TrainingConfig``).
    """
    training, windows, device = config.training, len(condition_BNR), condition_BNR.device

    def drawn(share: float, *shape: int) -> Tensor:
        return torch.rand((windows, *shape), generator=generator, device=device) < share

    condition_BNR = drop_condition(condition_BNR, drawn(training.condition_dropout))
    if config.denoiser.perceptual == "none":
        return condition_BNR
    features = len(PERCEPTUAL_FEATURES)
    unknown = drawn(training.perceptual_dropout, 1) | drawn(training.feature_dropout, features)
    score, perceptual = condition_BNR[..., :-features], condition_BNR[..., -features:]
    return torch.cat([score, perceptual.masked_fill(unknown[:, None, :], math.nan)], dim=-1)


def snr_weight(alpha_bar_B: Tensor) -> Tensor:
    """min(1, signal-to-noise ratio) of each window, the weight of what a noise prediction implies.

    The codec that a predicted noise implies is off by 1/sqrt(snr) times the prediction's error, 150 times near t = T.
    Clipping it instead, as the original does, leaves wrong predictions without a gradient: learning one window by
    heart in 400 steps then ends at an error of 2.1 standard deviations, with this weight at 0.8.
    """
    return (alpha_bar_B / (1.0 - alpha_bar_B)).clamp_max(1.0)


def column_weighted(values_BN5: Tensor, config: TrainingConfig) -> Tensor:
    """The columns weighted by ``config.column_weights``; their mean is that of the weights' shares."""
    weights = values_BN5.new_tensor(config.column_weights)
    return values_BN5 * (weights * len(weights) / weights.sum())


def masked_mean(values_BN5: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean over the rows of the mask and all columns, each column counting alike; 0 when the mask is empty."""
    rows = mask_BN.sum().clamp_min(1)
    return (values_BN5 * mask_BN[..., None]).sum() / (rows * values_BN5.shape[-1])
