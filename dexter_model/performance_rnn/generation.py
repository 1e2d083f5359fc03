"""Performances from a trained network: begun by a primer, rolled out in a batch, cut to length, as notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from dexter_model.errors import InputError
from dexter_model.notes import PERFORMED_NOTE, Performance
from dexter_model.performance_rnn.config import NetworkConfig, PerformanceRnnConfig
from dexter_model.performance_rnn.encodings import heads, notes_of_tuples, token_steps
from dexter_model.performance_rnn.events import notes_of_events, with_length
from dexter_model.performance_rnn.loss import cross_entropies
from dexter_model.performance_rnn.network import PerformanceRnn, in_bfloat16
from dexter_model.performance_rnn.primer import Primer, primer, with_primer_read
from dexter_model.performance_rnn.rollout import Rollout, steering_over_time
from dexter_model.performance_rnn.settings import LONGEST_NOTE, MOST_ROWS, GenerationSettings
from dexter_model.performance_rnn.vocabulary import STEPS_PER_SECOND
from dexter_model.training.checkpoint import Checkpoint, load_weights, unreadable


class Generated(NamedTuple):
    """A performance: its tokens (n, K), primer included, the step they begin at, and its notes, STEP_NOTE."""

    tokens: np.ndarray
    start: int
    notes: np.ndarray


def load_network(checkpoint: Checkpoint, precision: Literal["float32", "bfloat16"] = "float32") -> PerformanceRnn:
    """The network of a checkpoint, in evaluation mode on the CPU.

    Args:
        checkpoint: a model.
        precision: of its layers; in bfloat16 it is to be run a token at a time (``network.in_bfloat16``).

    Raises:
        InputError: settings or weights do not fit (``checkpoint_unreadable``).
    """
    try:
        config = PerformanceRnnConfig.from_dict(checkpoint.config)
    except InputError as error:
        raise unreadable(checkpoint.path, f"has settings out of bounds ({error.path}: {error.reason})") from None
    with torch.device("meta"):  # what settings ask for takes no memory before the weights are seen to fit
        network = PerformanceRnn(config.network)
    load_weights(network, checkpoint)
    return (in_bfloat16(network) if precision == "bfloat16" else network).eval()


@torch.inference_mode()
def generate(network: PerformanceRnn, settings: GenerationSettings, seeds: Sequence[int]) -> list[Generated]:
    """Performances of exactly ``settings.num_steps`` steps, one a seed, as many together as there is room for.

    A seed's performance is the same in every batch in float64; in float32 as long as products of matrices of another
    height round alike.

    Args:
        network: in evaluation mode, on its device.
        settings: how.
        seeds: of the outputs.

    Raises:
        InputError: settings that do not fit the network, or a primer's.
    """
    settings = with_primer_read(settings)
    settings.check(network.config)
    begun = primer(settings, network.config)
    if int(token_steps(begun.tokens).sum()) >= begun.total or not seeds:
        return [_finished(begun.tokens, begun, network.config) for _ in seeds]
    size = MOST_ROWS // settings.candidates
    batches = [seeds[first : first + size] for first in range(0, len(seeds), size)]
    made = [tokens for batch in batches for tokens in Rollout(network, settings, begun, batch).run()]
    return [_finished(np.concatenate([begun.tokens, tokens]), begun, network.config) for tokens in made]


@torch.inference_mode()
def log_likelihood(network: PerformanceRnn, tokens: np.ndarray, settings: GenerationSettings) -> float:
    """Log-probability in nats of all tokens (n, K) of a performance but its first, steered by ``settings``."""
    settings.check(network.config)
    if len(tokens) < 2:
        return 0.0
    labels = torch.from_numpy(tokens.astype(np.int64))[None].to(network.table.device)
    clock = np.cumsum(token_steps(tokens))
    steering = steering_over_time(network, settings, int(clock[-1]))
    logits = network(labels[:, :-1], steering[torch.from_numpy(clock[:-1]).to(labels.device)][None])
    return -float(cross_entropies(logits, labels[:, 1:], heads(network.config)).sum())


def as_performance(generated: Generated) -> Performance:
    """A generated performance as others are: times in s, without pedal."""
    notes = np.zeros(len(generated.notes), PERFORMED_NOTE)
    notes["onset_sec"] = generated.notes["onset"] / STEPS_PER_SECOND
    notes["keydown_sec"] = (generated.notes["offset"] - generated.notes["onset"]) / STEPS_PER_SECOND
    notes["duration_sec"] = notes["keydown_sec"]
    notes["pitch"], notes["velocity"] = generated.notes["pitch"], generated.notes["velocity"]
    return Performance(np.array([f"n{index}" for index in range(len(notes))], dtype=str), notes, np.zeros((0, 2)))


def _finished(tokens: np.ndarray, begun: Primer, config: NetworkConfig) -> Generated:
    """A performance of the right length: cut where the time is over, or silent to the end."""
    tokens = tokens.astype(np.uint16)
    if config.encoding != "notes":
        tokens = with_length(tokens[:, 0], begun.total)[:, None]
        return Generated(
            tokens, begun.start, notes_of_events(tokens[:, 0], config.velocity_bins, begun.start, LONGEST_NOTE)
        )
    tokens = tokens[int(not begun.part) :]
    tokens = tokens[np.cumsum(token_steps(tokens)) < begun.total]
    notes = notes_of_tuples(tokens, config.velocity_bins)
    notes["offset"] = np.minimum(notes["offset"], np.minimum(notes["onset"] + LONGEST_NOTE, begun.total))
    return Generated(tokens, begun.start, notes)
