"""Settings of DExter's model, diffusion and training: plain dataclasses, so that a bare machine with torch can train.

Defaults are the published ones (arXiv 2406.14850). Commands validate them as fields of their pydantic parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from dexter_model.errors import InputError
from dexter_model.training.config import LoopConfig, require


@dataclass(frozen=True)
class DenoiserConfig:
    """What network, what it sees and what its output means."""

    channels: int = 768
    layers: int = 12
    window: int = 200  # N, notes of a window
    condition: Literal["published"] = "published"  # which score rows (condition.py)
    target: Literal["epsilon", "x_0"] = "epsilon"  # the output is the noise, or the clean codec

    def __post_init__(self) -> None:
        # A checkpoint's JSON is input from outside: bound what it can make us build.
        require(1 <= self.channels <= 8192, "denoiser.channels", self.channels, "between 1 and 8192")
        require(1 <= self.layers <= 256, "denoiser.layers", self.layers, "between 1 and 256")
        require(1 <= self.window <= 100_000, "denoiser.window", self.window, "between 1 and 100000")
        require(self.condition == "published", "denoiser.condition", self.condition, "published")
        require(self.target in ("epsilon", "x_0"), "denoiser.target", self.target, "epsilon or x_0")


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule: T steps, variances rising linearly."""

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        require(1 <= self.steps <= 100_000, "diffusion.steps", self.steps, "between 1 and 100000")
        ordered = 0.0 < self.beta_start <= self.beta_end < 1.0
        require(ordered, "diffusion.beta_*", (self.beta_start, self.beta_end), "0 < beta_start <= beta_end < 1")


@dataclass(frozen=True)
class TrainingConfig(LoopConfig):
    """The loop's settings and what a batch is and costs."""

    batch_size: int = 256  # windows of a step, over all workers together
    loss: Literal["l1", "l2", "huber"] = "l1"
    recon_loss_weight: float = 0.2
    condition_dropout: float = 0.1  # share of windows trained without condition
    validation_windows: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size >= 1, "training.batch_size", self.batch_size, "at least 1")
        require(self.loss in ("l1", "l2", "huber"), "training.loss", self.loss, "out of l1, l2 and huber")
        require(0.0 <= self.condition_dropout < 1.0, "training.condition_dropout", self.condition_dropout, "in [0, 1)")


@dataclass(frozen=True)
class ExpressionConfig:
    """Everything that decides what training makes of a data set."""

    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> ExpressionConfig:
        """The settings of a mapping of mappings, as in a checkpoint or a YAML file; what is missing is at its default.

        Raises:
            InputError: an unknown key or a value out of range (``config_invalid``).
        """
        if not isinstance(values, Mapping) or set(values) - {"denoiser", "diffusion", "training"}:
            raise InputError(
                "config", "has other parts than denoiser, diffusion, training", "Check it", "config_invalid"
            )
        return cls(
            _settings(DenoiserConfig, values.get("denoiser", {})),
            _settings(DiffusionConfig, values.get("diffusion", {})),
            _settings(TrainingConfig, values.get("training", {})),
        )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The settings as plain mappings."""
        return asdict(self)


Settings = TypeVar("Settings", DenoiserConfig, DiffusionConfig, TrainingConfig)


def _settings(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Settings of JSON or YAML values, with each value of the type of its default."""
    require(isinstance(values, Mapping), kind.__name__, values, "with keys")
    defaults = {each.name: each.default for each in fields(kind)}
    for name, value in values.items():
        require(name in defaults, kind.__name__, name, f"among {', '.join(defaults)}")
        wanted = (int, float) if isinstance(defaults[name], float) else type(defaults[name])
        right = isinstance(value, wanted) and not isinstance(value, bool)
        require(right, f"{kind.__name__}.{name}", repr(value), f"like {defaults[name]!r}")
    return kind(**values)
