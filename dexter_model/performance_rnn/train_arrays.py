"""Train Performance RNN from arrays: what a Ray Train worker calls, and ``training.on_arrays`` on a bare machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import PerformanceRnnConfig
from dexter_model.performance_rnn.data import Examples, ResidentEvents
from dexter_model.performance_rnn.encodings import heads
from dexter_model.performance_rnn.loss import token_loss
from dexter_model.performance_rnn.measures import evaluate
from dexter_model.performance_rnn.network import initial_network
from dexter_model.training.checkpoint import Checkpoint, load_weights
from dexter_model.training.loop import BatchLoss, Evaluation, FitResult, Hooks, Predict, Validation, fit
from dexter_model.training.resuming import steps_taken


def train_on_arrays(
    training: ResidentEvents,
    validation: ResidentEvents | None,
    config: PerformanceRnnConfig,
    out: Path,
    *,
    dataset: Mapping[str, Any],
    label: str = "trained",
    device: torch.device | str = "cpu",
    rank: int = 0,
    workers: int = 1,
    hooks: Hooks | None = None,
    seconds: float | None = None,
    warm_start: Checkpoint | None = None,
) -> FitResult:
    """Fit a network; the arguments after ``out`` are ``training.loop.fit``'s.

    Args:
        training: sequences of the training split.
        validation: of the validation split, if there are any.
        config: settings.
        out: output folder.
        dataset: version and digest of the data set, for the checkpoint.
        label: the checkpoint's name.
        device: where to train and to keep the data.
        rank: of this worker.
        workers: workers that share a batch; their number divides it.
        hooks: what the host wants to be called for.
        seconds: time limit.
        warm_start: weights to begin with, of a network of the same settings.

    Raises:
        InputError: ``out`` holds another training (``resume_mismatch``), the split holds no example (``no_examples``),
            the weights to begin with do not fit (``checkpoint_unreadable``), or ``fit``'s.
    """
    steps_taken(out, config, dataset, label)  # or a refusal
    network = initial_network(config.network, config.training.seed)
    if warm_start is not None:
        load_weights(network, warm_start)
    meta = {"system": config.system, "label": label, "config": config.to_dict(), "dataset": dict(dataset)}
    meta["statistics"] = {"mean": [], "std": []}  # events are no numbers
    return fit(
        network.to(device),
        _batch_loss(_examples(training, config, device), config, workers),
        config.training,
        out,
        meta,
        validation=None if validation is None else _validation(_examples(validation, config, device), config),
        hooks=hooks,
        rank=rank,
        seconds=seconds,
    )


def _examples(events: ResidentEvents, config: PerformanceRnnConfig, device: torch.device | str) -> Examples:
    examples = events.to(device).examples(config)
    if not len(examples):
        remedy = "Train on more or longer performances, or lower training.fewest_events"
        raise InputError("training split", "holds no sequence that is long enough", remedy, "no_examples")
    return examples


def _batch_loss(examples: Examples, config: PerformanceRnnConfig, workers: int) -> BatchLoss:
    """The loss of a worker's share of a batch of random examples."""
    share, classes = config.training.batch_size // workers, heads(config.network)

    def loss(network: Predict, generator: torch.Generator) -> Tensor:
        return token_loss(network, examples.draw(share, generator), classes)

    return loss


def _validation(examples: Examples, config: PerformanceRnnConfig) -> Validation:
    """The loss of one batch, and every figure over the whole split, whose loss decides which checkpoint is best."""
    size = config.training.batch_size
    chosen, fixed = examples.spread(config.training.validation_examples), examples.spread(size)

    def loss(network: Predict) -> Tensor:
        return token_loss(network, next(fixed.batches(size)), heads(config.network))

    def judge(network: nn.Module, folder: Path) -> Evaluation:
        figures = evaluate(network, chosen.batches(size), config.network)
        return Evaluation(figures["loss"], {f"validation/{name}": value for name, value in figures.items()})

    return Validation(loss, judge)


def described(config: PerformanceRnnConfig) -> str:
    """The model in a line."""
    with torch.device("meta"):
        parameters = sum(each.numel() for each in initial_network(config.network, 0).parameters())
    return f"LSTM of {config.network.layers}: {parameters:,} parameters"
