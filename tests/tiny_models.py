"""Checkpoints with random weights: small, quick, and as good as trained ones for everything but music."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dexter_model.expression.config import DenoiserConfig, DiffusionConfig, ExpressionConfig, TrainingConfig
from dexter_model.notes import RECORDED_NOTE
from dexter_model.training.checkpoint import write_checkpoint

MADE = {
    "dataset": {"version": "none", "digest": "none"},
    "code_version": "test",
    "seed": 0,
    "step": 0,
    "history": [],
}


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
        **MADE,
    }
    write_checkpoint(folder, {name: value.numpy() for name, value in model.state_dict().items()}, meta)
    return folder


def write_random_generator(folder: Path, system: str) -> Path:
    """A generator of a few thousand weights, as ``train_arrays`` begins with."""
    if system == "performance_rnn":
        from dexter_model.performance_rnn import config as rnn
        from dexter_model.performance_rnn.network import initial_network

        network = rnn.NetworkConfig(layers=(12, 12), density=True, histogram=True, optional=True)
        config: Any = rnn.PerformanceRnnConfig(network)
        model: Any = initial_network(network, 0)
        statistics: dict[str, Any] = {"mean": [], "std": []}
    else:
        from dexter_model.composer import config as composer
        from dexter_model.composer.data import ResidentSegments
        from dexter_model.composer.train_arrays import initial_network as initial_unet

        config = composer.ComposerConfig(network=composer.NetworkConfig(channels=16))
        model = initial_unet(config)
        statistics = ResidentSegments.of([("walk", _walk())], config.data).statistics().to_dict()
    meta = {
        "system": system,
        "label": "random",
        "config": config.to_dict(),
        "statistics": statistics,
        **MADE,
    }
    write_checkpoint(folder, {name: value.numpy() for name, value in model.state_dict().items()}, meta)
    return folder


def _walk() -> np.ndarray:
    """Notes that wander over the keyboard, RECORDED_NOTE."""
    rng, notes = np.random.default_rng(0), np.zeros(400, RECORDED_NOTE)
    notes["onset_sec"] = np.cumsum(rng.choice([0.0, 0.1, 0.2], 400))
    notes["offset_sec"] = notes["sustained_sec"] = notes["onset_sec"] + rng.uniform(0.05, 0.6, 400)
    notes["onset_beat"], notes["offset_beat"] = notes["onset_sec"] * 2, notes["offset_sec"] * 2
    notes["pitch"], notes["velocity"] = rng.integers(30, 90, 400), 64
    return notes
