"""Dynamics against the score's markings and against tempo.

DExter's ``dynamics_feature`` (Zhang et al. 2024, arXiv 2406.14850; after Kosta et al. and Todd): whether playing gets
louder where the marking does (``agreement``), how steady each marking is kept (``consistency``), whether crescendi and
diminuendi are followed (``ramp_correlation``), and whether louder means faster nearby (``tempo_correlation``).

As published, a figure need not stand where what it is about does: that of the k-th marking in the alphabet stands at
the k-th marked onset, and a ramp's also at the onset after it. Renders and humans have it alike. Unlike there, NaN
stands for 0 where the score marks nothing.

Everything is onset by onset and broadcasts over leading axes. Shapes: P performances, U unique score onsets, E marked
onsets, R ramps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dexter_model.notes import DYNAMICS

LOUDNESS = {name: level for level, name in enumerate(DYNAMICS) if level}
WINDOW = 5.0  # beats before and after
_EVEN = 1e-5  # added to the second of two loudnesses or markings, so that equal ones have an order
_FLAT = 1e-9  # a variance below this share of the whole's is rounding noise


@dataclass(frozen=True, eq=False)
class Markings:
    """What a score marks, on its U unique onsets.

    Attributes:
        marked: (E,) onsets at which another marking comes into force; ``until`` the ones where it ends.
        names: (E,) the markings, for example ``mf``; names that are no loudness have no place in their order.
        ramp_onset: onsets of all ramps one after the other; ``ramp_first`` (R,) where each begins there.
        ramp_value: how far it has got there; ``ramp_sign`` (R,) -1 for a diminuendo.
        ramp_at: (U,) the ramp whose figure stands at an onset, or -1.
        before, after: (U,) the onsets from and up to which a window of 5 beats either side reaches.
    """

    marked: np.ndarray
    until: np.ndarray
    names: np.ndarray
    ramp_onset: np.ndarray
    ramp_first: np.ndarray
    ramp_value: np.ndarray
    ramp_sign: np.ndarray
    ramp_at: np.ndarray
    before: np.ndarray
    after: np.ndarray


def markings(onset_beat: np.ndarray, in_force: np.ndarray, rising: np.ndarray, falling: np.ndarray) -> Markings:
    """Prepare a score's markings for any number of performances.

    Args:
        onset_beat: (U,) ascending.
        in_force: (U,) of str, the name of the marking in force, '' for none.
        rising: (U,) how far crescendi have got: it changes inside them and stays where it is outside.
        falling: (U,) the same of diminuendi.
    """
    changes = np.flatnonzero(in_force != np.append([""], in_force[:-1]))
    until = np.append(changes[1:], len(in_force)).astype(int)
    marked = in_force[changes] != ""
    ramps = [(*edge, sign) for values, sign in ((rising, 1), (falling, -1)) for edge in _ramps(values)]
    spans = [np.arange(first, last) for first, last, _ in ramps]
    at = np.full(len(onset_beat), -1)
    for number, (first, last, _) in enumerate(ramps):
        at[first : last + 1] = number
    sizes = np.array([len(span) for span in spans], int)
    values = [(rising if sign > 0 else falling)[span] for span, (_, _, sign) in zip(spans, ramps, strict=True)]
    return Markings(
        changes[marked],
        until[marked],
        in_force[changes[marked]],
        np.concatenate([*spans, np.zeros(0, int)]),
        np.cumsum(sizes) - sizes,
        np.concatenate([*values, np.zeros(0)]).astype(float),
        np.array([sign for *_, sign in ramps]),
        at,
        np.searchsorted(onset_beat, onset_beat - WINDOW - 1e-4),
        np.searchsorted(onset_beat, onset_beat + WINDOW + 1e-4),
    )


def _ramps(reached: np.ndarray) -> list[tuple[int, int]]:
    """The onsets from which and before which a ramp goes on; ramps that follow one another are one."""
    changes = np.diff(reached, prepend=reached[:1]) != 0
    edges = np.flatnonzero(np.diff(changes, prepend=changes[:1]))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=False)]


def agreement(velocity: np.ndarray, markings: Markings) -> np.ndarray:
    """Kendall's tau of two adjacent markings: 1 where the louder one is played louder, -1 where softer.

    Args:
        velocity: (..., U) mean velocity at each onset, NaN where nothing is played.
        markings: of the score.

    Returns:
        (..., U), at the second of the two; NaN elsewhere.
    """
    level = np.array([LOUDNESS.get(name, 0) for name in markings.names])
    order = np.flatnonzero(level)
    at, loud = _heard(velocity, markings)
    one, other = order[:-1], order[1:]
    louder = np.sign(loud[..., other] + _EVEN - loud[..., one])
    return _placed(louder * np.sign(level[other] + _EVEN - level[one]), at[..., 1:], velocity.shape)


def consistency(velocity: np.ndarray, markings: Markings) -> np.ndarray:
    """Standard deviation of the velocities at which each marking comes into force.

    Args:
        velocity: (..., U) mean velocity at each onset, NaN where nothing is played.
        markings: of the score.

    Returns:
        (..., U); NaN away from marked onsets and where a marking occurs once.
    """
    at, loud = _heard(velocity, markings)
    kinds = np.unique(markings.names)
    spreads = [_spread(loud[..., markings.names == kind]) for kind in kinds]
    figures = np.stack(spreads, axis=-1) if spreads else np.zeros((*velocity.shape[:-1], 0))
    return _placed(figures, at, velocity.shape)


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation along the last axis, of two known values at least."""
    known = np.isfinite(values)
    number = known.sum(axis=-1)
    mean = np.where(known, values, 0).sum(axis=-1) / np.maximum(number, 1)
    squares = np.where(known, (values - mean[..., None]) ** 2, 0).sum(axis=-1)
    return np.where(number > 1, np.sqrt(squares / np.maximum(number, 1)), np.nan)


