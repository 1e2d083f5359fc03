"""Checkpoints with random weights: small, quick, and as good as trained ones for everything but music."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dexter_model.expression.config import DenoiserConfig, DiffusionConfig, ExpressionConfig, TrainingConfig
from dexter_model.training.checkpoint import write_checkpoint


def write_random_checkpoint(
    folder: Path,
    window: int = 60,
    scale: float = 0.02,
    training: TrainingConfig | None = None,
    diffusion: DiffusionConfig | None = None,
    **denoiser: Any,
) -> Path:
    """A denoiser of 8 channels; ``scale`` is the deviation of the output layer's weights (NaN makes it useless).

    Perceptual features of a model that has them are of unit size as they are.
    """
    import torch

    from dexter_model.expression.denoiser import ClassifierFreeDenoiser

    settings = DenoiserConfig(channels=8, layers=2, window=window, **denoiser)
    config = ExpressionConfig(settings, diffusion or DiffusionConfig(), training or TrainingConfig())
    heard = {} if settings.perceptual == "none" else {"perceptual_mean": [0.0] * 7, "perceptual_std": [1.0] * 7}
    pace = {"pace": [-1.0, 0.0, 1.0]} if settings.codec_scale == "robust" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ClassifierFreeDenoiser(config.denoiser)
        model.output.weight.data = scale * torch.randn(model.output.weight.shape)
    meta = {
        "label": "random",
        "config": config.to_dict(),
        "statistics": {"mean": [0.5, 0.5, 0.0, 0.0, 0.3], "std": [0.1, 0.1, 0.02, 0.5, 0.3], **pace, **heard},
        "dataset": {"version": "none", "digest": "none"},
        "code_version": "test",
        "seed": 0,
        "step": 0,
        "history": [],
    }
    write_checkpoint(folder, {name: value.numpy() for name, value in model.state_dict().items()}, meta)
    return folder
