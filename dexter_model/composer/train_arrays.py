"""Train the composer from arrays: what a Ray Train worker calls, and ``training.on_arrays`` on a bare machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dexter_model.composer.config import ComposerConfig
from dexter_model.composer.data import ResidentSegments
from dexter_model.composer.loss import diffusion_loss
from dexter_model.composer.network import ComposerUnet
from dexter_model.composer.scale import Statistics
from dexter_model.composer.validation import HeldOut
from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.errors import InputError
from dexter_model.training.loop import BatchLoss, FitResult, Hooks, Predict, Validation, fit
from dexter_model.training.resuming import steps_taken


def train_on_arrays(
    training: ResidentSegments,
    validation: ResidentSegments | None,
    config: ComposerConfig,
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
    """Fit a composer; the arguments after ``out`` are ``training.loop.fit``'s.

    Args:
        training: segments of the training split; its statistics normalise both splits.
        validation: segments of the validation split, if there are any.
        config: settings; the segments were cut by its part ``data``.
        out: output folder.
        dataset: version and digest of the data set, for the checkpoint.
        label: the checkpoint's name.
        device: where to train and to keep the data.
        rank: of this worker.
        workers: workers that share a batch; their number divides it.
        hooks: what the host wants to be called for.
        seconds: time limit.

    Raises:
        InputError: ``out`` holds another training (``resume_mismatch``), the segments are none (``no_segments``) or cut
            by other settings (``segments_mismatch``), or ``fit``'s.
    """
    steps_taken(out, config, dataset, label)  # or a refusal
    for segments in (training, validation):
        _refuse_others(segments, config)
    statistics = training.statistics()
    meta = {"system": config.system, "label": label, "config": config.to_dict(), "dataset": dict(dataset)}
    meta["statistics"] = statistics.to_dict()
    return fit(
        initial_network(config).to(device),
        _batch_loss(training.to(device), statistics, config, workers),
        config.training,
        out,
        meta,
        validation=_validation(validation, statistics, config, device),
        hooks=hooks,
        rank=rank,
        seconds=seconds,
    )


def _refuse_others(segments: ResidentSegments | None, config: ComposerConfig) -> None:
    if segments is not None and segments.config != config.data:
        was, wanted = asdict(segments.config), asdict(config.data)
        told = ", ".join(f"{name} {was[name]}, not {wanted[name]}" for name in wanted if was[name] != wanted[name])
        raise InputError("segments", f"were made with {told}", "Make them again", "segments_mismatch")


def _batch_loss(segments: ResidentSegments, statistics: Statistics, config: ComposerConfig, workers: int) -> BatchLoss:
    """The loss of a worker's share of a batch of random segments."""
    training = config.training
    share, schedule = training.batch_size // workers, noise_schedule(config.diffusion).to(segments.values.device)

    def loss(network: Predict, generator: torch.Generator) -> Tensor:
        drawn = segments.draw(share, generator, training.transpose, training.stretch)
        batch = drawn._replace(values_BHN3=statistics.normalise(drawn.values_BHN3, config.data))
        return diffusion_loss(network, batch, schedule, config, generator)

    return loss


def _validation(
    segments: ResidentSegments | None, statistics: Statistics, config: ComposerConfig, device: torch.device | str
) -> Validation | None:
    if segments is None or not len(segments):
        return None
    held_out = HeldOut(segments, statistics, config, device)
    return Validation(held_out.loss, held_out.evaluate)


def initial_network(config: ComposerConfig) -> ComposerUnet:
    """The network that training starts from, by ``config.training.seed``; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return ComposerUnet(config.network, config.data)


def described(config: ComposerConfig) -> str:
    """The model in a line."""
    with torch.device("meta"):
        parameters = sum(each.numel() for each in ComposerUnet(config.network, config.data).parameters())
    return f"U-Net: {parameters:,} parameters, segments of {config.data.rows} x {config.data.notes} notes"
