"""From noise to codecs of windows, and the denoiser a checkpoint holds.

Shapes: B windows, N notes, R condition rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dexter_model.diffusion.guidance import guided
from dexter_model.diffusion.sampling import OnStep, evaluation_times, sample
from dexter_model.diffusion.schedule import NoiseSchedule, clean_sample
from dexter_model.errors import InputError
from dexter_model.expression.condition import drop_condition
from dexter_model.expression.config import ExpressionConfig
from dexter_model.expression.data import LIMIT, Statistics
from dexter_model.expression.denoiser import build_denoiser
from dexter_model.notes import CODEC_COLUMNS, PERCEPTUAL_FEATURES
from dexter_model.training.checkpoint import Checkpoint, load_weights, unreadable

LARGEST = 1e6  # of a checkpoint's statistics; codecs stay numbers then


@torch.inference_mode()
def sample_windows(
    model: Any,
    condition_BNR: Tensor,
    mask_BN: Tensor,
    noise_BN5: Tensor,
    *,
    schedule: NoiseSchedule,
    steps: int,
    guidance: float,
    sampler: str = "ddim",
    eta: float = 0.0,
    draw: Callable[[int], Tensor] | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Sample codecs for windows of notes, each window by itself.

    Args:
        model: the denoiser, in evaluation mode, on the device of the tensors.
        condition_BNR: score rows (``condition.score_condition``) and perceptual rows, NaN where not known.
        mask_BN: True on real notes, False on padding.
        noise_BN5: standard normal noise, an item's own; what it holds on padding does not matter.
        schedule: the schedule the model was trained with.
        steps: evaluations of the model (two forwards each unless ``guidance`` is 1).
        guidance: weight w of classifier-free guidance.
        sampler: how to step (``diffusion.sampling``).
        eta: of DDIM.
        draw: noise for the k-th step of a sampler that draws.
        on_step: called with t, x_t and the implied x_0, both (B, N, 5), at every evaluation.

    Returns:
        (B, N, 5) float32 z-scored codecs; 0 on padding.
    """
    mask_BN1 = mask_BN[..., None]

    def denoise(x_BN5: Tensor, t: int) -> Tensor:
        return clean_windows(model, x_BN5 * mask_BN1, t, condition_BNR, schedule, guidance) * mask_BN1

    times = evaluation_times(schedule, sampler, steps)
    how: dict[str, Any] = {"sampler": sampler, "eta": eta, "draw": draw, "on_step": on_step}
    return sample(denoise, noise_BN5 * mask_BN1, schedule, times, **how)


@torch.inference_mode()
def clean_windows(
    model: Any, x_BN5: Tensor, t: int, condition_BNR: Tensor, schedule: NoiseSchedule, guidance: float
) -> Tensor:
    """One evaluation: the clean codecs (B, N, 5) that the model implies for noisy ones at time t, guided and clipped.

    A model of the conditional mean says the same of every noise, and is not guided.
    """
    target = model.config.target
    if target == "mean":
        return model(torch.zeros_like(x_BN5), x_BN5.new_zeros(len(x_BN5), dtype=torch.long), condition_BNR)
    t_B = torch.full((len(x_BN5),), t, device=x_BN5.device)
    predicted = model(x_BN5, t_B, condition_BNR)
    if guidance != 1.0:
        predicted = guided(predicted, model(x_BN5, t_B, drop_condition(condition_BNR)), guidance)
    return clean_sample(x_BN5, predicted, schedule.alpha_bar_T[t], target).clamp(-LIMIT, LIMIT)


def load_denoiser(checkpoint: Checkpoint) -> tuple[nn.Module, ExpressionConfig, Statistics]:
    """The denoiser of a checkpoint in evaluation mode on the CPU, its settings and its codec statistics.

    Raises:
        InputError: settings or weights do not fit the network (``checkpoint_unreadable``).
    """
    try:
        config = ExpressionConfig.from_dict(checkpoint.config)
    except InputError as error:
        raise unreadable(checkpoint.path, f"has settings out of bounds ({error.path}: {error.reason})") from None
    with torch.device("meta"):
        model = build_denoiser(config.denoiser)
    load_weights(model, checkpoint)
    return model.eval(), config, _statistics(checkpoint, config)


def _statistics(checkpoint: Checkpoint, config: ExpressionConfig) -> Statistics:
    """The statistics of a checkpoint, which must be those of its settings."""
    columns, features = len(CODEC_COLUMNS), 0 if config.denoiser.perceptual == "none" else len(PERCEPTUAL_FEATURES)
    wanted = {"mean": columns, "std": columns, "pace": 3 if config.denoiser.codec_scale == "robust" else 0}
    wanted |= {"perceptual_mean": features, "perceptual_std": features}
    given = {"pace": [], "perceptual_mean": [], "perceptual_std": []} | checkpoint.statistics
    for name, values in given.items():
        sized = isinstance(values, list) and len(values) == wanted.get(name)
        if not sized or not all(abs(value) < LARGEST for value in values):
            raise unreadable(checkpoint.path, f"has statistics that do not fit its settings ({name})")
    return Statistics.from_dict(given)
