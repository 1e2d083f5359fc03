"""Settings of the composer: plain dataclasses, so that a bare machine with torch can train.

Defaults are those of the corrected system; ``REFERENCE`` is the original, with its defects, for comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from dexter_model.diffusion.config import DiffusionConfig
from dexter_model.training.config import LoopConfig, Parts, one_of, require, setting

PROGRAMS = 128  # of General MIDI
SMALLEST = 16  # channels: Squeeze-Excitation has a sixteenth of them inside
LEVELS = 3  # the network halves the notes so often


@dataclass(frozen=True)
class DataConfig:
    """How performances become segments, and segments numbers of unit size."""

    extraction: Literal["fixed", "reference"] = setting(
        "fixed",
        "reference: as the original reads and cuts; a note beyond the limits then refuses its piece",
    )
    notes: int = setting(128, "of an instrument in a segment, a multiple of 8")
    rows: int = setting(1, "instruments of a segment, each with notes of its own")
    programs: Literal["piano", "keyboard", "all"] = setting("piano", "what is read; keyboard: pianos and organs")
    clock: Literal["seconds", "beats"] = setting("seconds", "what durations and deltas are counted in")
    ends: Literal["key", "sustained"] = setting(
        "sustained", "where a note ends: key up, or with the pedal, which composed files have none of"
    )
    shortest: float = setting(1 / 32, "a duration that shorter ones are lengthened to")
    longest_note: float = setting(8.0, "longer ones end a segment, and are in none; of several rows they are cut")
    longest_delta: float = setting(4.0, "segments end at longer ones")
    frequency: Literal["log", "linear"] = setting("log", "how pitches are numbers")
    times: Literal["log1p", "linear"] = setting("log1p", "how durations and deltas are; log1p of 32nds")
    scale: Literal["symmetric", "unit", "standard"] = setting(
        "symmetric", "to [-1, 1], to [0, 1], or to a mean of 0 and a variance of 1, as the noise has"
    )
    outliers: float = setting(0.001, "share of values at either end that may lie outside of the scale")

    def __post_init__(self) -> None:
        multiple = 8 <= self.notes <= 4096 and self.notes % 2**LEVELS == 0
        require(multiple, "data.notes", self.notes, "that is a multiple of 8, up to 4096")
        require(1 <= self.rows <= 15, "data.rows", self.rows, "between 1 and 15")  # MIDI's channels without drums
        one_of("data.extraction", self.extraction, ("fixed", "reference"))
        one_of("data.programs", self.programs, ("piano", "keyboard", "all"))
        one_of("data.clock", self.clock, ("seconds", "beats"))
        one_of("data.ends", self.ends, ("key", "sustained"))
        one_of("data.frequency", self.frequency, ("log", "linear"))
        one_of("data.times", self.times, ("log1p", "linear"))
        one_of("data.scale", self.scale, ("symmetric", "unit", "standard"))
        require(0.0 <= self.outliers < 0.5, "data.outliers", self.outliers, "in [0, 0.5)")
        for name in ("shortest", "longest_note", "longest_delta"):
            require(0.0 <= getattr(self, name) < math.inf, f"data.{name}", getattr(self, name), "at least 0, finite")
        counted = self.ends == "key" or self.clock == "seconds"
        require(counted, "data.ends", self.ends, "key where beats are counted: the pedal is known in seconds")
        one = self.rows == 1 or self.extraction == "fixed"
        require(one, "data.rows", self.rows, "of 1: the original reads one track")
        others = self.rows == 1 or self.programs != "piano"
        require(others, "data.programs", self.programs, "all, or keyboard, where there are several rows")


@dataclass(frozen=True)
class NetworkConfig:
    """The U-Net over notes."""

    channels: int = setting(64, "of the finest level; coarser ones have 2 and 4 times as many, the middle 8 times")
    heads: int = setting(2, "of attention, each as wide as all channels")
    time_embedding: int = setting(256, "numbers that tell the time of the diffusion")
    time_injection: Literal["broadcast", "reference"] = setting(
        "broadcast", "reference: the original's, whose numbers land on other channels note by note"
    )
    target: Literal["epsilon", "v"] = setting(
        "v", "what the output is: the noise, or the velocity of Salimans & Ho (2022), which needs fewer steps"
    )
    causal: bool = setting(False, "no note hears later ones; the original's means and scales let some through")
    exchange: Literal["rows", "reference"] = setting(
        "rows", "of several instruments: attention among rows that know their programs, or the original's one mask"
    )

    def __post_init__(self) -> None:
        right = SMALLEST <= self.channels <= 512 and self.channels % SMALLEST == 0
        require(right, "network.channels", self.channels, "that is a multiple of 16, up to 512")
        require(1 <= self.heads <= 16, "network.heads", self.heads, "between 1 and 16")
        even = 4 <= self.time_embedding <= 4096 and self.time_embedding % 2 == 0
        require(even, "network.time_embedding", self.time_embedding, "that is even, between 4 and 4096")
        one_of("network.time_injection", self.time_injection, ("broadcast", "reference"))
        one_of("network.target", self.target, ("epsilon", "v"))
        one_of("network.exchange", self.exchange, ("rows", "reference"))


@dataclass(frozen=True)
class TrainingConfig(LoopConfig):
    """The loop's settings and what a batch is."""

    steps: int = setting(200_000, "batches that are learnt from")
    learning_rate: float = setting(1e-4, "of Adam, before the milestone")
    milestone: float = setting(0.75, "share of the steps after which the learning rate is the last one; 1: never")
    adam_epsilon: float = setting(1e-7, "of Adam, beside the root of the second moment")
    batch_size: int = setting(64, "segments of a step, over all workers together")
    last_time: bool = setting(True, "whether the noisiest time is learnt; the original leaves it out")
    transpose: int = setting(0, "semitones that a segment may be moved by, up or down")
    stretch: float = setting(0.0, "largest change of a segment's tempo, as a share of it")
    validation_segments: int = setting(512, "of the validation split that the loss is taken on")
    samples: int = setting(0, "pieces that every validation composes, as MIDI files beside it")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.validation_segments >= 1, "training.validation_segments", self.validation_segments, "at least 1")
        require(0 <= self.transpose <= 12, "training.transpose", self.transpose, "between 0 and 12")
        require(0.0 <= self.stretch < 1.0, "training.stretch", self.stretch, "in [0, 1)")
        require(0 <= self.samples <= 1000, "training.samples", self.samples, "between 0 and 1000")


@dataclass(frozen=True)
class ComposerConfig(Parts):
    """Everything that decides what training makes of performances."""

    system: ClassVar[str] = "composer"
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


REFERENCE = ComposerConfig(
    DataConfig(
        extraction="reference",
        clock="beats",
        ends="key",
        programs="keyboard",
        shortest=0.0,
        frequency="linear",
        times="linear",
        scale="unit",
        outliers=0.0,
    ),
    NetworkConfig(time_injection="reference", target="epsilon", exchange="reference"),
    training=TrainingConfig(ema_decay=0.0, gradient_clip=1e9, last_time=False, samples=2),
)

Config = ComposerConfig
