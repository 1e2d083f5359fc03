"""The training loop of all systems: plain torch, one process or one of several, resumable to the bit.

All random numbers of a step come from a generator seeded by (seed, step, rank). No generator state needs saving, an
interrupted run draws what an undisturbed one draws, and on the CPU their loss curves and weights are equal bit for bit
(on a GPU up to the order of its sums). A system gives the loss of a batch; the loop owns optimiser, average, log and
checkpoints.
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
from torch.func import functional_call
from torch.utils.tensorboard import SummaryWriter

from dexter_model.digests import code_version
from dexter_model.errors import InputError
from dexter_model.training.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    load_training_state,
    prune_checkpoints,
    refuse_other_run,
    step_folder,
    write_checkpoint,
)
from dexter_model.training.config import LoopConfig
from dexter_model.training.ema import Weights, copy_weights, update_average

Predict = Callable[..., Tensor]
BatchLoss = Callable[[Predict, torch.Generator], Tensor]
History = list[list[float | None]]  # [step, train loss, validation loss or None]


@dataclass(frozen=True)
class Progress:
    """Where a run is: mean training loss since the last row of the history, the last validation loss, speed."""

    step: int
    steps: int
    loss: float
    validation_loss: float | None
    steps_per_sec: float


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
    """

    logged: Callable[[Progress], None] = lambda progress: None
    checkpointed: Callable[[Path | None, Progress], None] = lambda folder, progress: None
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model


