"""All measures of one performance of a piece against the piece's human performances.

Against each human: DExter's deviation, Kullback-Leibler divergence and correlation of every series, the mean absolute
error, the spread (standard deviation relative to the human's), and DExter's validation loss, L1(tempo curves) +
L1(velocity curves), in beats per minute and MIDI velocities.
Against the ground-truth space, all humans at once: the same with the note-wise mean over humans as the reference, their
note-wise standard deviation as the denominator, and their pooled values as the distribution (measures ``space_*``).

Only notes that both sides name and played count. Shapes: P human performances, N score notes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dexter_model.metrics.comparison import (
    correlation,
    deviation,
    kl_divergence,
    mean_absolute_error,
    spread_ratio,
    why_undefined,
)
from dexter_model.metrics.curves import series
from dexter_model.metrics.features import Written, performance_features, times

SPACE = -1  # instead of the index of a human: all of them
CURVES = ("tempo_curve", "velocity_curve")
TEMPO_VELOCITY = "tempo_and_velocity"  # the feature name of the joint loss and the joint correlation


class Measure(NamedTuple):
    """One figure: against which human (row of ``Played``, or ``SPACE``), of which feature, over n values.

    ``near_zero`` is the share of denominators near zero, for deviations, else NaN; ``undefined`` says why ``value`` is
    NaN.
    """

    human: int
    feature: str
    name: str
    value: float
    n: int
    near_zero: float = math.nan
    undefined: str = ""


@dataclass(frozen=True, eq=False)
class Played:
    """Performances of one score, note by note.

    ``codec`` (P, N, 5), ``counts`` (P, N) the notes that count, ``keydown`` (P, N) articulation from key-down
    durations; NaN in the codec's articulation or in ``keydown`` where that kind of duration is not known.
    """

    codec: np.ndarray
    counts: np.ndarray
    keydown: np.ndarray

    def __getitem__(self, which: slice | np.ndarray) -> Played:
        return Played(self.codec[which], self.counts[which], self.keydown[which])

    def series(self, starts: np.ndarray, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The named series (P, N) or (P, U), of the notes that count here and in ``counts``."""
        counts = self.counts if counts is None else self.counts & counts
        return series(np.broadcast_to(self.codec, (*counts.shape, 5)), counts, starts, self.keydown)


class _Timed:
    """Performances with their times, which do not depend on the notes that count."""

    def __init__(self, played: Played, score: Written, *, keydown: bool) -> None:
        self.played, self.score = played, score
        self.times = times(played.codec, score)
        by_key = np.concatenate([played.codec[..., :3], played.keydown[..., None]], axis=-1) if keydown else None
        self.keydown = times(by_key, score) if by_key is not None else None

    def series(self, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Every series and feature (P, N) or (P, U), of the notes that count here and in ``counts``."""
        counts = self.played.counts if counts is None else self.played.counts & counts
        features = performance_features(self.played.codec, self.times, counts, self.score, self.keydown)
        return self.played.series(self.score.starts, counts) | features


def compare(prediction: Played, humans: Played, score: Written, seed: int) -> Iterator[Measure]:
    """Every measure of one performance against each human and, where there are two and more, against all of them.

    Args:
        prediction: one performance, P = 1.
        humans: the references.
        score: what they play.
        seed: of the points at which densities are compared.
    """
    by_key = bool(np.isfinite(prediction.keydown).any())
    one, others = (_Timed(played, score, keydown=by_key) for played in (prediction, humans))
    # Both sides on the notes both played, so that a chord's mean is taken over the same notes.
    predicted, played = one.series(humans.counts), others.series(prediction.counts)
    for human in range(len(humans.codec)):
        for name in predicted:
            yield from _feature(human, name, predicted[name][human], played[name][human], seed)
        yield from _both_curves(human, [(predicted[c][human], played[c][human]) for c in CURVES])
    if len(humans.codec) > 1:
        alone, together = one.series(), others.series()
        for name in alone:
            yield from _feature(SPACE, name, alone[name][0], together[name], seed)


def _feature(human: int, name: str, ours: np.ndarray, theirs: np.ndarray, seed: int) -> Iterator[Measure]:
    """The measures of one feature: ``ours`` (n,) against one human (n,) or against the ground-truth space (P, n)."""
    space = human == SPACE
    reference, scale = mean_and_spread(theirs) if space else (theirs, theirs)
    n = int((np.isfinite(ours) & np.isfinite(reference)).sum())
    if not n:
        return
    relative, why = deviation(ours, reference, scale), why_undefined(ours, reference)
    no_scale = "zero denominators" if np.isnan(relative.signed) else ""
    prefix = "space_" if space else ""
    yield Measure(human, name, f"{prefix}correlation", correlation(ours, reference), n, undefined=why)
    yield Measure(human, name, f"{prefix}mean_absolute_error", mean_absolute_error(ours, reference), n)
    if not space:
        ratio = spread_ratio(ours, reference)
        yield Measure(human, name, "spread", ratio, n, undefined="constant reference" if np.isnan(ratio) else "")
    yield Measure(human, name, f"{prefix}deviation", relative.signed, n, relative.near_zero, no_scale)
    yield Measure(human, name, f"{prefix}absolute_deviation", relative.absolute, n, relative.near_zero, no_scale)
    divergence = kl_divergence(ours, theirs, seed)
    no_density = "the reference has no density there" if np.isnan(divergence) else ""
    yield Measure(human, name, f"{prefix}kl", divergence, n, undefined=why or no_density)


def _both_curves(human: int, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[Measure]:
    """Loss and correlation of the tempo and the velocity curve together."""
    n = int(np.isfinite(pairs[0][0]).sum())
    if not n:
        return
    why = next(filter(None, (why_undefined(*pair) for pair in pairs)), "")
    yield Measure(human, TEMPO_VELOCITY, "loss", sum(mean_absolute_error(*pair) for pair in pairs), n)
    yield Measure(human, TEMPO_VELOCITY, "correlation", sum(correlation(*pair) for pair in pairs), n, undefined=why)


def mean_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over performances (P, N) -> (N,), NaN where fewer than two have a value."""
    known = np.isfinite(values)
    number = known.sum(axis=0)
    enough = number >= 2
    mean = np.divide(np.where(known, values, 0).sum(axis=0), number, out=np.full(len(number), np.nan), where=enough)
    squares = np.where(known, (values - mean) ** 2, 0).sum(axis=0)
    return mean, np.sqrt(np.divide(squares, number, out=np.full(len(number), np.nan), where=enough))
