"""One step of a sampler each: from x_t and the clean sample it implies, the distribution of an earlier x_s.

A step returns mean and standard deviation instead of a draw: rule guidance shifts the mean, windows denoised together
average it, and whoever draws brings noise of their own (a seed an item, so that batching changes nothing). ``x_s`` may
lie any number of schedule steps before ``x_t``; ``alpha_bar_s = 1`` is the clean sample, where every step lands on
``x0`` itself.
"""

from __future__ import annotations

from torch import Tensor

from dexter_model.diffusion.schedule import log_snr, noise_from_x0, per_item


def ddim_step(
    x_t: Tensor, x0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor, eta: float = 0.0
) -> tuple[Tensor, Tensor]:
    """DDIM (Song et al. 2021, eq. 12): deterministic at ``eta`` 0, DDPM's posterior at ``eta`` 1.

    Args:
        x_t: (B, ...) noisy sample.
        x0: (B, ...) clean sample the model implies.
        alpha_bar_t: (B,) or scalar, of x_t.
        alpha_bar_s: (B,) or scalar, of the earlier time; larger than ``alpha_bar_t``.
        eta: share of the posterior's standard deviation that is drawn anew.

    Returns:
        Mean (B, ...) and standard deviation (broadcastable to it) of x_s.
    """
    noise = noise_from_x0(x_t, x0, alpha_bar_t)
    now, then = per_item(alpha_bar_t, x_t), per_item(alpha_bar_s, x_t)
    deviation = eta * _posterior_variance(now, then).sqrt()
    direction = (1.0 - then - deviation**2).clamp_min(0.0).sqrt()
    return then.sqrt() * x0 + direction * noise, deviation


def ddpm_step(
    x_t: Tensor, x0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor, forward_variance: bool = False
) -> tuple[Tensor, Tensor]:
    """Posterior q(x_s | x_t, x_0) of the forward process (Ho et al. 2020, eq. 7; alpha is alpha_bar_t / alpha_bar_s).

    Arguments and returns as for ``ddim_step``; ``forward_variance`` takes beta = 1 - alpha for the variance instead,
    which is larger (section 3.2), but at the clean sample 0 as well.
    """
    now, then = per_item(alpha_bar_t, x_t), per_item(alpha_bar_s, x_t)
    alpha = now / then
    mean = (then.sqrt() * (1.0 - alpha) * x0 + alpha.sqrt() * (1.0 - then) * x_t) / (1.0 - now)
    variance = (1.0 - alpha) * (then < 1.0) if forward_variance else _posterior_variance(now, then)
    return mean, variance.sqrt()


def dpm_solver_step(
    x_t: Tensor, x0: Tensor, alpha_bar_t: Tensor, alpha_bar_s: Tensor, last: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): the clean sample goes on as it changed over the step before.

    Of second order in the step of lambda = log(alpha / sigma), at one evaluation a step. Without a step before, and
    where the step ends at the clean sample (lambda is infinite), it is of first order, which is DDIM at ``eta`` 0.

    Args:
        x_t, x0, alpha_bar_t, alpha_bar_s: as for ``ddim_step``.
        last: x0 and alpha_bar of the step before this one.

    Returns:
        Mean (B, ...) of x_s, and its standard deviation, 0.
    """
    if last is not None:
        x0_before, alpha_bar_before = last
        now, then, before = (log_snr(each) / 2 for each in (alpha_bar_t, alpha_bar_s, alpha_bar_before))
        ratio = ((then - now) / (now - before)).nan_to_num(posinf=0.0)
        x0 = x0 + per_item(ratio / 2, x0) * (x0 - x0_before)
    # sigma_s / sigma_t x_t + (alpha_s - sigma_s / sigma_t alpha_t) x0, the exact solution for a constant x0
    return ddim_step(x_t, x0, alpha_bar_t, alpha_bar_s)


def _posterior_variance(alpha_bar_t: Tensor, alpha_bar_s: Tensor) -> Tensor:
    return (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t) * (1.0 - alpha_bar_t / alpha_bar_s)
