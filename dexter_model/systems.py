"""The systems that learn from data sets, by the names that configurations and checkpoints give them.

Each is a package of the same make: ``config.Config`` its settings, ``data.resident_split`` a data set's split as arrays
for a device, ``train_arrays.train_on_arrays`` the fit; of generators ``making.Maker`` makes pieces by their numbers.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from dexter_model.errors import InputError
from dexter_model.training.resuming import Config

PACKAGES = {"dexter": "expression", "performance_rnn": "performance_rnn", "composer": "composer"}
GENERATORS = ("performance_rnn", "composer")  # need no score
TOGETHER = ("performance_rnn",)  # whose pieces' bytes depend on those made in one batch with them


class Made(NamedTuple):
    """A generated piece: its MIDI file, how many notes it has, its seconds."""

    midi: bytes
    notes: int
    seconds: float


def module(system: str, name: str) -> Any:
    """A module of a system's package, imported now: those of networks take seconds.

    Raises:
        InputError: no system is called so (``system_unknown``).
    """
    if system not in PACKAGES:
        raise InputError(system, "is no system", f"Choose one of {', '.join(PACKAGES)}", "system_unknown")
    return import_module(f"dexter_model.{PACKAGES[system]}.{name}")


def config_type(system: str) -> type[Config]:
    """The settings of a system."""
    kind: type[Config] = module(system, "config").Config
    return kind


def default_model(system: str) -> Path:
    """The model of a generator that ships with the code."""
    return Path(__file__).resolve().parents[1] / "models" / system
