"""How much worse than its baseline a run may be: apart from ``metrics.regression``, so that naming it costs nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from dexter_model.errors import InputError
from dexter_model.training.config import setting

Kind = Literal["correlation", "velocity_error", "spread"]


@dataclass(frozen=True)
class Tolerance:
    """How much worse a main figure may get, a number a kind of figure.

    The defaults are a judgement of what a listener would not mind, not a measurement.

    Args:
        correlation: of Pearson correlations: velocity, tempo, log inter-onset interval, timing, articulation, pedal.
        velocity_error: of the mean absolute error of velocity, in MIDI velocities.
        spread: of the distance between a spread and the human's, which is 1.
    """

    correlation: float = setting(0.03, "of Pearson correlations")
    velocity_error: float = setting(1.0, "of the mean absolute error of velocity, in MIDI velocities")
    spread: float = setting(0.1, "of the distance between a spread and the human's, which is 1")

    def __post_init__(self) -> None:
        for kind in fields(self):
            value = getattr(self, kind.name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"tolerance.{kind.name}", f"is {value}", "Give 0 or more", "option_invalid")
