"""The performance codec: how each note of a score was played, five numbers a note, and back to notes in time.

Columns (``CODEC_COLUMNS``): beat_period s/beat, velocity / 127, timing s (positive is early), articulation_log (log2 of
sounding over notated duration at that beat period), pedal (CC64 at the onset) / 127. After Cancino-Chacon (2018,
ch. 3); released partitura 1.9.0 has the first four. Tempo, timing and articulation come from matched notes alone; a
note that was not played keeps its row, filled so that a decoded piece keeps its length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dexter_model.codec.tempo import ONSET_TOLERANCE, beat_periods, equivalent_onsets, group_means, onset_groups
from dexter_model.errors import InputError
from dexter_model.notes import PERFORMED_NOTE, Alignment, Performance, Score

MIN_DURATION = 0.075  # s; shorter notes count as this long, grace notes decode to it
MAX_TEMPO = 200  # beats a minute; a faster mean is marked, not rejected


@dataclass(frozen=True, eq=False)
class EncodedPerformance:
    """A performance on its score's notes, a row a note that the alignment names, sorted by score onset, then pitch.

    Attributes:
        rows: (n,) index of the note in the score.
        note_id: (n,) its id.
        p_codec: (n, 5) float32.
        s_codec: (n, 4) int32: onset_div, duration_div, pitch, voice.
        matched: (n,) whether the note was played; other rows are filled in.
        keydown_articulation: (n,) float32: articulation_log of key-down instead of sounding durations.
        unknown_ids: how many ids of the alignment the score lacks.
        tempo_outlier: whether the mean tempo exceeds 200 beats a minute.
        start: performed onset (s) of the first matched note, which ``decode`` sets to 0.
    """

    rows: np.ndarray
    note_id: np.ndarray
    p_codec: np.ndarray
    s_codec: np.ndarray
    matched: np.ndarray
    keydown_articulation: np.ndarray
    unknown_ids: int
    tempo_outlier: bool
    start: float = 0.0


def encode(score: Score, performance: Performance, alignment: Alignment, path: str = "") -> EncodedPerformance:
    """Encode a performance of a score.

    Args:
        score: its notes.
        performance: notes and pedal.
        alignment: of several lines for one score note the first holds.
        path: the file to name when the alignment does not fit.

    Raises:
        InputError: ``unknown_ids`` when fewer than half of the matched ids exist, ``no_matches`` when there are none.
    """
    rows, played, unknown_ids = aligned_rows(score, performance, alignment, path)
    matched = played >= 0
    notes, performed = score.notes[rows], performance.notes[played[matched]]
    beat_period, timing = _tempo(notes, matched, performed)
    notated = (beat_period * notated_durations(notes))[matched]
    p_codec = np.empty((len(rows), 5))
    p_codec[:, 0] = beat_period
    p_codec[:, 1] = _filled(performed["velocity"] / 127, matched)
    p_codec[:, 2] = _filled(timing, matched)
    p_codec[:, 3] = _filled(_articulation(performed["duration_sec"], notated), matched)
    p_codec[:, 4] = _filled(pedal_at(performance.pedal, performed["onset_sec"]), matched)
    return EncodedPerformance(
        rows,
        score.note_id[rows],
        p_codec.astype(np.float32),
        np.stack([notes[name] for name in ("onset_div", "duration_div", "pitch", "voice")], axis=1).astype(np.int32),
        matched,
        _filled(_articulation(performed["keydown_sec"], notated), matched).astype(np.float32),
        unknown_ids,
        bool(60 / beat_period[matched].mean() > MAX_TEMPO),
        float(performed["onset_sec"].min()),
    )


def decode(
    notes: np.ndarray, note_id: np.ndarray, p_codec: np.ndarray, matched: np.ndarray | None = None
) -> Performance:
    """The performance that a codec describes, a note a row.

    Args:
        notes: (n,) of SCORE_NOTE, sorted by onset, then pitch.
        note_id: (n,) ids, which the played notes take over.
        p_codec: (n, 5).
        matched: (n,) which rows were played: the first of them begins at 0 and only they move the pedal.

    Raises:
        InputError: it is not known when the notes begin (``no_beats``; imported pieces without their score).
    """
    if not np.isfinite(notes["onset_beat"]).all():
        remedy = "Import it again with the score's file in reach (--path-remap)"
        raise InputError("score", "is known in divs only, not in beats", remedy, "no_beats")
    codec = np.asarray(p_codec, np.float64)
    real = np.ones(len(notes), bool) if matched is None or not matched.any() else matched
    groups = onset_groups(notes["onset_beat"].astype(np.float64))
    beat_period = group_means(codec[:, 0], groups)
    times = equivalent_onsets(group_means(notes["onset_beat"], groups), beat_period)
    onset = times[groups] - codec[:, 2]
    onset = np.maximum(onset - onset[real].min(), 0)
    performed = np.zeros(len(notes), PERFORMED_NOTE)
    performed["onset_sec"] = onset
    duration = np.exp2(codec[:, 3]) * notated_durations(notes) * beat_period[groups]
    performed["duration_sec"] = performed["keydown_sec"] = np.maximum(duration, MIN_DURATION)
    performed["pitch"] = notes["pitch"]
    performed["velocity"] = np.clip(np.rint(codec[:, 1] * 127), 1, 127)
    values = np.clip(np.rint(codec[real, 4] * 127), 0, 127)
    order = np.argsort(onset[real], kind="stable")
    return Performance(note_id, performed, np.column_stack([onset[real], values])[order])


def notated_durations(notes: np.ndarray) -> np.ndarray:
    """Durations (n,) in beats, float64; grace notes have none."""
    return notes["duration_beat"].astype(np.float64)


def pedal_at(pedal: np.ndarray, times: np.ndarray) -> np.ndarray:
    """CC64 / 127 at these times (n,), linear between its events, 0 outside them and with fewer than two."""
    if len(pedal) < 2:
        return np.zeros(len(times))
    return np.interp(times, pedal[:, 0], pedal[:, 1], left=0, right=0) / 127


def aligned_rows(
    score: Score, performance: Performance, alignment: Alignment, path: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """Score rows (n,) that the alignment names, the performed note of each or -1, and the number of unknown ids.

    A match whose performed note does not exist counts as a deletion.
    """
    named = alignment.score_id != ""
    score_row = _positions(alignment.score_id[named], score.note_id)
    match = alignment.performance_id[named] != ""
    played = np.where(match, _positions(alignment.performance_id[named], performance.note_id), -1)
    known, matches = np.count_nonzero((score_row >= 0) & (played >= 0)), np.count_nonzero(match)
    if known * 2 < matches:
        reason = f"only {known} of the {matches} matches in its alignment name notes of this score and performance"
        raise InputError(path, reason, "Give the score that the alignment was made with", "unknown_ids")
    rows, first = np.unique(score_row[score_row >= 0], return_index=True)
    first_played = played[score_row >= 0][first]
    if not (first_played >= 0).any():
        remedy = "Align the performance to the score again"
        raise InputError(path, "its alignment matches no note of the score", remedy, "no_matches")
    return rows, first_played, len(np.unique(alignment.score_id[named][score_row < 0]))


def _positions(wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Index in ``ids`` (not empty) of each wanted id, the first one, or -1."""
    order = np.argsort(ids, kind="stable")
    found = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    return np.where(ids[order[found]] == wanted, order[found], -1)


