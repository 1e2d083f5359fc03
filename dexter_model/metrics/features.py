"""The performance features of a block of performances: what a codec becomes when it is set against its score.

DExter's mid-level features (Zhang et al. 2024, arXiv 2406.14850) note by note, by their published names, beside the log
inter-onset interval. What the score says is prepared once (``written``); everything after it is array operations on all
performances at once, since an evaluation asks for the features of every pair of performances, each time on the notes
that both played. The pedal feature, ``onset_value``, is the codec's own pedal column.

Shapes: P performances, N score notes, U unique score onsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dexter_model.codec.performance_codec import MIN_DURATION
from dexter_model.metrics import articulation, asynchrony, dynamics
from dexter_model.metrics.curves import mean_per_onset, onset_starts, velocity_curve
from dexter_model.notes import DYNAMICS

LEAST_PERIOD = 1e-6  # s/beat
LEAST_IOI = 0.02  # s; onsets that come closer, or in the other order, count as this far apart
LEAST_BEATS = 1 / 16  # onsets written closer are rounded tuplets; a ratio over so little would decide correlations


@dataclass(frozen=True, eq=False)
class Written:
    """What a score says, prepared for any number of performances.

    Attributes:
        starts: (U,) first note of each unique onset; ``group`` (N,) the onset of each note.
        onset_beat: (U,).
        duration_beat: (N,).
        pitch: (N,).
        transitions: where the leading voice goes on.
        markings: dynamics.
    """

    starts: np.ndarray
    group: np.ndarray
    onset_beat: np.ndarray
    duration_beat: np.ndarray
    pitch: np.ndarray
    transitions: articulation.Transitions
    markings: dynamics.Markings


@dataclass(frozen=True, eq=False)
class Times:
    """When notes are played, s: ``onset`` and ``offset`` (..., N); the first score onset is about 0."""

    onset: np.ndarray
    offset: np.ndarray


def written(notes: np.ndarray) -> Written:
    """Prepare a score (N,) of SCORE_NOTE, sorted by onset."""
    starts = onset_starts(notes["onset_div"])
    onset_beat = notes["onset_beat"][starts].astype(float)
    onset, offset = notes["onset_div"], notes["onset_div"] + notes["duration_div"]
    level, ramp = notes["dynamic"][starts], notes["ramp"][starts]
    in_force = np.append("", DYNAMICS[1:])[level]
    rising, falling = (_reached(ramp == sign, onset_beat) for sign in (1, -1))
    return Written(
        starts,
        np.repeat(np.arange(len(starts)), np.diff(starts, append=len(notes))),
        onset_beat,
        notes["duration_beat"].astype(float),
        notes["pitch"],
        articulation.transitions(onset, offset, notes["pitch"], notes["voice"]),
        dynamics.markings(onset_beat, in_force, rising, falling),
    )


def _reached(inside: np.ndarray, onset_beat: np.ndarray) -> np.ndarray:
    """Beats spent inside ramps up to each onset."""
    return np.concatenate([[0.0], np.cumsum(np.where(inside[:-1], np.diff(onset_beat), 0.0))])


def times(codec: np.ndarray, written: Written) -> Times:
    """Decode onsets and offsets of performances (..., N, 5); NaN at missing rows, offsets also without articulation.

    Time goes on at an onset without any row as it went before, as in the codec of a score that lacks it.
    """
    known = np.isfinite(codec[..., 0])
    period = _carried_on(mean_per_onset(codec[..., 0], known, written.starts))
    elapsed = np.cumsum(period[..., :-1] * np.diff(written.onset_beat), axis=-1)
    onset = np.concatenate([np.zeros((*period.shape[:-1], 1)), elapsed], axis=-1)[..., written.group] - codec[..., 2]
    duration = np.exp2(codec[..., 3]) * written.duration_beat * period[..., written.group]
    return Times(onset, onset + np.maximum(duration, MIN_DURATION))


def _carried_on(values: np.ndarray) -> np.ndarray:
    """Values (..., U) with those that are missing replaced by the last known one before, the first one at the start."""
    known = np.isfinite(values)
    last = np.maximum.accumulate(np.where(known, np.arange(values.shape[-1]), -1), axis=-1)
    first = known.argmax(axis=-1)[..., None]
    return np.take_along_axis(values, np.where(last < 0, first, last), axis=-1)


def inter_onset(onset_sec: np.ndarray, counts: np.ndarray, written: Written) -> tuple[np.ndarray, np.ndarray]:
    """Performed (s, at least 0.02) and written time (beats) from each onset to the next that is played.

    Args:
        onset_sec: (..., N) performed onsets; those of a chord are averaged.
        counts: (..., N) the notes that count.
        written: the score.

    Returns:
        (..., U) each, NaN where nothing is played and at the last onset.
    """
    at = mean_per_onset(onset_sec, counts, written.starts)
    onsets = at.shape[-1]
    played = np.where(np.isfinite(at), np.arange(onsets), onsets)
    following = np.minimum.accumulate(played[..., ::-1], axis=-1)[..., ::-1]
    following = np.concatenate([following[..., 1:], np.full((*at.shape[:-1], 1), onsets)], axis=-1)
    known = np.isfinite(at) & (following < onsets)
    following = np.minimum(following, onsets - 1)
    performed = np.maximum(np.take_along_axis(at, following, axis=-1) - at, LEAST_IOI)
    beats = written.onset_beat[following] - written.onset_beat
    return np.where(known, performed, np.nan), np.where(known, beats, np.nan)


def log_ioi(onset_sec: np.ndarray, counts: np.ndarray, written: Written) -> np.ndarray:
    """log2 of performed (s) over written time (beats) to the next onset, (..., U); NaN where that is too close.

    Arguments as for ``inter_onset``.
    """
    performed, beats = inter_onset(onset_sec, counts, written)
    return np.log2(performed / np.where(beats < LEAST_BEATS, np.nan, beats))


def performance_features(
    codec: np.ndarray, times: Times, counts: np.ndarray, written: Written, keydown: Times | None = None
) -> dict[str, np.ndarray]:
    """The features of performances by name, NaN where a note does not count or its score asks for none.

    Args:
        codec: (..., N, 5).
        times: of these performances.
        counts: (..., N) the notes that count.
        written: the score.
        keydown: times by key-down durations, where key overlap is to be compared by those too.

    Returns:
        (..., N) each, but ``log_ioi`` (..., U).
    """
    starts = written.starts
    velocity = velocity_curve(codec[..., 1], counts, starts)
    period = np.maximum(mean_per_onset(codec[..., 0], counts, starts), LEAST_PERIOD)
    by_onset = {
        "delta": asynchrony.spread(times.onset, counts, starts),
        "pitch_cor": asynchrony.pitch_correlation(times.onset, written.pitch, counts, starts),
        "agreement": dynamics.agreement(velocity, written.markings),
        "consistency_std": dynamics.consistency(velocity, written.markings),
        "ramp_cor": dynamics.ramp_correlation(velocity, written.markings),
        "tempo_cor": dynamics.tempo_correlation(period, velocity, written.markings),
    }
    found = {
        "log_ioi": log_ioi(times.onset, counts, written),
        "kor": articulation.key_overlap(times.onset, times.offset, counts, written.transitions),
        **{name: np.where(counts, values[..., written.group], np.nan) for name, values in by_onset.items()},
    }
    if keydown is not None:
        found["kor_keydown"] = articulation.key_overlap(keydown.onset, keydown.offset, counts, written.transitions)
    return found
