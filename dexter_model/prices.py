"""What things cost, by ``configs/prices.yaml`` or the file that ``DEXTER_PRICES`` names: estimates, not invoices."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import yaml

from dexter_model.errors import InputError

_SHIPPED = Path(__file__).resolve().parents[1] / "configs" / "prices.yaml"


def prices(section: str) -> dict[str, Any]:
    """A section of the prices; each price is a mapping of ``price``, ``of`` what, ``source`` and ``date``.

    Raises:
        InputError: the file cannot be read, or lacks the section (``prices_invalid``).
    """
    return _read(os.environ.get("DEXTER_PRICES") or str(_SHIPPED))[section]


def currency() -> str:
    """What prices are in."""
    return str(_read(os.environ.get("DEXTER_PRICES") or str(_SHIPPED))["currency"])


@functools.cache
def _read(path: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(Path(path).read_text())
        compute = found["compute"]
        for each in (compute["cpu_hour"], *compute["gpu_hour"].values()):
            float(each["price"])
        assert {"currency", "compute"} <= found.keys()
        assert "other" in compute["gpu_hour"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, yaml.YAMLError) as error:
        reason = f"holds no prices ({type(error).__name__}: {error})"
        raise InputError(path, reason, "Write it as configs/prices.yaml is", "prices_invalid") from error
    return found


def machine_hour(cpus: float, gpus: float, accelerator: str = "") -> float:
    """Price of an hour of a machine: by its GPUs where it has some, else by its CPUs.

    Args:
        cpus: how many it has.
        gpus: how many it has.
        accelerator: what Ray calls their type.
    """
    listed = prices("compute")
    if gpus:
        return gpus * float(listed["gpu_hour"].get(accelerator, listed["gpu_hour"]["other"])["price"])
    return cpus * float(listed["cpu_hour"]["price"])