def _heard(velocity: np.ndarray, markings: Markings) -> tuple[np.ndarray, np.ndarray]:
    """The onset at which each marking is first heard and the velocity there (..., E), NaN where it never is."""
    onsets = velocity.shape[-1]
    known = np.where(np.isfinite(velocity), np.arange(onsets), onsets)
    following = np.minimum.accumulate(known[..., ::-1], axis=-1)[..., ::-1]
    at = following[..., markings.marked]
    loud = np.take_along_axis(velocity, np.minimum(at, onsets - 1), axis=-1)
    return at, np.where(at < markings.until, loud, np.nan)


def _placed(figures: np.ndarray, at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Figures (..., K) that exist, put at the first K of the onsets ``at``; NaN elsewhere."""
    out = np.full((*shape[:-1], shape[-1] + 1), np.nan)
    where = np.where(np.isfinite(figures), at[..., : figures.shape[-1]], shape[-1])
    np.put_along_axis(out, where, figures, axis=-1)
    return out[..., :-1]


def ramp_correlation(velocity: np.ndarray, markings: Markings) -> np.ndarray:
    """Pearson correlation of velocity with the position in each crescendo, and minus that in each diminuendo.

    Args:
        velocity: (..., U) mean velocity at each onset, NaN where nothing is played.
        markings: of the score.

    Returns:
        (..., U), the same at all onsets of a ramp; 0 where loudness does not change, NaN outside ramps.
    """
    if not len(markings.ramp_first):
        return np.full(velocity.shape, np.nan)
    loud = velocity[..., markings.ramp_onset]
    known = np.isfinite(loud)
    sizes = np.diff(markings.ramp_first, append=len(markings.ramp_onset))
    number = np.add.reduceat(known, markings.ramp_first, axis=-1, dtype=float)

    def total(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.where(known, values, 0.0), markings.ramp_first, axis=-1)

    def centred(values: np.ndarray) -> np.ndarray:
        return values - np.repeat(total(values) / np.maximum(number, 1), sizes, axis=-1)

    x, y = centred(np.broadcast_to(markings.ramp_value, loud.shape)), centred(loud)
    varies = (total(y * y) > _FLAT * total(loud * loud)) & (total(x * x) > _FLAT)
    figure = np.where(number > 1, 0.0, np.nan)
    figure = np.divide(total(x * y), np.sqrt(total(x * x) * total(y * y)), out=figure, where=varies & (number > 1))
    return np.where(markings.ramp_at >= 0, (figure * markings.ramp_sign)[..., markings.ramp_at], np.nan)


def tempo_correlation(beat_period: np.ndarray, velocity: np.ndarray, markings: Markings) -> np.ndarray:
    """Pearson correlation of tempo and loudness over the onsets within 5 beats of each.

    From running sums of the centred values, exact to about 1e-10.

    Args:
        beat_period: (..., U) s/beat at each onset, NaN where nothing is played.
        velocity: (..., U) mean velocity there.
        markings: of the score.

    Returns:
        (..., U); 0 where either is constant in the window, NaN where nothing is played.
    """
    known = np.isfinite(beat_period) & np.isfinite(velocity)
    number = np.maximum(known.sum(axis=-1, keepdims=True), 1)

    def centred(values: np.ndarray) -> np.ndarray:
        values = np.where(known, values, 0.0)
        values = np.where(known, values - values.sum(axis=-1, keepdims=True) / number, 0.0)
        scale = np.sqrt((values * values).sum(axis=-1, keepdims=True) / number)
        return np.divide(values, scale, out=np.zeros_like(values), where=scale > _FLAT)

    def windowed(values: np.ndarray) -> np.ndarray:
        sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
        return sums[..., markings.after] - sums[..., markings.before]

    x, y = centred(1 / np.where(known, beat_period, 1.0)), centred(velocity)
    n, of_x, of_y = np.maximum(windowed(known.astype(float)), 1), windowed(x), windowed(y)
    xx, yy = windowed(x * x) - of_x**2 / n, windowed(y * y) - of_y**2 / n
    product = windowed(x * y) - of_x * of_y / n
    varies = known & (n > 1) & (xx > _FLAT * n) & (yy > _FLAT * n)
    figure = np.where(known, 0.0, np.nan)
    return np.divide(product, np.sqrt(xx * yy, where=varies, out=np.ones_like(xx)), out=figure, where=varies)
