"""What makes pitches and times numbers of unit size, and such numbers notes again.

The original learns frequencies in Hz, on which the semitones of the bass are a thousandth of the scale and most
durations and deltas crowd at one end; here all are logarithms by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dexter_model.composer.config import DataConfig

FEATURES = ("pitch", "duration", "delta")
TICK = 1 / 32  # log1p counts times in these: what is much shorter is one
FREQUENCIES = np.round(440.0 * 2.0 ** ((np.arange(128) - 69) / 12), 3)  # Hz of each MIDI pitch
FREQUENCIES[124:] = 10548.08, 11175.30, 11839.82, 12543.85  # as the original's table has them


def nearest_pitch(frequency: np.ndarray) -> np.ndarray:
    """MIDI pitches (int64) of the nearest frequencies in Hz; of two equally near ones, the lower."""
    return np.searchsorted((FREQUENCIES[:-1] + FREQUENCIES[1:]) / 2, frequency)


@dataclass(frozen=True)
class Statistics:
    """What of each feature, after its logarithm, is scaled to the ends of the scale, and the extremes that occur.

    All are of the training split; three numbers each. Nothing composed leaves the extremes. The ends of the scale
    ``standard``, -1 and 1, are a standard deviation from the mean.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    least: tuple[float, ...]
    greatest: tuple[float, ...]

    def normalise(self, values: Tensor, config: DataConfig) -> Tensor:
        """(..., 3) pitch, duration, delta as float32 numbers of unit size."""
        low, high = (values.new_tensor(each, dtype=torch.float64) for each in (self.low, self.high))
        unit = (features(values, config) - low) / (high - low)
        return (unit if config.scale == "unit" else 2.0 * unit - 1.0).float()

    def restore(self, numbers: np.ndarray, config: DataConfig) -> np.ndarray:
        """(..., 3) numbers of unit size as frequency in Hz, duration and delta, no less or more than was learnt."""
        unit = numbers.astype(np.float64)
        unit = unit if config.scale == "unit" else (unit + 1.0) / 2.0
        low, high = np.array(self.low), np.array(self.high)
        found = np.clip(unit * (high - low) + low, self.least, self.greatest)
        frequency, times = found[..., :1], found[..., 1:]
        frequency = 10.0**frequency if config.frequency == "log" else frequency
        times = np.expm1(times) * TICK if config.times == "log1p" else times
        return np.concatenate([frequency, times], axis=-1)

    def bounds(self, config: DataConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The extremes as numbers of unit size."""
        low, high = np.array(self.low), np.array(self.high)
        unit = [(np.array(each) - low) / (high - low) for each in (self.least, self.greatest)]
        least, greatest = unit if config.scale == "unit" else [2.0 * each - 1.0 for each in unit]
        return tuple(least.tolist()), tuple(greatest.tolist())

    def to_dict(self) -> dict[str, list[float]]:
        """As a checkpoint keeps them."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Statistics:
        """Those of a checkpoint.

        Raises:
            ValueError: they are not four times three numbers in order.
        """
        if set(values) != {each.name for each in fields(cls)} or not all(map(_is_three_numbers, values.values())):
            raise ValueError("has statistics of something else")
        low, high, least, greatest = (np.array(values[each.name]) for each in fields(cls))
        if not ((low < high) & (least <= greatest)).all():
            raise ValueError("has statistics without an extent")
        return cls(**{name: tuple(map(float, each)) for name, each in values.items()})


def _is_three_numbers(each: object) -> bool:
    """Whether it is a list of three finite numbers, none absurdly large."""
    number = (int, float)
    return isinstance(each, list) and [isinstance(n, number) and abs(n) < 1e6 for n in each] == [True] * len(FEATURES)


def features(values: Tensor, config: DataConfig) -> Tensor:
    """(..., 3) float64: frequencies in Hz, durations and deltas, or their logarithms."""
    table = torch.from_numpy(np.log10(FREQUENCIES) if config.frequency == "log" else FREQUENCIES).to(values.device)
    times = values[..., 1:].double()
    times = torch.log1p(times / TICK) if config.times == "log1p" else times
    return torch.cat([table[values[..., :1].long()], times], dim=-1)