@dataclass
class _Run:
    """What changes while training."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    average: Weights
    loss_sum: Tensor
    step: int = 0
    history: History = field(default_factory=list)
    digest: str = ""


def fit(
    model: nn.Module,
    batch_loss: BatchLoss,
    config: LoopConfig,
    out: Path,
    meta: Mapping[str, Any],
    *,
    validation_loss: Callable[[Predict], Tensor] | None = None,
    hooks: Hooks | None = None,
    rank: int = 0,
    seconds: float | None = None,
) -> FitResult:
    """Train until ``config.steps``, going on from the newest checkpoint in ``out`` when there is one.

    Args:
        model: the weights to fit, initialised, on the device to train on.
        batch_loss: draws a batch with the generator and returns the loss of ``predict`` on it.
        config: the loop's settings.
        out: gets ``checkpoints/step_.../`` and ``tensorboard/``; shared by all ranks.
        meta: for checkpoint.json: label, config, statistics, dataset.
        validation_loss: loss of ``predict`` on a fixed batch; computed with the averaged weights.
        hooks: see ``Hooks``.
        rank: of this process; rank 0 writes.
        seconds: stop early, with a checkpoint, after this long (one process only).

    Raises:
        InputError: the checkpoint in ``out`` was made with other settings or data (``resume_mismatch``), or the loss is
            no longer a number (``training_diverged``).
    """
    hooks, began = hooks or Hooks(), time.monotonic()
    torch.set_num_threads(config.threads)
    run = _begin(model, config, out / "checkpoints", meta)
    network = hooks.wrap(model)
    first_step = run.step
    log = SummaryWriter(str(out / "tensorboard"), purge_step=run.step + 1) if rank == 0 else None
    progress = _progress(run, config, 0.0)
    while run.step < config.steps:
        _take_step(run, network, batch_loss, config, rank)
        late = seconds is not None and time.monotonic() - began > seconds
        last = late or run.step == config.steps
        if last or run.step % config.log_every == 0 or run.step % config.validate_every == 0:
            validate = rank == 0 and (last or run.step % config.validate_every == 0)
            _record(run, validation_loss if validate else None)
            progress = _progress(run, config, (run.step - first_step) / (time.monotonic() - began))
            if log is not None:
                _write_log(log, progress)
                hooks.logged(progress)
        if last or run.step % config.checkpoint_every == 0:
            folder = _publish(run, config, out / "checkpoints", meta) if rank == 0 else None
            hooks.checkpointed(folder, progress)
        if last:
            break
    if log is not None:
        log.close()
    folder = step_folder(out / "checkpoints", run.step)
    elapsed = time.monotonic() - began
    return FitResult(folder, run.digest, run.step, progress.loss, progress.validation_loss, elapsed, run.history)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the random numbers of one step on one rank: unrelated for different arguments."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _begin(model: nn.Module, config: LoopConfig, checkpoints: Path, meta: Mapping[str, Any]) -> _Run:
    device = next(model.parameters()).device
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    run = _Run(model, optimiser, copy_weights(model), torch.zeros((), device=device))
    latest = latest_checkpoint(checkpoints)
    if latest is not None:
        _restore(run, latest, meta, config.steps)
    return run


def _take_step(run: _Run, network: nn.Module, batch_loss: BatchLoss, config: LoopConfig, rank: int) -> None:
    device = run.loss_sum.device
    generator = torch.Generator(device)
    generator.manual_seed(step_seed(config.seed, run.step, rank))
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        loss = batch_loss(network, generator)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.gradient_clip)
    run.step += 1
    for group in run.optimiser.param_groups:
        group["lr"] = config.learning_rate * min(1.0, run.step / max(1, config.warmup_steps))
    run.optimiser.step()
    update_average(run.average, run.model, config.ema_decay, run.step)
    run.loss_sum += loss.detach()


def _record(run: _Run, validation_loss: Callable[[Predict], Tensor] | None) -> None:
    """Add a row to the history: the mean loss since the last one."""
    since = run.step - int(run.history[-1][0] or 0 if run.history else 0)
    loss = float(run.loss_sum) / since
    if not math.isfinite(loss):
        raise _diverged(f"the training loss is {loss} at step {run.step}")
    validation = None
    if validation_loss is not None:
        with torch.no_grad():
            validation = float(validation_loss(lambda *inputs: functional_call(run.model, run.average, inputs)))
    run.history.append([run.step, loss, validation])
    run.loss_sum.zero_()


def _progress(run: _Run, config: LoopConfig, speed: float) -> Progress:
    loss = float(run.history[-1][1] or 0.0) if run.history else math.nan
    validated = [row[2] for row in run.history if row[2] is not None]
    return Progress(run.step, config.steps, loss, validated[-1] if validated else None, speed)


def _write_log(log: SummaryWriter, progress: Progress) -> None:
    log.add_scalar("loss/train", progress.loss, progress.step)
    log.add_scalar("speed/steps_per_sec", progress.steps_per_sec, progress.step)
    if progress.validation_loss is not None:
        log.add_scalar("loss/validation", progress.validation_loss, progress.step)
    log.flush()


def _publish(run: _Run, config: LoopConfig, checkpoints: Path, meta: Mapping[str, Any]) -> Path:
    if not all(bool(weights.isfinite().all()) for weights in run.average.values()):
        raise _diverged(f"the weights are no longer numbers at step {run.step}")
    folder = step_folder(checkpoints, run.step)
    described = {"code_version": code_version(), "seed": config.seed, "step": run.step, "history": run.history, **meta}
    resuming = {f"model/{name}": value for name, value in run.model.state_dict().items()} | {"loss_sum": run.loss_sum}
    for index, slots in run.optimiser.state_dict()["state"].items():
        resuming |= {f"optimiser/{index}/{name}": value for name, value in slots.items()}
    run.digest = write_checkpoint(folder, _as_arrays(run.average), described, _as_arrays(resuming))
    prune_checkpoints(checkpoints, config.keep_checkpoints)
    return folder


def _restore(run: _Run, folder: Path, meta: Mapping[str, Any], steps: int) -> None:
    checkpoint = load_checkpoint(folder)
    refuse_other_run(checkpoint, meta, steps)
    state = {name: torch.from_numpy(value) for name, value in load_training_state(folder).items()}
    run.model.load_state_dict({name[6:]: value for name, value in state.items() if name.startswith("model/")})
    for name, weights in checkpoint.state.items():
        run.average[name].copy_(torch.from_numpy(weights))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("optimiser/"):
            _, index, slot = name.split("/")
            slots.setdefault(int(index), {})[slot] = value
    run.optimiser.load_state_dict({"state": slots, "param_groups": run.optimiser.state_dict()["param_groups"]})
    run.loss_sum.copy_(state["loss_sum"])
    run.step, run.history, run.digest = checkpoint.meta["step"], checkpoint.meta["history"], checkpoint.digest


def _diverged(reason: str) -> InputError:
    return InputError("training.learning_rate", reason, "Lower it, or the gradient clip", "training_diverged")


def _as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}
