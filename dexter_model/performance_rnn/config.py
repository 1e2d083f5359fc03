"""Settings of Performance RNN: what events it knows and sees, what network, how it is trained; nine published sets.

Defaults are those of the published ``performance_with_dynamics``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dexter_model.training.config import LoopConfig, Parts, one_of, require, setting


@dataclass(frozen=True)
class NetworkConfig:
    """What the network reads, what steers it, and its layers."""

    name: str = setting("performance_with_dynamics", "the published configuration that this began as")
    velocity_bins: int = setting(32, "bins of velocities; with 0 they are not told")
    encoding: Literal["one_hot", "modulo", "notes"] = setting(
        "one_hot", "an event as one of all, as places on circles, or a note at a time as six numbers"
    )
    density: bool = setting(False, "steered by notes a second")
    histogram: bool = setting(False, "steered by a histogram of pitch classes")
    optional: bool = setting(False, "learns with and without steering")
    layers: tuple[int, ...] = setting((512, 512, 512), "cells of each LSTM layer")
    keep: float = setting(1.0, "share of each layer's output that dropout keeps, while training")
    attention: int = setting(0, "of its own last outputs that the first layer attends to")
    residual: bool = setting(False, "adds its input to each layer's output")

    def __post_init__(self) -> None:
        # A checkpoint's JSON is input from outside: bound what it can make us build.
        bins = self.velocity_bins
        told = 0 <= bins <= 127 and (bins == 0 or 1 + (bins - 1) * -(-127 // bins) <= 127)  # the last bin's velocity
        require(told, "network.velocity_bins", bins, "from 0 to 127 that parts MIDI's velocities, such as 16, 32 or 64")
        one_of("network.encoding", self.encoding, ("one_hot", "modulo", "notes"))
        right = 1 <= len(self.layers) <= 16 and all(isinstance(n, int) and 1 <= n <= 8192 for n in self.layers)
        require(right, "network.layers", self.layers, "of 1 to 16 whole numbers, each between 1 and 8192")
        require(0.0 < self.keep <= 1.0, "network.keep", self.keep, "in (0, 1]")
        require(0 <= self.attention <= 1024, "network.attention", self.attention, "between 0 and 1024")
        steered = self.density or self.histogram
        require(steered or not self.optional, "network.optional", self.optional, "false without density and histogram")
        if self.encoding == "notes":
            require(self.velocity_bins > 0, "network.velocity_bins", 0, "above 0: notes tell their velocity")
            require(not steered, "network.density, histogram", True, "false: only events are steered")

    @property
    def controls(self) -> int:
        """Numbers that steer, at each event."""
        return int(self.optional) + 8 * self.density + 12 * self.histogram


@dataclass(frozen=True)
class TrainingConfig(LoopConfig):
    """The loop's settings, as published, and what examples are."""

    steps: int = setting(40_000, "batches that are learnt from")
    learning_rate: float = setting(0.001, "of Adam")
    ema_decay: float = setting(0.0, "of the moving average of weights; 0: there is none")
    gradient_clip: float = setting(3.0, "largest norm of a gradient")
    gradient_clip_mode: Literal["global", "per_tensor"] = setting("per_tensor", "of all weights, or of each tensor's")
    log_every: int = setting(10, "steps between points of the curves")
    keep_checkpoints: int = setting(10, "checkpoints that are kept, the newest")
    batch_size: int = setting(64, "examples of a step, over all workers together")
    excerpt: Literal["first", "any"] = setting("first", "events of 30 s that are shown: always the first, or any")
    most_events: int = setting(512, "longest example")
    fewest_events: int = setting(32, "shortest one")
    validation_examples: int = setting(0, "of the validation split, spread over it; 0: all")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.validation_examples >= 0, "training.validation_examples", self.validation_examples, "at least 0")
        one_of("training.excerpt", self.excerpt, ("first", "any"))
        ordered = 2 <= self.fewest_events <= self.most_events <= 100_000
        bounds = (self.fewest_events, self.most_events)
        require(ordered, "training.fewest_events, most_events", bounds, "2 <= fewest <= most <= 100000")


@dataclass(frozen=True)
class PerformanceRnnConfig(Parts):
    """Everything that decides what training makes of a data set."""

    system: ClassVar[str] = "performance_rnn"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


_PUBLISHED: dict[str, dict[str, Any]] = {
    "performance": {"velocity_bins": 0},
    "performance_with_dynamics": {},
    "performance_with_dynamics_compact": {},  # the same network; it kept its data as numbers, as we always do
    "performance_with_dynamics_and_modulo_encoding": {"encoding": "modulo"},
    "performance_with_dynamics_and_note_encoding": {"encoding": "notes"},
    "density_conditioned_performance_with_dynamics": {"density": True},
    "pitch_conditioned_performance_with_dynamics": {"histogram": True},
    "multiconditioned_performance_with_dynamics": {"density": True, "histogram": True},
    "optional_multiconditioned_performance_with_dynamics": {"density": True, "histogram": True, "optional": True},
}
PUBLISHED = {name: NetworkConfig(name=name, **settings) for name, settings in _PUBLISHED.items()}

_HPARAMS = {  # the original's names of hyper-parameters: ours
    "rnn_layer_sizes": ("network", "layers"),
    "dropout_keep_prob": ("network", "keep"),
    "attn_length": ("network", "attention"),
    "residual_connections": ("network", "residual"),
    "batch_size": ("training", "batch_size"),
    "clip_norm": ("training", "gradient_clip"),
    "learning_rate": ("training", "learning_rate"),
}


def published(name: str) -> PerformanceRnnConfig:
    """One of the nine published configurations.

    Raises:
        InputError: there is none of that name (``config_invalid``).
    """
    one_of("config", name, tuple(PUBLISHED))
    return PerformanceRnnConfig(PUBLISHED[name])


def with_hparams(config: PerformanceRnnConfig, text: str) -> PerformanceRnnConfig:
    """Settings changed in the original's words: ``rnn_layer_sizes=[64,64],batch_size=16``; ``use_cudnn`` says nothing.

    Raises:
        InputError: not of that form, an unknown name or a value out of range (``config_invalid``).
    """
    values = config.to_dict()
    for item in _items(text):
        name, sign, value = (part.strip() for part in item.partition("="))
        require(bool(sign), "hparams", repr(item), "like name=value")
        if name == "use_cudnn":
            continue
        one_of("hparams", name, (*_HPARAMS, "use_cudnn"))
        part, ours = _HPARAMS[name]
        try:
            values[part][ours] = _parsed(value, values[part][ours])
        except (ValueError, KeyError):
            require(False, "hparams", repr(item), f"like {name}={json.dumps(values[part][ours])}")
    return PerformanceRnnConfig.from_dict(values)


def _parsed(text: str, like: Any) -> Any:
    """A value of the type of another one."""
    if isinstance(like, bool):
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    return json.loads(text) if isinstance(like, list) else type(like)(text)


def _items(text: str) -> Iterator[str]:
    """What stands between commas outside brackets."""
    depth, items = 0, [""]
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return filter(str.strip, items)


Config = PerformanceRnnConfig
