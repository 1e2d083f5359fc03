"""The sampling loop of every diffusion system: from noise to a clean sample by any of the steps of ``diffusion.steps``.

What an item is (a window, a whole piece denoised in windows, an image) is the business of ``denoise``, which gives the
clean sample that a model implies; where noise comes from is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dexter_model.diffusion.schedule import NoiseSchedule, log_snr_times, sampling_times
from dexter_model.diffusion.steps import ddim_step, ddpm_step, dpm_solver_step

Denoise = Callable[[Tensor, int], Tensor]  # x_t and t to x_0
OnStep = Callable[[int, Tensor, Tensor], None]  # t, x_t and the x_0 it implies


def evaluation_times(schedule: NoiseSchedule, sampler: str, steps: int) -> list[int]:
    """When to ask the model: evenly in log SNR for DPM-Solver++, which steps in it, and evenly in time for the others.

    Measured (``benchmarks/samplers.py``): DPM-Solver++ needs half the steps for it, DDIM gains nothing.
    """
    return log_snr_times(schedule, steps) if sampler == "dpm-solver++" else sampling_times(len(schedule), steps)


def sample(
    denoise: Denoise,
    x: Tensor,
    schedule: NoiseSchedule,
    times: Sequence[int],
    *,
    sampler: str = "ddim",
    eta: float = 0.0,
    draw: Callable[[int], Tensor] | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Go from x at the first of ``times`` to the clean sample, one evaluation of the model at each.

    Args:
        denoise: the clean sample that the model implies.
        x: what is noisy as of ``times[0]``: noise itself at the end of the schedule.
        schedule: the schedule the model was trained with, on the CPU.
        times: descending (``evaluation_times``).
        sampler: ``ddpm`` and ``ddpm-beta`` (of larger variance) draw noise at every step, ``ddim`` with ``eta`` above
            0, ``dpm-solver++`` never.
        eta: of DDIM.
        draw: standard normal noise like ``x`` for the k-th step, k = 1, 2, ...; not asked for by a sampler that is
            deterministic.
        on_step: called at every evaluation, before the step.

    Returns:
        The clean sample.
    """
    alpha_bars = [*(schedule.alpha_bar_T[t] for t in times), torch.ones(())]
    last: tuple[Tensor, Tensor] | None = None
    for k, (t, now, then) in enumerate(zip(times, alpha_bars[:-1], alpha_bars[1:], strict=True), 1):
        x0 = denoise(x, t)
        if on_step is not None:
            on_step(t, x, x0)
        if sampler in ("ddpm", "ddpm-beta"):
            x, deviation = ddpm_step(x, x0, now, then, forward_variance=sampler == "ddpm-beta")
        elif sampler == "ddim":
            x, deviation = ddim_step(x, x0, now, then, eta)
        else:
            x, deviation = dpm_solver_step(x, x0, now, then, last)
        if deviation > 0:
            assert draw is not None
            x = x + deviation * draw(k)
        last = x0, now
    return x
