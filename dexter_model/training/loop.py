"""The training loop of all systems: plain torch, one process or one of several, resumable to the bit.

All random numbers of a step come from generators seeded by (seed, step, rank). No generator state needs saving, an
interrupted run draws what an undisturbed one draws, and on the CPU their loss curves and weights are equal bit for bit
(on a GPU up to the order of its sums). A system gives the loss of a batch and, if it likes, judges the model as it is
used; the loop owns optimiser, average, log and checkpoints: the last ones, to go on from, and the best one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dexter_model.training.checkpoint import CHECKPOINTS, step_folder
from dexter_model.training.config import LoopConfig
from dexter_model.training.ema import update_average
from dexter_model.training.log import TrainingLog
from dexter_model.training.ranks import average_over_ranks, failing_together
from dexter_model.training.run import History, Run, begin_run, diverged, publish, publish_if_best

Predict = Callable[..., Tensor]
BatchLoss = Callable[[Predict, torch.Generator], Tensor]


@dataclass(frozen=True)
class Progress:
    """Where a run is: mean training loss since the last row of the history, the last validation, speed."""

    step: int
    steps: int
    loss: float
    validation_loss: float | None
    criterion: float | None
    steps_per_sec: float


@dataclass(frozen=True)
class Evaluation:
    """What judging a model by what it makes came to: the lower the criterion, the better; all by name in the log."""

    criterion: float
    measures: Mapping[str, float] = field(default_factory=dict)
    images: Mapping[str, np.ndarray] = field(default_factory=dict)  # (height, width, 3) uint8


@dataclass(frozen=True)
class Validation:
    """How a system validates the averaged weights every ``validate_every`` steps, on rank 0.

    ``loss`` is that of the model on a fixed batch. ``evaluate`` uses the model as it will be used and may keep files in
    the folder it is given, ``validation/step_...``; its criterion, or else the loss, decides which checkpoint is best.
    """

    loss: Callable[[Predict], Tensor]
    evaluate: Callable[[nn.Module, Path], Evaluation] | None = None


@dataclass(frozen=True)
class FitResult:
    """What a run made: its last checkpoint, and how it went there."""

    checkpoint: Path
    digest: str
    step: int
    loss: float
    validation_loss: float | None
    seconds: float
    history: History


@dataclass(frozen=True)
class Hooks:
    """What a host wants to know while a run goes on; Ray Train needs ``checkpointed`` on every rank.

    ``logged`` is called on rank 0 at every row of the history, ``checkpointed`` on every rank after every checkpoint,
    with its folder on rank 0 and None elsewhere; ``wrap`` makes the model that computes gradients (data parallel).
    ``checkpoint_seconds`` after the last checkpoint there is another, whatever the settings say (one process only).
    """

    logged: Callable[[Progress], None] = lambda progress: None
    checkpointed: Callable[[Path | None, Progress], None] = lambda folder, progress: None
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model
    checkpoint_seconds: float = math.inf


def fit(
    model: nn.Module,
    batch_loss: BatchLoss,
    config: LoopConfig,
    out: Path,
    meta: Mapping[str, Any],
    *,
    validation: Validation | None = None,
    hooks: Hooks | None = None,
    rank: int = 0,
    seconds: float | None = None,
) -> FitResult:
    """Train until ``config.steps``, going on from the newest checkpoint in ``out`` when there is one.

    Args:
        model: the weights to fit, initialised, on the device to train on.
        batch_loss: draws a batch with the generator and returns the loss of ``predict`` on it.
        config: the loop's settings.
        out: gets ``checkpoints/step_.../``, ``best/``, ``validation/`` and ``tensorboard/``; shared by all ranks.
            Checkpoints in it are taken for this run's own: the caller makes sure of that.
        meta: for checkpoint.json: label, config, statistics, dataset.
        validation: see ``Validation``; without it no checkpoint is the best.
        hooks: see ``Hooks``.
        rank: of this process; rank 0 writes.
        seconds: stop early, with a checkpoint, after this long (one process only).

    Raises:
        InputError: losses or weights are no longer numbers (``training_diverged``), or a checkpoint cannot be read;
            of several ranks all raise (``ranks.failing_together``).
    """
    hooks, began = hooks or Hooks(), time.monotonic()
    torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as its convolutions are by default
    run = begin_run(model, config, out, meta)
    network: Any = hooks.wrap(model)
    network = torch.compile(network) if config.compile else network  # the weights keep their names in ``model``
    with failing_together(run.loss_sum.device):
        log = TrainingLog(out, run.step, config.wandb) if rank == 0 else None
    first_step, progress, published = run.step, _progress(run, 0.0), began
    while run.step < config.steps:
        _take_step(run, network, batch_loss, rank)
        elapsed = time.monotonic() - began
        late = seconds is not None and elapsed > seconds
        validating = _due(run, config.validate_every)
        if validating or _due(run, config.log_every):
            speed = (run.step - first_step) / elapsed
            progress = _record(run, validation if validating else None, log, hooks, speed)
        waited = time.monotonic() - published > hooks.checkpoint_seconds
        if late or waited or _due(run, config.checkpoint_every):
            _publish(run, rank, hooks, progress)
            published = time.monotonic()
        if late:  # without a row of the history or a validation, which the undisturbed run would not have
            break
    if log is not None:
        log.close()
    folder, elapsed = step_folder(out / CHECKPOINTS, run.step), time.monotonic() - began
    return FitResult(folder, run.digest, run.step, progress.loss, progress.validation_loss, elapsed, run.history)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the random numbers of one step on one rank: unrelated for different arguments."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _due(run: Run, every: int) -> bool:
    """Whether it is time for what is done every so many steps: at the end it is for everything."""
    return run.step % every == 0 or run.step == run.config.steps


def _take_step(run: Run, network: Predict, batch_loss: BatchLoss, rank: int) -> None:
    config, device = run.config, run.loss_sum.device
    seed = step_seed(config.seed, run.step, rank)
    generator = torch.Generator(device).manual_seed(seed)
    torch.manual_seed(seed)  # dropout draws from torch's own generators
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        loss = batch_loss(network, generator)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    together = config.gradient_clip_mode == "global"
    for weights in [list(run.model.parameters())] if together else run.model.parameters():
        torch.nn.utils.clip_grad_norm_(weights, config.gradient_clip)
    run.step += 1
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(config, run.step)
    run.optimiser.step()
    update_average(run.average, run.model, config.ema_decay, run.step)
    run.loss_sum += loss.detach()


def learning_rate(config: LoopConfig, step: int) -> float:
    """The learning rate of a step, counted from 1."""
    if step > config.milestone * config.steps:
        return config.last_learning_rate
    return config.learning_rate * min(1.0, step / max(1, config.warmup_steps))


def _record(run: Run, validation: Validation | None, log: TrainingLog | None, hooks: Hooks, speed: float) -> Progress:
    """Add a row to the history, on all ranks; rank 0, which has the log, validates, logs it and keeps the best."""
    average_over_ranks(run.loss_sum)
    with failing_together(run.loss_sum.device):
        evaluation = _add_row(run, validation if log is not None else None)
        progress = _progress(run, speed)
        if log is not None:
            _log_row(log, run, evaluation, speed)
            publish_if_best(run)
            hooks.logged(progress)
    return progress


def _publish(run: Run, rank: int, hooks: Hooks, progress: Progress) -> None:
    """Write a checkpoint, on rank 0, that speaks for all ranks, and tell the host of it on each."""
    average_over_ranks(run.loss_sum)
    with failing_together(run.loss_sum.device):
        folder = publish(run) if rank == 0 else None
    hooks.checkpointed(folder, progress)


def _add_row(run: Run, validation: Validation | None) -> Evaluation | None:
    """Add a row to the history: the mean loss of all ranks since the last one, and what validation says."""
    since = run.step - int(run.history[-1][0] or 0 if run.history else 0)
    loss = float(run.loss_sum) / since
    validation_loss = criterion = evaluation = None
    if validation is not None:
        model = run.averaged()
        with torch.no_grad():
            criterion = validation_loss = float(validation.loss(model))
            if validation.evaluate is not None:
                evaluation = validation.evaluate(model, step_folder(run.out / "validation", run.step))
                criterion = evaluation.criterion
    for name, value in (("training loss", loss), ("validation loss", validation_loss), ("criterion", criterion)):
        if value is not None and not math.isfinite(value):
            raise diverged(f"the {name} is {value} at step {run.step}")
    run.history.append([run.step, loss, validation_loss, criterion])
    run.loss_sum.zero_()
    return evaluation


def _log_row(log: TrainingLog, run: Run, evaluation: Evaluation | None, speed: float) -> None:
    """Log the history's last row, and what the evaluation measured and drew."""
    _, loss, validation_loss, _ = run.history[-1]
    named = {"loss/train": loss, "loss/validation": validation_loss, "speed/steps_per_sec": speed}
    scalars = {name: value for name, value in named.items() if value is not None}
    measures, images = (evaluation.measures, evaluation.images) if evaluation is not None else ({}, {})
    log.write(run.step, {**scalars, **measures}, images)


def _progress(run: Run, speed: float) -> Progress:
    loss = float(run.history[-1][1] or 0.0) if run.history else math.nan
    validated = [row for row in run.history if row[2] is not None]
    _, _, validation_loss, criterion = validated[-1] if validated else (None,) * 4
    return Progress(run.step, run.config.steps, loss, validation_loss, criterion, speed)
