"""Noise schedules, and what follows from one: noising a sample, and going between the noise and the clean sample.

Everything is a plain function of tensors, with ``alpha_bar`` (the share of variance that is still signal, Ho et al.
2020, eq. 4) passed in by the caller, so that training, samplers and guidance share the same lines of algebra.

Shapes: B items of a batch, T steps of the schedule, ... anything an item is made of. Tensors of one number an item are
spread over the item's own dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dexter_model.diffusion.config import DiffusionConfig

LEAST_SIGNAL = 1e-8


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Variances of the forward process: ``beta_T`` and ``alpha_bar_T`` = cumprod(1 - beta), float32."""

    beta_T: Tensor
    alpha_bar_T: Tensor

    def __len__(self) -> int:
        return len(self.beta_T)

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule on another device."""
        return NoiseSchedule(self.beta_T.to(device), self.alpha_bar_T.to(device))

    def until(self, t: int) -> NoiseSchedule:
        """The schedule up to and including time ``t``."""
        return NoiseSchedule(self.beta_T[: t + 1], self.alpha_bar_T[: t + 1])


def linear_schedule(steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """Variances rising linearly from ``beta_start`` to ``beta_end`` (Ho et al. 2020, section 4).

    ``alpha_bar`` ends at 1e-8 at least: with variances up to 0.2 it would be zero in float32, and what a predicted
    noise implies without bounds.
    """
    beta_T = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
    return NoiseSchedule(beta_T.float(), torch.cumprod(1.0 - beta_T, dim=0).clamp_min(LEAST_SIGNAL).float())


def noise_schedule(config: DiffusionConfig) -> NoiseSchedule:
    """The noise schedule of some settings."""
    return linear_schedule(config.steps, config.beta_start, config.beta_end)


def sampling_times(schedule_steps: int, steps: int) -> list[int]:
    """Times at which a sampler of ``steps`` evaluations asks the model, descending from T - 1.

    Spaced T/steps apart and counted from the noisy end, so that the first is pure noise as in training and the step
    after the last lands on the clean sample itself (Lin et al. 2023, "trailing").
    """
    if not 1 <= steps <= schedule_steps:
        raise ValueError(f"a schedule of {schedule_steps} steps cannot be sampled in {steps}")
    return [round(schedule_steps * k / steps) - 1 for k in range(steps, 0, -1)]


def log_snr_times(schedule: NoiseSchedule, steps: int) -> list[int]:
    """Times of a sampler of ``steps`` evaluations that lie evenly in log SNR, descending from T - 1 (Lu et al. 2022a).

    Much closer to the clean sample at the end than ``sampling_times``: a sampler of second order has jumped far by
    then, and what its last evaluation smooths away is the finest of the sample.
    """
    if not 1 <= steps <= len(schedule):
        raise ValueError(f"a schedule of {len(schedule)} steps cannot be sampled in {steps}")
    level_T = log_snr(schedule.alpha_bar_T.double().cpu())
    even = torch.linspace(float(level_T[-1]), float(level_T[0]), steps + 1, dtype=torch.float64)[:-1]
    nearest = (level_T[None, :] - even[:, None]).abs().argmin(dim=1)
    rank = torch.arange(steps)
    falling = torch.cummin(nearest.maximum(steps - 1 - rank) + rank, dim=0).values - rank  # no time twice
    return falling.tolist()


def per_item(value: Tensor, like: Tensor) -> Tensor:
    """(B,) seen as (B, 1, ...) beside ``like`` (B, ...); a scalar stays as it is."""
    return value.reshape(value.shape + (1,) * (like.ndim - value.ndim)) if value.ndim else value


def add_noise(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t of q(x_t | x_0): sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise (Ho et al. 2020, eq. 4)."""
    alpha_bar = per_item(alpha_bar, x0)
    return alpha_bar.sqrt() * x0 + (1.0 - alpha_bar).sqrt() * noise


def x0_from_noise(x_t: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """The clean sample that ``noise`` implies; inverse of ``add_noise``. Near t = T it amplifies errors 150 times."""
    alpha_bar = per_item(alpha_bar, x_t)
    return (x_t - (1.0 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()


def noise_from_x0(x_t: Tensor, x0: Tensor, alpha_bar: Tensor) -> Tensor:
    """The noise that the clean sample ``x0`` implies."""
    alpha_bar = per_item(alpha_bar, x_t)
    return (x_t - alpha_bar.sqrt() * x0) / (1.0 - alpha_bar).sqrt()


def v_from(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0 (Salimans & Ho 2022, section 4): a target of equal size at
    all times, the noise where little is left to remove and the clean sample where nothing is seen of it."""
    alpha_bar = per_item(alpha_bar, x0)
    return alpha_bar.sqrt() * noise - (1.0 - alpha_bar).sqrt() * x0


def x0_from_v(x_t: Tensor, v: Tensor, alpha_bar: Tensor) -> Tensor:
    """The clean sample that ``v`` implies."""
    alpha_bar = per_item(alpha_bar, x_t)
    return alpha_bar.sqrt() * x_t - (1.0 - alpha_bar).sqrt() * v


def clean_sample(x_t: Tensor, predicted: Tensor, alpha_bar: Tensor, target: str) -> Tensor:
    """The clean sample x_0 that a denoiser's output implies.

    Args:
        x_t: (B, ...) what the denoiser saw.
        predicted: (B, ...) its output.
        alpha_bar: (B,) or scalar, of x_t.
        target: what the output means: the noise (``epsilon``; ``ex_0``, which differs in the loss alone), ``x_0``
            or ``v``.
    """
    if target == "x_0":
        return predicted
    return {"epsilon": x0_from_noise, "ex_0": x0_from_noise, "v": x0_from_v}[target](x_t, predicted, alpha_bar)


def log_snr(alpha_bar: Tensor) -> Tensor:
    """log(alpha_bar / (1 - alpha_bar)), twice the lambda of DPM-Solver; infinite at the clean sample."""
    return alpha_bar.log() - (1.0 - alpha_bar).log()
