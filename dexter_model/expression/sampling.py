"""From noise to codecs: the sampling loop that rendering calls, and the denoiser a checkpoint holds.

Deterministic given the noise (DDIM, eta 0), so whoever draws the noise decides what is reproducible.

Shapes: B windows, N notes, R condition rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dexter_model.diffusion.guidance import guided
from dexter_model.diffusion.schedule import NoiseSchedule, sampling_times, x0_from_noise
from dexter_model.diffusion.steps import ddim_step
from dexter_model.errors import InputError
from dexter_model.expression.condition import drop_condition
from dexter_model.expression.config import ExpressionConfig
from dexter_model.expression.data import LIMIT, Statistics
from dexter_model.expression.denoiser import build_denoiser
from dexter_model.training.checkpoint import Checkpoint, load_weights, unreadable


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
) -> Tensor:
    """Sample codecs for windows of notes.

    Args:
        model: the denoiser, in evaluation mode, on the device of the tensors.
        condition_BNR: scaled score rows (``condition.score_condition``).
        mask_BN: True on real notes, False on padding.
        noise_BN5: standard normal noise, an item's own; what it holds on padding does not matter.
        schedule: the schedule the model was trained with, on the same device.
        steps: evaluations of the model (two forwards each unless ``guidance`` is 1).
        guidance: weight w of classifier-free guidance.

    Returns:
        (B, N, 5) float32 z-scored codecs; 0 on padding.
    """
    mask_BN1 = mask_BN[..., None]
    null_BNR = drop_condition(condition_BNR)
    times = sampling_times(len(schedule), steps)
    alpha_bars = [*(schedule.alpha_bar_T[t] for t in times), schedule.alpha_bar_T.new_ones(())]
    x_BN5 = noise_BN5 * mask_BN1
    for t, now, then in zip(times, alpha_bars[:-1], alpha_bars[1:], strict=True):
        t_B = torch.full((len(x_BN5),), t, device=x_BN5.device)
        predicted = model(x_BN5, t_B, condition_BNR)
        if guidance != 1.0:
            predicted = guided(predicted, model(x_BN5, t_B, null_BNR), guidance)
        x0 = x0_from_noise(x_BN5, predicted, now) if model.config.target == "epsilon" else predicted
        x_BN5 = ddim_step(x_BN5, x0.clamp(-LIMIT, LIMIT), now, then)[0] * mask_BN1
    return x_BN5


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
    return model.eval(), config, Statistics.from_dict(checkpoint.statistics)
