"""Whole trajectories of every sampler beside those of diffusers, for every prediction type."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from dexter_model.diffusion.sampling import sample
from dexter_model.diffusion.schedule import clean_sample, linear_schedule, noise_from_x0, sampling_times, v_from

SCHEDULE = linear_schedule(1000, 1e-4, 0.02)
THEIR_NAMES = {"epsilon": "epsilon", "ex_0": "epsilon", "x_0": "sample", "v": "v_prediction"}
TARGETS = pytest.mark.parametrize("target", list(THEIR_NAMES))
STEPS = pytest.mark.parametrize(
    "steps", [1, 2, 8, 25]
)  # divisors of 1000: elsewhere two of theirs step from rounded times


def network(x: Tensor, t: int) -> Tensor:
    """Stands for a trained one: bounded, smooth, not linear, another one at every time."""
    return torch.tanh(1.5 * x + math.sin(t / 150)) * (1 + t / 2000)


def noise(seed: int = 0) -> Tensor:
    return torch.randn(3, 11, 5, generator=torch.Generator().manual_seed(seed))


def ours(target: str, times: list[int], draw: Callable[[int], Tensor] | None = None, **how: Any) -> Tensor:
    def denoise(x: Tensor, t: int) -> Tensor:
        return clean_sample(x, network(x, t), SCHEDULE.alpha_bar_T[t], target)

    return sample(denoise, noise(), SCHEDULE, times, draw=draw, **how)


def theirs(scheduler: Any, target: str, steps: int, step: Callable[[Any, Tensor, Any, Tensor, int], Any]) -> Tensor:
    made = scheduler.from_config(
        scheduler().config,
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type=THEIR_NAMES[target],
        timestep_spacing="trailing",
        clip_sample=False,
    )
    made.set_timesteps(steps)
    assert made.timesteps.tolist() == sampling_times(1000, steps)
    x = noise()
    for k, t in enumerate(made.timesteps, 1):
        x = step(made, network(x, int(t)), t, x, k).prev_sample
    return x


@TARGETS
@STEPS
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim(target: str, steps: int, eta: float) -> None:
    expected = theirs(
        DDIMScheduler, target, steps, lambda s, out, t, x, k: s.step(out, t, x, eta=eta, variance_noise=noise(k))
    )
    torch.testing.assert_close(
        ours(target, sampling_times(1000, steps), noise, eta=eta), expected, rtol=1e-3, atol=1e-3
    )


@TARGETS
@STEPS
def test_ddpm(target: str, steps: int) -> None:
    def step(scheduler: Any, output: Tensor, t: Any, x: Tensor, k: int) -> Any:
        return scheduler.step(output, t, x, generator=torch.Generator().manual_seed(k))

    expected = theirs(DDPMScheduler, target, steps, step)
    got = ours(target, sampling_times(1000, steps), noise, sampler="ddpm")
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 40])
def test_ddpm_of_larger_variance_is_algorithm_2_of_ho_et_al(steps: int) -> None:
    schedule = linear_schedule(steps, 1e-3, 0.3)
    x = noise()
    for k, t in enumerate(reversed(range(steps)), 1):
        beta, alpha_bar = schedule.beta_T[t], schedule.alpha_bar_T[t]
        x = (x - beta / (1 - alpha_bar).sqrt() * network(x, t)) / (1 - beta).sqrt()
        x = x + beta.sqrt() * noise(k) if t else x

    def denoise(x: Tensor, t: int) -> Tensor:
        return clean_sample(x, network(x, t), schedule.alpha_bar_T[t], "epsilon")

    times = sampling_times(steps, steps)
    got = sample(denoise, noise(), schedule, times, sampler="ddpm-beta", draw=noise)
    torch.testing.assert_close(got, x, rtol=1e-3, atol=1e-3)


@TARGETS
@STEPS
def test_dpm_solver(target: str, steps: int) -> None:
    expected = theirs(DPMSolverMultistepScheduler, target, steps, lambda s, out, t, x, k: s.step(out, t, x))
    got = ours(target, sampling_times(1000, steps), sampler="dpm-solver++")
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


@TARGETS
def test_predictions_of_one_truth_agree(target: str) -> None:
    """However the network says it, the implied clean sample is the one that was noised."""
    x0, alpha_bar = noise(1), torch.tensor([0.9, 0.5, 0.05])
    x_t = alpha_bar[:, None, None].sqrt() * x0 + (1 - alpha_bar)[:, None, None].sqrt() * noise(2)
    said = {"x_0": x0, "v": v_from(x0, noise(2), alpha_bar)}.get(target, noise_from_x0(x_t, x0, alpha_bar))
    torch.testing.assert_close(clean_sample(x_t, said, alpha_bar, target), x0, rtol=1e-4, atol=1e-4)


def test_dpm_solver_keeps_closer_to_the_exact_way_than_ddim() -> None:
    """For Gaussian data the way from noise is known; DDIM, of first order, halves its error with twice the steps."""
    deviation, alpha_bar = 0.4, SCHEDULE.alpha_bar_T.double()
    variance = alpha_bar * deviation**2 + 1 - alpha_bar
    levels = torch.log(alpha_bar / (1 - alpha_bar)) / 2
    start = torch.linspace(-2, 2, 41, dtype=torch.float64)

    def denoise(x: Tensor, t: int) -> Tensor:
        return alpha_bar[t].sqrt() * deviation**2 / variance[t] * x

    def error(steps: int, sampler: str) -> float:
        seen: list[Tensor] = []
        even = torch.linspace(float(levels[-1]), float(levels[30]), steps)
        times = [int((levels - level).abs().argmin()) for level in even]
        sample(denoise, start, SCHEDULE, times, sampler=sampler, on_step=lambda t, x, x0: seen.append(x))
        return float((seen[-1] - start * (variance[30] / variance[-1]).sqrt()).abs().max())

    first, second = ([error(steps, sampler) for steps in (10, 20, 40)] for sampler in ("ddim", "dpm-solver++"))
    assert [one / other for one, other in pairwise(first)] == pytest.approx([2, 2], rel=0.25)
    assert all(ours < 0.2 * its for ours, its in zip(second, first, strict=True))


def test_every_evaluation_is_told() -> None:
    """What is shown of a step is what the model saw and what it implied; the last of it is the result."""
    seen: list[tuple[int, Tensor, Tensor]] = []
    times = sampling_times(1000, 4)
    result = ours("x_0", times, on_step=lambda t, x, x0: seen.append((t, x, x0)))
    assert [t for t, _, _ in seen] == times
    assert torch.equal(seen[0][1], noise())
    assert all(torch.equal(x0, network(x, t)) for t, x, x0 in seen)
    torch.testing.assert_close(result, seen[-1][2])
