"""The estimator ``symbolic-v1``: perceptual features from a performance's notes, without a network or sound.

Deterministic and documented, but no validated model of perception. Who plays explains some percent of these features,
what is played most of the rest: so the deadpan performance of the score is estimated too, at the same places, and the
difference is what a performer did.
"""

from __future__ import annotations

import numpy as np

from dexter_model.codec.performance_codec import EncodedPerformance, decode
from dexter_model.codec.tempo import equivalent_onsets, group_means, onset_groups
from dexter_model.notes import Performance, Score
from dexter_model.perceptual.composites import composites
from dexter_model.perceptual.events import chord_events
from dexter_model.perceptual.features import WINDOW, PerceptualFeatures, unknown_values
from dexter_model.perceptual.melody import articulation_terms, melody_terms
from dexter_model.perceptual.rhythm import beat_term, rhythm_terms
from dexter_model.perceptual.roughness import roughness_terms
from dexter_model.perceptual.tonality import tonality_terms
from dexter_model.perceptual.windows import Windows, windows_at, windows_over
from dexter_model.performers import deadpan

SOURCE = "estimate:symbolic-v1"
MIN_NOTES, MIN_EVENTS = 8, 4  # in a window; about less nothing is said


def estimate(
    performance: Performance,
    score: Score | None = None,
    p_codec: np.ndarray | None = None,
    matched: np.ndarray | None = None,
    start: float = 0.0,
) -> PerceptualFeatures:
    """Estimate the perceptual features of a performance in windows of 15 s, 5 s apart, on its own clock.

    Args:
        performance: its notes, in any order.
        score: the notes (n) of the codec's rows; without it there are neither beats nor a reference.
        p_codec: (n, 5), which tells when each beat came.
        matched: (n,) as ``decode`` takes it.
        start: s, when the first matched note begins.
    """
    first, last = _extent(performance)
    windows = windows_over(first, last)
    centres = windows.start + windows.seconds / 2
    if score is None or p_codec is None:
        values = _described(performance, windows, *_NO_BEATS)
        reference = unknown_values(len(values))
    else:
        u, seconds = score_clock(score.notes, p_codec, matched, start)
        values = _described(performance, windows, *beats_of(u, seconds))
        reference = _deadpan(score, u, seconds, centres)
    mask = np.isfinite(values).all(axis=1)
    return PerceptualFeatures(centres, values, reference, mask, SOURCE)


def estimate_encoded(performance: Performance, encoded: EncodedPerformance, score: Score) -> PerceptualFeatures:
    """The estimate of a performance beside its score, on the clock of ``decode``: 0 is the first matched note.

    Args:
        performance: as it was read.
        encoded: its codec.
        score: the whole score that the codec's ``rows`` count in.
    """
    notated = Score(encoded.note_id, score.notes[encoded.rows])
    features = estimate(performance, notated, encoded.p_codec, encoded.matched, encoded.start)
    return features.shifted(-encoded.start)


def raw_terms(
    performance: Performance, windows: Windows, beats: np.ndarray, beat_seconds: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every raw term (M,) of ``composites.SCALES`` in these windows, and whether each holds enough notes to tell."""
    events = chord_events(performance)
    note_low, note_high = windows.spans(events.notes["onset_sec"])
    event_low, event_high = windows.spans(events.onset)
    enough = (note_high - note_low >= MIN_NOTES) & (event_high - event_low >= MIN_EVENTS)
    terms = {
        **articulation_terms(events, windows),
        **melody_terms(events, windows),
        **rhythm_terms(events, windows),
        "sd_beat": beat_term(beats, beat_seconds, windows),
        **roughness_terms(events, windows),
        **tonality_terms(events, windows),
    }
    return terms, enough


def score_clock(
    notes: np.ndarray, p_codec: np.ndarray, matched: np.ndarray | None, start: float
) -> tuple[np.ndarray, np.ndarray]:
    """Score onsets (k,) in beats and when they come (k,) in s, as ``decode`` has it, later by ``start``."""
    codec = p_codec.astype(np.float64)
    groups = onset_groups(notes["onset_beat"].astype(np.float64))
    u = group_means(notes["onset_beat"], groups)
    seconds = equivalent_onsets(u, group_means(codec[:, 0], groups))
    onset = seconds[groups] - codec[:, 2]
    played = onset if matched is None or not matched.any() else onset[matched]
    return u, np.maximum.accumulate(seconds - played.min() + start)


_NO_BEATS = (np.zeros(0), np.zeros(0))


def beats_of(u: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The beats (k,) that lie in the score and when they come; where notes pause for beats, those are left out."""
    beats = np.unique(np.floor(u))
    beats = beats[beats >= u[0]]
    return beats, np.interp(beats, u, seconds)


def _extent(performance: Performance) -> tuple[float, float]:
    onset = performance.notes["onset_sec"]
    return float(onset.min()), float(onset.max())


def _described(performance: Performance, windows: Windows, beats: np.ndarray, beat_seconds: np.ndarray) -> np.ndarray:
    """Features (M, 7) float32, NaN for windows with too few notes."""
    terms, enough = raw_terms(performance, windows, beats, beat_seconds)
    return np.where(enough[:, None], composites(terms), np.nan).astype(np.float32)


def _deadpan(score: Score, u: np.ndarray, seconds: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Features (M, 7) of the score played deadpan in the same time, in windows around the same places of the score."""
    beats, duration = u[-1] - u[0], seconds[-1] - seconds[0]
    if beats <= 0 or duration <= 0:
        return unknown_values(len(centres))
    beat_period = duration / beats
    played = decode(score.notes, score.note_id, deadpan.perform(score.notes, 60 / beat_period))
    first, last = _extent(played)
    middle = (np.interp(centres, seconds, u) - u[0]) * beat_period
    windows = windows_at(np.clip(middle - WINDOW / 2, first, max(first, last - WINDOW)), last)
    return _described(played, windows, *beats_of(u, (u - u[0]) * beat_period))
