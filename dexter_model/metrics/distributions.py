"""How alike the values of two ways of playing are distributed, whatever their order: Jensen-Shannon divergence, base 2.

The measure that newer systems publish (0: the same distribution, 1: no value in common), over velocities, performed
durations, inter-onset intervals and pedal values. It depends on the bins, so they are fixed and told: velocity in
steps of 4 and pedal in steps of 8 MIDI values, times in quarter octaves from 1/64 s to 16 s, what is outside counted at
the ends. A flat or wild render shows here even where its correlation is fair; unlike the published KL divergence, a
flat one cannot come out near 0.

Of one piece, a performance is set against the mean distribution of its humans. Over a split, the distributions of
pieces are added up, each with its number of notes: of one performance a piece, and of the mean human of each piece.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dexter_model.metrics.features import Written, inter_onset, times

BINS = {
    "velocity": np.arange(0.0, 129.0, 4.0),
    "duration": np.exp2(np.arange(-6.0, 4.25, 0.25)),  # s
    "duration_keydown": np.exp2(np.arange(-6.0, 4.25, 0.25)),
    "ioi": np.exp2(np.arange(-6.0, 4.25, 0.25)),  # s
    "pedal": np.arange(0.0, 129.0, 8.0),
}
STATED = "velocity in steps of 4, pedal in steps of 8 MIDI values; times in quarter octaves from 1/64 s to 16 s"

Histograms = dict[str, np.ndarray]


def histograms(codec: np.ndarray, counts: np.ndarray, score: Written, keydown: np.ndarray | None = None) -> Histograms:
    """How many notes of a performance fall into each bin, on average over P performances.

    Args:
        codec: (P, N, 5); a column may be NaN where it is not known.
        counts: (P, N) the notes that count.
        score: what they play.
        keydown: (P, N) articulation from key-down durations, where they are to be compared.

    Returns:
        A histogram (bins,) by name; names without a value are left out.
    """
    played = times(codec, score)
    intervals, _ = inter_onset(played.onset, counts, score)
    values = {
        "velocity": 127 * codec[..., 1],
        "duration": played.offset - played.onset,
        "ioi": intervals,
        "pedal": 127 * codec[..., 4],
    }
    if keydown is not None:
        by_key = times(np.concatenate([codec[..., :3], keydown[..., None]], axis=-1), score)
        values["duration_keydown"] = by_key.offset - by_key.onset
    found = {
        name: _histogram(v if name == "ioi" else np.where(counts, v, np.nan), BINS[name]) for name, v in values.items()
    }
    return {name: histogram / len(codec) for name, histogram in found.items() if histogram.any()}


def _histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(values)]
    place = np.clip(np.searchsorted(edges, known, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(place, minlength=len(edges) - 1).astype(float)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits (Lin 1991) of two histograms (bins,), from 0 to 1; both hold something."""
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def relative_entropy(x: np.ndarray) -> float:
        some = x > 0
        return float(x[some] @ np.log2(x[some] / middle[some]))

    return max(0.0, (relative_entropy(p) + relative_entropy(q)) / 2)


@dataclass(frozen=True, eq=False)
class Distributions:
    """The values of one performance of a piece, and those of the mean human it is compared with."""

    system: str
    piece: tuple[str, str]
    synthetic: bool
    ours: Histograms
    theirs: Histograms


def pooled(found: Iterable[Distributions]) -> list[dict[str, Any]]:
    """The divergences of a whole split: a row a system and feature.

    A system that plays pieces several times (samples; humans, each against the others) is pooled that many times, in
    turn the first, second, ... of each piece, and the mean is told.

    Returns:
        Rows of system, feature, synthetic, js, pieces.
    """
    groups: dict[tuple[str, bool], dict[tuple[str, str], list[Distributions]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        groups[one.system, one.synthetic][one.piece].append(one)
    rows = []
    for (system, synthetic), pieces in groups.items():
        turns = range(max(len(played) for played in pieces.values()))
        for feature in BINS:
            of_turns = [[played[turn % len(played)] for played in pieces.values()] for turn in turns]
            figures = [_pooled(turn, feature) for turn in of_turns]
            if all(figure is not None for figure in figures):
                js = float(np.mean(figures))  # type: ignore[arg-type]
                row = {"system": system, "feature": feature, "synthetic": synthetic, "js": js, "pieces": len(pieces)}
                rows.append(row)
    return rows


def _pooled(turn: list[Distributions], feature: str) -> float | None:
    both = [(one.ours[feature], one.theirs[feature]) for one in turn if feature in one.ours and feature in one.theirs]
    if not both:
        return None
    ours, theirs = zip(*both, strict=True)
    return jensen_shannon(np.sum(ours, axis=0), np.sum(theirs, axis=0))
