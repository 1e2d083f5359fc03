"""What a run holds of machines, and what that costs: CPU- and GPU-seconds, whichever nodes come and go.

A machine counts for as long as it is there, busy or not, as whoever rents it pays for it; a run is charged with the
whole of the cluster it works on. Without Ray that is this machine.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from dataclasses import dataclass

from dexter_model.prices import machine_hour
from tasks.cluster import cpus

LOOK_SECONDS = 5.0  # between two looks at the cluster
_ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True)
class Spent:
    """Wall seconds, CPU- and GPU-seconds, and their cost."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    cost: float = 0.0

    def since(self, before: Spent) -> dict[str, float]:
        """What was spent after ``before``."""
        digits = {"seconds": 1, "cpu_seconds": 1, "gpu_seconds": 1, "cost": 6}
        return {name: round(getattr(self, name) - getattr(before, name), each) for name, each in digits.items()}


class Meter:
    """Adds up what is spent from now on; whoever holds it calls ``read`` every few seconds, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._there = _machines()
        self._spent = Spent()

    def read(self) -> Spent:
        """What was spent so far: the machines there are now count since the last look."""
        with self._lock:
            with contextlib.suppress(Exception):  # a cluster out of reach for a moment is as large as it was
                self._there = _machines()
            now, there, spent = time.monotonic(), self._there, self._spent
            passed, self._last = now - self._last, now
            self._spent = Spent(
                spent.seconds + passed,
                spent.cpu_seconds + passed * sum(cpu for cpu, _, _ in there),
                spent.gpu_seconds + passed * sum(gpu for _, gpu, _ in there),
                spent.cost + passed * sum(machine_hour(*each) for each in there) / 3600,
            )
            return self._spent


def _machines() -> list[tuple[float, float, str]]:
    """CPUs, GPUs and their type, of every machine."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return [(cpus(), 0, "")]
    return [_machine(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _machine(resources: dict[str, float]) -> tuple[float, float, str]:
    kinds = (name.removeprefix(_ACCELERATOR) for name in resources if name.startswith(_ACCELERATOR))
    return resources.get("CPU", 0), resources.get("GPU", 0), next(kinds, "")
