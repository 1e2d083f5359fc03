"""Performances by number, as bulk jobs ask for them: MIDI files of what the network plays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch

from dexter_model.codec.performance_midi import performance_as_midi
from dexter_model.performance_rnn.bundle import load_model
from dexter_model.performance_rnn.config import PerformanceRnnConfig
from dexter_model.performance_rnn.generation import as_performance, generate, load_network
from dexter_model.performance_rnn.primer import primer, with_primer_read
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.performance_rnn.vocabulary import STEPS_PER_SECOND
from dexter_model.systems import Made
from dexter_model.training.checkpoint import Checkpoint

__all__ = ["HOW", "Maker", "checked", "load_model"]


HOW = GenerationSettings


def checked(checkpoint: Checkpoint, how: GenerationSettings) -> GenerationSettings:
    """Settings as workers anywhere can use them, with the notes of a primer's file in place of its name.

    A model that may be steered or not, and is told nothing, is not: the original's default of 15 notes a second and
    of all pitch classes alike is nobody's wish.

    Raises:
        InputError: they do not fit the model (``config_invalid``), or the primer's.
    """
    network = PerformanceRnnConfig.from_dict(checkpoint.config).network
    how.check(network)
    told = how.notes_per_second or how.pitch_class_histogram or how.disable_conditioning
    how = with_primer_read(how if told or not network.optional else replace(how, disable_conditioning=(True,)))
    primer(how, network)
    return how


class Maker:
    """Makes performances, on the GPU if there is one; those of one call are one batch."""

    def __init__(self, checkpoint: Checkpoint, how: GenerationSettings, seed: int) -> None:
        self.network = load_network(checkpoint, how.precision).to("cuda" if torch.cuda.is_available() else "cpu")
        self.settings, self.seed = how, seed

    def run(self, numbers: Sequence[int]) -> list[Made]:
        """The performances of these numbers."""
        seeds = [_seed(self.seed, number) for number in numbers]
        return [
            Made(performance_as_midi(as_performance(one)), len(one.notes), self.settings.num_steps / STEPS_PER_SECOND)
            for one in generate(self.network, self.settings, seeds)
        ]


def _seed(seed: int, number: int) -> int:
    """A seed for each performance, unrelated for different arguments."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:7])
