"""A model while it is trained, how it is published as a checkpoint, and how a run goes on from one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dexter_model.digests import code_version
from dexter_model.errors import InputError
from dexter_model.training.checkpoint import (
    BEST,
    CHECKPOINTS,
    latest_checkpoint,
    load_checkpoint,
    load_training_state,
    prune_checkpoints,
    recover_checkpoint,
    step_folder,
    write_checkpoint,
)
from dexter_model.training.config import LoopConfig
from dexter_model.training.ema import Weights, copy_weights

History = list[list[float | None]]  # [step, train loss, validation loss or None, criterion or None]


@dataclass
class Run:
    """Weights, their average and the optimiser's moments, and how it went; ``meta`` is what a checkpoint tells beside.

    ``loss_sum`` is a scalar on the model's device: losses since the last row of the history.
    """

    model: nn.Module
    config: LoopConfig
    out: Path
    meta: Mapping[str, Any]
    optimiser: torch.optim.Optimizer
    average: Weights
    loss_sum: Tensor
    step: int = 0
    history: History = field(default_factory=list)
    digest: str = ""

    def averaged(self) -> nn.Module:
        """A copy of the model with the averaged weights, in evaluation mode."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.average)
        return model.eval()


def begin_run(model: nn.Module, config: LoopConfig, out: Path, meta: Mapping[str, Any]) -> Run:
    """A run of ``model`` from its beginning, or from the newest checkpoint in ``out``.

    Raises:
        InputError: the checkpoint cannot be read.
    """
    device = next(model.parameters()).device
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, eps=config.adam_epsilon, fused=True)
    run = Run(model, config, out, meta, optimiser, copy_weights(model), torch.zeros((), device=device))
    latest = latest_checkpoint(out / CHECKPOINTS)
    if latest is not None:
        _restore(run, latest)
    return run


def publish(run: Run) -> Path:
    """Write the checkpoint of the run's step, clear away old ones and what killed runs left; returns its folder.

    Raises:
        InputError: weights are no longer numbers (``training_diverged``).
    """
    if not all(bool(weights.isfinite().all()) for weights in run.average.values()):
        raise diverged(f"the weights are no longer numbers at step {run.step}")
    folder = step_folder(run.out / CHECKPOINTS, run.step)
    resuming = {f"model/{name}": value for name, value in run.model.state_dict().items()} | {"loss_sum": run.loss_sum}
    for index, slots in run.optimiser.state_dict()["state"].items():
        resuming |= {f"optimiser/{index}/{name}": value for name, value in slots.items()}
    run.digest = write_checkpoint(folder, _as_arrays(run.average), _described(run), _as_arrays(resuming))
    prune_checkpoints(run.out / CHECKPOINTS, run.config.keep_checkpoints)
    recover_checkpoint(run.out / BEST)
    return folder


def publish_if_best(run: Run) -> None:
    """Write the averaged weights as the best model, which nothing resumes from, if the last validation says so."""
    *before, criterion = (row[3] for row in run.history)
    if criterion is not None and all(other is None or criterion < other for other in before):
        write_checkpoint(run.out / BEST, _as_arrays(run.average), _described(run))


def diverged(reason: str) -> InputError:
    """The error of a run that came to nothing."""
    return InputError("training.learning_rate", reason, "Lower it, or the gradient clip", "training_diverged")


def _restore(run: Run, folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    state = {name: torch.from_numpy(value) for name, value in load_training_state(folder).items()}
    weights = {name.removeprefix("model/"): value for name, value in state.items() if name.startswith("model/")}
    run.model.load_state_dict(weights)
    for name, average in checkpoint.state.items():
        run.average[name].copy_(torch.from_numpy(average))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("optimiser/"):
            _, index, slot = name.split("/")
            slots.setdefault(int(index), {})[slot] = value
    run.optimiser.load_state_dict({"state": slots, "param_groups": run.optimiser.state_dict()["param_groups"]})
    run.loss_sum.copy_(state["loss_sum"])
    run.step, run.history, run.digest = checkpoint.meta["step"], checkpoint.meta["history"], checkpoint.digest


def _described(run: Run) -> dict[str, Any]:
    told = {"code_version": code_version(), "seed": run.config.seed, "step": run.step, "history": run.history}
    return {**told, **run.meta}


def _as_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}
