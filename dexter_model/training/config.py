"""Settings of the training loop that all systems share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from dexter_model.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Default = TypeVar("Default")
Settings = TypeVar("Settings", bound="DataclassInstance")


def setting(default: Default, about: str) -> Default:
    """A field of a dataclass of settings; pydantic shows what it is ``about`` in forms and schemas."""
    value: Default = field(default=default, metadata={"description": about})
    return value


@dataclass(frozen=True)
class LoopConfig:
    """How weights are fitted, whatever they are of; steps count batches."""

    steps: int = setting(100_000, "batches that are learnt from")
    batch_size: int = setting(64, "examples of a batch, over all workers together")
    learning_rate: float = setting(5e-5, "of Adam, after warming up")
    warmup_steps: int = setting(0, "steps over which the learning rate rises linearly")
    milestone: float = setting(1.0, "share of the steps after which the learning rate is the last one; 1: never")
    last_learning_rate: float = setting(1e-6, "from the milestone on")
    adam_epsilon: float = setting(1e-8, "of Adam, beside the root of the second moment")
    ema_decay: float = setting(0.999, "of the moving average of weights, which is what renders")
    gradient_clip: float = setting(1.0, "largest norm of a gradient")
    gradient_clip_mode: Literal["global", "per_tensor"] = setting("global", "norm of all weights, or of each tensor's")
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
        counts = (
            "steps",
            "batch_size",
            "threads",
            "log_every",
            "validate_every",
            "checkpoint_every",
            "keep_checkpoints",
        )
        for name in counts:
            require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1")
        for name in ("warmup_steps", "seed"):
            require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "at least 0")
        for name in ("learning_rate", "last_learning_rate", "adam_epsilon", "gradient_clip"):
            require(0.0 < getattr(self, name) < math.inf, f"training.{name}", getattr(self, name), "above 0, finite")
        require(0.0 <= self.milestone <= 1.0, "training.milestone", self.milestone, "in [0, 1]")
        require(0.0 <= self.ema_decay < 1.0, "training.ema_decay", self.ema_decay, "in [0, 1)")
        one_of("training.gradient_clip_mode", self.gradient_clip_mode, ("global", "per_tensor"))
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


def settings_of(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Settings of JSON or YAML values, with each value of the type of its default.

    Raises:
        InputError: an unknown key or a value out of range (``config_invalid``).
    """
    require(isinstance(values, Mapping), kind.__name__, values, "with keys")
    defaults = {each.name: each.default for each in fields(kind)}
    for name, value in values.items():
        require(name in defaults, kind.__name__, name, f"among {', '.join(defaults)}")
        wanted = {float: (int, float), tuple: (list, tuple)}.get(type(defaults[name]), type(defaults[name]))
        numbers = value if isinstance(value, (list, tuple)) else ()
        right = isinstance(value, wanted) and isinstance(value, bool) == isinstance(defaults[name], bool)
        right = right and all(isinstance(each, (int, float)) for each in numbers)
        require(right, f"{kind.__name__}.{name}", repr(value), f"like {defaults[name]!r}")
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return kind(**given)


class Parts:
    """Settings in parts, each a dataclass of its own with a default for everything."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> Self:
        """The settings of a mapping of mappings, as in a checkpoint or a YAML file; what is missing is at its default.

        Raises:
            InputError: an unknown key or a value out of range (``config_invalid``).
        """
        parts: dict[str, Any] = {part.name: part.default_factory for part in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(values, Mapping) or set(values) - set(parts):
            raise InputError("config", f"has other parts than {', '.join(parts)}", "Check it", "config_invalid")
        return cls(**{name: settings_of(kind, values.get(name, {})) for name, kind in parts.items()})

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The settings as JSON holds them."""
        settings: dict[str, dict[str, Any]] = json.loads(json.dumps(asdict(self)))  # type: ignore[call-overload]
        return settings
