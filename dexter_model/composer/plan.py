"""How pieces are composed, and where their noise comes from; needs no torch.

Everything random belongs to a piece: its noise is drawn from a seed of its own, a stream for every step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from dexter_model.composer.config import PROGRAMS
from dexter_model.errors import InputError
from dexter_model.training.config import setting

Sampler = Literal["dpm-solver++", "ddim", "ddpm", "ddpm-beta"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
SEED = 13
LOWEST, HIGHEST = 21, 108  # of a piano


def must(holds: bool, option: str, reason: str, remedy: str) -> None:
    """Refuse an option unless it ``holds`` (``InputError``, ``option_invalid``)."""
    if not holds:
        raise InputError(f"--{option}", reason, remedy, "option_invalid")


@dataclass(frozen=True)
class Composing:
    """How pieces are composed.

    Raises:
        InputError: a value that makes no sense (``option_invalid``).
    """

    steps: int = setting(20, "evaluations of the network")
    sampler: Sampler = setting("dpm-solver++", "how a step is taken")  # noqa: RUF009 (an immutable default)
    eta: float = setting(0.0, "of DDIM: share of DDPM's noise")
    programs: tuple[int, ...] = setting((0,), "an instrument a row; fewer than the model's leave the others asleep")
    tempo: float = setting(60.0, "beats a minute, of a model that counts in beats: it knows of no tempo")
    lowest: int = setting(LOWEST, "MIDI pitch; those outside are moved to the nearest that is not")
    highest: int = setting(HIGHEST, "MIDI pitch")
    faithful: bool = setting(False, "as the original: no bounds while sampling, notes as they come")

    def __post_init__(self) -> None:
        must(self.steps >= 1, "steps", "is less than 1", "Give 1 or more")
        must(self.sampler in SAMPLERS, "sampler", "is not known", f"Take one of {', '.join(SAMPLERS)}")
        must(0.0 <= self.eta <= 1.0, "eta", "is not between 0 and 1", "Give a number between them")
        must(not self.eta or self.sampler == "ddim", "eta", "is DDIM's alone", "Add --sampler ddim")
        general = all(0 <= program < PROGRAMS for program in self.programs)
        must(len(self.programs) > 0 and general, "programs", "are none of General MIDI's", "Give some of 0 to 127")
        must(10.0 <= self.tempo <= 1000.0, "tempo", "is not between 10 and 1000", "Give a number between them")
        ordered = 0 <= self.lowest <= self.highest <= 127
        must(ordered, "lowest", "and --highest are no range of MIDI pitches", "Give two of 0 to 127, in order")


REFERENCE = Composing(steps=1000, sampler="ddpm-beta", lowest=0, highest=127, faithful=True)


def noise_of(seed: int, piece: int, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise (float32) of a piece: 0 is where sampling starts, k what the k-th step draws."""
    own_seed = hashlib.sha256(f"{seed}:{piece}".encode()).digest()
    philox = np.random.Philox(key=int.from_bytes(own_seed[:16], "little"), counter=[0, 0, 0, step])
    return np.random.Generator(philox).standard_normal(shape, dtype=np.float32)
