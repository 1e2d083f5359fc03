"""Diffusion: closed forms, identities between samplers, and a model whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dexter_model.diffusion.guidance import guided
from dexter_model.diffusion.schedule import (
    NoiseSchedule,
    add_noise,
    linear_schedule,
    log_snr,
    log_snr_times,
    noise_from_x0,
    sampling_times,
    x0_from_noise,
)
from dexter_model.diffusion.steps import ddim_step, ddpm_step


@pytest.fixture
def schedule() -> NoiseSchedule:
    published = linear_schedule(1000, 1e-4, 0.02)
    return NoiseSchedule(published.beta_T.double(), published.alpha_bar_T.double())


@pytest.fixture
def x0() -> Tensor:
    return torch.randn(4, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(4, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_linear_schedule_is_the_published_one() -> None:
    schedule = linear_schedule(1000, 1e-4, 0.02)
    assert len(schedule) == 1000
    assert schedule.beta_T[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    by_hand = math.exp(sum(math.log1p(-(1e-4 + (0.02 - 1e-4) * t / 999)) for t in range(1000)))
    assert float(schedule.alpha_bar_T[-1]) == pytest.approx(by_hand, rel=1e-5)
    assert bool((schedule.alpha_bar_T.diff() < 0).all())


def test_noise_and_clean_sample_imply_each_other(schedule: NoiseSchedule, x0: Tensor, noise: Tensor) -> None:
    alpha_bar = schedule.alpha_bar_T[torch.tensor([0, 10, 500, 999])]
    x_t = add_noise(x0, noise, alpha_bar)
    assert torch.allclose(x0_from_noise(x_t, noise, alpha_bar), x0, atol=1e-9)
    assert torch.allclose(noise_from_x0(x_t, x0, alpha_bar), noise, atol=1e-9)


def test_noised_variance_is_preserved(schedule: NoiseSchedule) -> None:
    generator = torch.Generator().manual_seed(2)
    x0, noise = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
    for t in (0, 300, 999):
        assert float(add_noise(x0, noise, schedule.alpha_bar_T[t]).var()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("steps", [1, 3, 20, 1000])
def test_ddim_with_the_true_noise_recovers_the_sample(
    schedule: NoiseSchedule, x0: Tensor, noise: Tensor, steps: int
) -> None:
    times = sampling_times(1000, steps)
    x = add_noise(x0, noise, schedule.alpha_bar_T[times[0]])
    for t, earlier in zip(times, [*times[1:], None], strict=True):
        now = schedule.alpha_bar_T[t]
        then = torch.ones_like(now) if earlier is None else schedule.alpha_bar_T[earlier]
        x, deviation = ddim_step(x, x0_from_noise(x, noise, now), now, then)
        assert float(deviation) == 0.0
    assert torch.allclose(x, x0, atol=1e-8)


def test_ddim_at_eta_1_is_ddpm(schedule: NoiseSchedule, x0: Tensor, noise: Tensor) -> None:
    now, then = schedule.alpha_bar_T[[2, 100, 500, 999]], schedule.alpha_bar_T[[1, 60, 499, 900]]
    x_t = add_noise(x0, noise, now)
    for ddim, ddpm in zip(ddim_step(x_t, x0, now, then, eta=1.0), ddpm_step(x_t, x0, now, then), strict=True):
        assert torch.allclose(ddim, ddpm, atol=1e-9)


def test_ddpm_posterior_by_the_papers_formula(schedule: NoiseSchedule, x0: Tensor, noise: Tensor) -> None:
    t = 400
    beta, now, then = schedule.beta_T[t], schedule.alpha_bar_T[t], schedule.alpha_bar_T[t - 1]
    x_t = add_noise(x0, noise, now)
    mean, deviation = ddpm_step(x_t, x0, now, then)
    by_noise = (x_t - beta / (1 - now).sqrt() * noise) / (1 - beta).sqrt()  # Ho et al. 2020, eq. 11
    assert torch.allclose(mean, by_noise, atol=1e-6)
    assert float(deviation**2) == pytest.approx(float((1 - then) / (1 - now) * beta), rel=1e-5)


def test_ddpm_step_keeps_the_marginals(schedule: NoiseSchedule) -> None:
    generator = torch.Generator().manual_seed(3)
    x0 = torch.full((400_000,), 2.0, dtype=torch.float64)
    noise, fresh = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    now, then = schedule.alpha_bar_T[500], schedule.alpha_bar_T[430]
    mean, deviation = ddpm_step(add_noise(x0, noise, now), x0, now, then)
    x_s = mean + deviation * fresh
    assert float(x_s.mean()) == pytest.approx(2.0 * float(then.sqrt()), abs=0.01)
    assert float(x_s.var()) == pytest.approx(1.0 - float(then), rel=0.02)


@pytest.mark.parametrize("step", [ddim_step, ddpm_step])
def test_the_last_step_lands_on_the_clean_sample(
    schedule: NoiseSchedule, x0: Tensor, noise: Tensor, step: type
) -> None:
    now = schedule.alpha_bar_T[49]
    mean, deviation = step(add_noise(x0, noise, now), x0, now, torch.ones_like(now))
    assert torch.allclose(mean, x0, atol=1e-9)
    assert float(deviation) == 0.0


def test_sampling_starts_in_noise_and_is_evenly_spaced() -> None:
    assert sampling_times(1000, 4) == [999, 749, 499, 249]
    assert sampling_times(1000, 1000) == list(range(999, -1, -1))
    for steps in (1, 7, 20, 333):
        times = sampling_times(1000, steps)
        assert times[0] == 999
        assert len(set(times)) == steps
        assert times == sorted(times, reverse=True)
    with pytest.raises(ValueError, match="cannot be sampled"):
        sampling_times(10, 11)


def test_times_even_in_log_snr_end_near_the_clean_sample() -> None:
    """As many as are asked for, none of them twice, whatever the schedule can tell apart at its clean end."""
    schedule = linear_schedule(1000, 1e-4, 0.02)
    assert log_snr_times(schedule, 1000) == list(range(999, -1, -1))
    for steps in (1, 2, 10, 50, 700):
        times = log_snr_times(schedule, steps)
        assert times[0] == 999
        assert len(set(times)) == steps
        assert times == sorted(times, reverse=True)
    few = log_snr_times(schedule, 10)
    assert few[-1] < 10
    assert log_snr(schedule.alpha_bar_T[few]).diff().tolist() == pytest.approx([1.93] * 9, rel=0.15)
    assert log_snr_times(schedule.until(0), 1) == [0]
    with pytest.raises(ValueError, match="cannot be sampled"):
        log_snr_times(schedule, 1001)


def test_ddim_samples_the_data_of_an_ideal_denoiser(schedule: NoiseSchedule) -> None:
    """For Gaussian data the best prediction is known, and deterministic sampling must map noise onto the data."""
    mean, deviation = 1.5, 0.4
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x, times = noise, sampling_times(1000, 100)
    for t, earlier in zip(times, [*times[1:], None], strict=True):
        now = schedule.alpha_bar_T[t]
        then = torch.ones_like(now) if earlier is None else schedule.alpha_bar_T[earlier]
        gain = now.sqrt() * deviation**2 / (now * deviation**2 + 1 - now)
        x = ddim_step(x, mean + gain * (x - now.sqrt() * mean), now, then)[0]
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.std()) == pytest.approx(deviation, rel=0.1)


def test_guidance_weights() -> None:
    conditional, unconditional = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])
    assert torch.equal(guided(conditional, unconditional, 1.0), conditional)
    assert torch.equal(guided(conditional, unconditional, 0.0), unconditional)
    expected = 1.2 * conditional - 0.2 * unconditional
    assert torch.allclose(guided(conditional, unconditional, 1.2), expected)
