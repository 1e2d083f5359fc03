"""Train DExter from arrays: what a Ray Train worker calls, and ``training.on_arrays`` on a bare machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.expression.config import ExpressionConfig
from dexter_model.expression.data import ResidentNotes, Statistics
from dexter_model.expression.denoiser import build_denoiser
from dexter_model.expression.loss import Denoiser, diffusion_loss
from dexter_model.expression.validation import RenderedWindows
from dexter_model.training.loop import BatchLoss, FitResult, Hooks, Validation, fit
from dexter_model.training.resuming import steps_taken


def train_on_arrays(
    training: ResidentNotes,
    validation: ResidentNotes | None,
    config: ExpressionConfig,
    out: Path,
    *,
    dataset: Mapping[str, Any],
    label: str = "trained",
    device: torch.device | str = "cpu",
    rank: int = 0,
    workers: int = 1,
    hooks: Hooks | None = None,
    seconds: float | None = None,
) -> FitResult:
    """Fit a denoiser; the arguments after ``out`` are ``training.loop.fit``'s.

    Args:
        training: notes of the training split; its statistics normalise both splits.
        validation: notes of the validation split, if there are any.
        config: settings.
        out: output folder.
        dataset: version and digest of the data set, for the checkpoint.
        label: the checkpoint's name.
        device: where to train and to keep the data.
        rank: of this worker.
        workers: workers that share a batch; their number divides it.
        hooks: what the host wants to be called for.
        seconds: time limit.

    Raises:
        InputError: ``out`` holds another training (``resume_mismatch``), the data lack what the model is to see
            (``no_perceptual``, ``no_pairs``), or ``fit``'s.
    """
    steps_taken(out, config, dataset, label)  # or a refusal
    statistics = training.statistics(config.denoiser.codec_scale)
    meta = {
        "system": config.system,
        "label": label,
        "config": config.to_dict(),
        "statistics": asdict(statistics),
        "dataset": dict(dataset),
    }
    return fit(
        initial_denoiser(config).to(device),
        _batch_loss(training.normalised(statistics).to(device), config, workers),
        config.training,
        out,
        meta,
        validation=None if validation is None else _validation(validation, statistics, config, device),
        hooks=hooks,
        rank=rank,
        seconds=seconds,
    )


def _batch_loss(notes: ResidentNotes, config: ExpressionConfig, workers: int) -> BatchLoss:
    """The loss of a worker's share of a batch of random windows, or of pairs of them."""
    training, window = config.training, config.denoiser.window
    share, schedule = training.batch_size // workers, noise_schedule(config.diffusion).to(notes.codec.device)
    paired = notes.paired() if training.train_target == "transfer" else None

    def loss(denoiser: Denoiser, generator: torch.Generator) -> Tensor:
        if paired is not None:
            windows = paired.draw_pairs(share, window, generator)
        else:
            windows = notes.draw(share, window, generator, training.mixup)
        return diffusion_loss(denoiser, windows, schedule, config, generator)

    return loss


def _validation(
    notes: ResidentNotes, statistics: Statistics, config: ExpressionConfig, device: torch.device | str
) -> Validation:
    """The loss of windows that lie side by side (for transfer: pairs drawn once), and renders of some of them."""
    training, normal = config.training, notes.normalised(statistics).to(device)
    schedule = noise_schedule(config.diffusion).to(device)

    def seeded() -> torch.Generator:
        return torch.Generator(device).manual_seed(training.seed)

    if training.train_target == "transfer":
        normal = normal.paired()
        fixed = normal.draw_pairs(training.validation_windows, config.denoiser.window, seeded())
    else:
        fixed = normal.tiles(config.denoiser.window, training.validation_windows)

    def loss(denoiser: Denoiser) -> Tensor:
        return diffusion_loss(denoiser, fixed, schedule, config, seeded())

    renders = RenderedWindows(notes, normal, statistics, config) if training.rendered_windows else None
    return Validation(loss, renders or None)  # also where all are empty: then the loss decides


def described(config: ExpressionConfig) -> str:
    """The model in a line: its size, what it sees, what its output means."""
    denoiser = config.denoiser
    with torch.device("meta"):
        parameters = sum(each.numel() for each in build_denoiser(denoiser).parameters())
    sees = f"{denoiser.condition} score rows, perceptual rows {denoiser.perceptual}"
    return f"{denoiser.network}: {parameters:,} parameters, {sees}, target {denoiser.target}"


def initial_denoiser(config: ExpressionConfig) -> nn.Module:
    """The denoiser that training starts from, by ``config.training.seed``; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return build_denoiser(config.denoiser)