def _tempo(notes: np.ndarray, matched: np.ndarray, performed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Beat periods (n,) of all rows and timing (m,) of the matched ones, from the matched ones."""
    onset_beat = notes["onset_beat"].astype(np.float64)
    score_onset = onset_beat[matched]
    onset = performed["onset_sec"].astype(np.float64)
    offset = onset + np.maximum(performed["duration_sec"], MIN_DURATION)
    groups = onset_groups(score_onset)
    score_offset = score_onset + notated_durations(notes[matched])
    periods = beat_periods(score_onset, score_offset, onset, offset, groups)
    u = group_means(score_onset, groups)
    times = equivalent_onsets(u, periods) + onset[groups == 0].mean()
    # A padded row takes the beat period of its own onset, or of the last matched onset before it, or of the first.
    holding = np.searchsorted(u, onset_beat + ONSET_TOLERANCE, side="right") - 1
    return periods[np.maximum(holding, 0)], times[groups] - onset


def _articulation(duration: np.ndarray, notated: np.ndarray) -> np.ndarray:
    """log2 of played over notated duration (both s), 0 for grace notes."""
    grace = notated <= 0
    return np.log2(np.where(grace, 1.0, np.maximum(duration, MIN_DURATION) / np.where(grace, 1.0, notated)))


def _filled(values: np.ndarray, matched: np.ndarray) -> np.ndarray:
    """A column (n,): the values of the matched rows, their mean in the others."""
    column = np.full(len(matched), values.mean(dtype=np.float64))
    column[matched] = values
    return column
