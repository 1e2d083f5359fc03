"""Settings of the diffusion that all systems with one share; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from dexter_model.training.config import require, setting


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule: T steps, variances rising linearly."""

    steps: int = setting(1000, "T, steps of the schedule")
    beta_start: float = setting(1e-4, "variance of the first step's noise")
    beta_end: float = setting(0.02, "variance of the last step's noise")

    def __post_init__(self) -> None:
        require(1 <= self.steps <= 100_000, "diffusion.steps", self.steps, "between 1 and 100000")
        ordered = 0.0 < self.beta_start <= self.beta_end < 1.0
        require(ordered, "diffusion.beta_*", (self.beta_start, self.beta_end), "0 < beta_start <= beta_end < 1")
