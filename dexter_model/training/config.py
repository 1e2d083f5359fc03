"""Settings of the training loop that all systems share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from dexter_model.errors import InputError

Default = TypeVar("Default")


def setting(default: Default, about: str) -> Default:
    """A field of a dataclass of settings; pydantic shows what it is ``about`` in forms and schemas."""
    value: Default = field(default=default, metadata={"description": about})
    return value


@dataclass(frozen=True)
class LoopConfig:
    """How weights are fitted, whatever they are of; steps count batches."""

    steps: int = setting(100_000, "batches that are learnt from")
    learning_rate: float = setting(5e-5, "of AdamW, after warming up")
    warmup_steps: int = setting(0, "steps over which the learning rate rises linearly")
    ema_decay: float = setting(0.999, "of the moving average of weights, which is what renders")
    gradient_clip: float = setting(1.0, "largest norm of a gradient")
    seed: int = setting(13, "of weights, batches and noise")
    precision: Literal["float32", "bfloat16"] = setting("float32", "bfloat16 is autocast: the weights stay float32")
    compile: bool = setting(False, "torch.compile, for GPUs: on a CPU it is slower (benchmarks/results.md)")
    threads: int = setting(1, "CPU threads of a worker; sums depend on it in the last bits, so it is in the recipe")
    log_every: int = setting(50, "steps between points of the curves")
    validate_every: int = setting(1000, "steps between validations")
    checkpoint_every: int = setting(1000, "steps between checkpoints: what an interruption may lose")
    keep_checkpoints: int = setting(2, "checkpoints that are kept, the newest")
    wandb: str = setting("", "project at Weights & Biases that gets the curves too; needs dexter[wandb]")

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
