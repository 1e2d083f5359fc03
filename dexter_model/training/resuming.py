"""Whether a training may go on from what its output folder holds: from its own checkpoints, and no others.

Settings are compared with every default filled in, so that a setting that is younger than a checkpoint stands in
nobody's way until it is used. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from dexter_model.errors import InputError
from dexter_model.training.checkpoint import last_meta
from dexter_model.training.config import LoopConfig

# How long, how often, and who is told: these may change between the runs of one training.
_FREE = {"steps", "log_every", "validate_every", "checkpoint_every", "keep_checkpoints", "wandb"}


class Config(Protocol):
    """A system's settings; those of its loop are the part ``training``."""

    system: ClassVar[str]

    @property
    def training(self) -> LoopConfig:
        """How its weights are fitted."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> Self:
        """The settings of a checkpoint."""

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The settings as JSON holds them."""


def steps_taken(out: str | Path, config: Config, dataset: Mapping[str, Any], label: str) -> int:
    """Steps of the last checkpoint in a training's output folder, 0 when there is none.

    Raises:
        InputError: it was trained with other settings or data, under another label, or for longer
            (``resume_mismatch``), or cannot be read.
    """
    meta = last_meta(out)
    if meta is None:
        return 0
    was, wanted = _known(out, meta, type(config)), _recipe(config, dataset, label)
    changed = [name for name in wanted | was if was.get(name) != wanted.get(name)]
    if changed:
        told = (f"{name} ({was.get(name)}, not {wanted.get(name)})" for name in changed)
        raise _mismatch(out, f"was trained with another {', '.join(told)}")
    step = int(meta["step"])
    if step > config.training.steps:
        raise _mismatch(out, f"has {step} steps, more than the {config.training.steps} asked for")
    return step


def _known(out: str | Path, meta: Mapping[str, Any], kind: type[Config]) -> dict[str, Any]:
    """What a checkpoint was trained by."""
    try:
        config = kind.from_dict(meta["config"])
    except InputError as error:
        raise _mismatch(out, f"was trained with settings unknown today ({error.path}: {error.reason})") from None
    return _recipe(config, meta.get("dataset", {}), str(meta["label"]))


def _recipe(config: Config, dataset: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Everything that decides the weights, and the label, by dotted name."""
    parts = {**config.to_dict(), "dataset": dict(dataset)}
    parts["training"] = {name: value for name, value in parts["training"].items() if name not in _FREE}
    return {"label": label} | {f"{part}.{name}": values[name] for part, values in parts.items() for name in values}


def _mismatch(out: str | Path, reason: str) -> InputError:
    return InputError(out, reason, "Choose another output folder, or remove this one", "resume_mismatch")
