"""How well a network predicts: in nats and hits, over all events and over each kind, a step of 10 ms and a note."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.performance_rnn.encodings import default_token, heads, token_steps
from dexter_model.performance_rnn.loss import NO_TOKEN, Batch, cross_entropies
from dexter_model.performance_rnn.vocabulary import KINDS, event_kind

NOTE_PARTS = {"shift": [0, 1], "pitch": [2], "velocity": [3], "duration": [4, 5]}  # columns of a note's numbers


class Predictions(NamedTuple):
    """Of n predicted tokens (n, K): what came, the nats it was given, and what was thought likeliest."""

    labels: np.ndarray
    nats: np.ndarray
    guesses: np.ndarray


def evaluate(
    network: Callable[[Tensor, Tensor], Tensor], batches: Iterable[Batch], config: NetworkConfig
) -> dict[str, float]:
    """All figures (``measures``) of a network over all batches together."""
    return measures(predictions(network, batches, config), config)


@torch.no_grad()
def predictions(
    network: Callable[[Tensor, Tensor], Tensor], batches: Iterable[Batch], config: NetworkConfig
) -> Predictions:
    """What a network makes of batches, token by token."""
    parts = [_of_batch(network, batch, heads(config)) for batch in batches]
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _of_batch(
    network: Callable[[Tensor, Tensor], Tensor], batch: Batch, classes: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    logits, labels = network(*batch.inputs), batch.labels
    there = labels[..., 0] != NO_TOKEN
    guesses = torch.stack([part.argmax(dim=-1) for part in logits.split(classes, dim=-1)], dim=-1)
    columns = (labels, cross_entropies(logits, labels, classes), guesses)
    return tuple(column[there].cpu().numpy() for column in columns)


def measures(found: Predictions, config: NetworkConfig) -> dict[str, float]:
    """Figures by name; nats are means over tokens and, in the encoding of notes, over their numbers.

    ``event_accuracy`` and ``no_event_accuracy`` are the original's: tokens other than the default one, and those.
    ``per_class_accuracy`` is the mean over all classes, with 0 for those that never came. Steps are those that pass
    at the predicted tokens; notes are those that begin there. Kinds without tokens are left out.
    """
    hits = found.labels == found.guesses
    default = (found.labels == default_token(config)).all(axis=1)
    total, steps = float(found.nats.sum(dtype=np.float64)), int(token_steps(found.labels).sum())
    loss = float(found.nats.mean(dtype=np.float64))
    figures = {
        "loss": loss,
        "perplexity": _exp(loss),
        "accuracy": float(hits.mean()),
        "per_class_accuracy": _per_class(found.labels, hits, heads(config)),
        **_named("loss", "perplexity", "per_step", total, steps),
        **_named("loss", "perplexity", "per_note", total, _notes(found.labels)),
    }
    for name, chosen in (("event_accuracy", ~default), ("no_event_accuracy", default)):
        if chosen.any():
            figures[name] = float(hits[chosen].mean())
    for name, rows, columns in _kinds(found.labels):
        if rows.any():
            figures[f"loss_{name}"] = float(found.nats[rows][:, columns].mean(dtype=np.float64))
            figures[f"accuracy_{name}"] = float(hits[rows][:, columns].mean())
    return figures


def _kinds(labels: np.ndarray) -> Iterable[tuple[str, np.ndarray, list[int]]]:
    """Names of the kinds of what is predicted, the tokens they are of, and the columns."""
    if labels.shape[1] == 1:
        kind = event_kind(labels[:, 0])
        return [(name, kind == number, [0]) for number, name in enumerate(KINDS)]
    return [(name, np.ones(len(labels), bool), columns) for name, columns in NOTE_PARTS.items()]


def _notes(labels: np.ndarray) -> int:
    return len(labels) if labels.shape[1] > 1 else int((event_kind(labels[:, 0]) == 0).sum())


def _named(loss: str, perplexity: str, per: str, total: float, count: int) -> dict[str, float]:
    return {f"{loss}_{per}": total / count, f"{perplexity}_{per}": _exp(total / count)} if count else {}


def _per_class(labels: np.ndarray, hits: np.ndarray, classes: tuple[int, ...]) -> float:
    rates = []
    for column, size in enumerate(classes):
        came = np.bincount(labels[:, column], minlength=size)
        rates.append(np.bincount(labels[:, column], hits[:, column], minlength=size) / np.maximum(came, 1))
    return float(np.concatenate(rates).mean())


def _exp(nats: float) -> float:
    return math.exp(min(nats, 700.0))  # beyond it there is no float
