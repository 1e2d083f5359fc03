"""Settings of the training loop that all systems share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dexter_model.errors import InputError


@dataclass(frozen=True)
class LoopConfig:
    """How weights are fitted, whatever they are of; steps count batches."""

    steps: int = 100_000
    learning_rate: float = 5e-5
    warmup_steps: int = 0  # the learning rate rises linearly over these
    ema_decay: float = 0.999
    gradient_clip: float = 1.0
    seed: int = 13
    precision: Literal["float32", "bfloat16"] = "float32"  # bfloat16: autocast, the weights stay float32
    compile: bool = False  # torch.compile, for GPUs: on a CPU it is slower (benchmarks/results.md)
    threads: int = 1  # CPU threads of a worker; sums depend on it in the last bits, so it is part of the recipe
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    wandb: str = ""  # project at Weights & Biases that gets the curves too; needs dexter[wandb]

    def __post_init__(self) -> None:
        counts = ("steps", "threads", "log_every", "validate_every", "checkpoint_every", "keep_checkpoints")
        for name in counts:
            require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1")
        for name in ("warmup_steps", "seed"):
            require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "at least 0")
        for name in ("learning_rate", "gradient_clip"):
            require(0.0 < getattr(self, name) < math.inf, f"training.{name}", getattr(self, name), "above 0, finite")
        require(0.0 <= self.ema_decay < 1.0, "training.ema_decay", self.ema_decay, "in [0, 1)")
        one_of("training.precision", self.precision, ("float32", "bfloat16"))


def require(true: bool, name: str, value: object, allowed: str) -> None:
    """Refuse a setting unless ``true``.

    Raises:
        InputError: the value is not what is ``allowed`` (``config_invalid``).
    """
    if not true:
        raise InputError(name, f"{value} is not allowed", f"Choose a value {allowed}", "config_invalid")


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a setting that is not among ``allowed`` (``InputError``, ``config_invalid``)."""
    require(value in allowed, name, value, f"out of {', '.join(allowed)}")
