"""How far a performance and its alignment can be trusted: figures, flags for the doubtful, refusal of the hopeless.

A figure beyond the first bound of its line in ``BOUNDS`` sets a flag, which only tells; one beyond the second refuses
the performance, with a code: there the codec would describe something else than a performance of this score. What
people do play (arpeggios, free cadenzas, fugues without pedal) lies below the second bounds. Alignments that people
have checked are flagged and never refused, for their books say which are sound (``--robust-alignments-only``); six of
(n)ASAP have slipped and are beyond the bounds (decision 0006 shows them).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from dexter_model.codec.performance_codec import EncodedPerformance, aligned_rows
from dexter_model.codec.tempo import group_means, onset_groups
from dexter_model.errors import InputError
from dexter_model.notes import Alignment, Performance, Score

EARLY = 0.05  # s before a note that comes later in the score: nearer ones are played together
TEMPO_FACTOR = 4.0  # a beat period this many times the median, or this part of it, is an outlier
STUCK_KEY = 20.0  # s; no piano string of the middle register sounds longer
PEDAL_DOWN = 64
CHECKED_BY_PEOPLE = frozenset({"VIENNA422", "ASAP"})  # the corpora whose alignments were


@dataclass(frozen=True)
class Quality:
    """Figures of one performance, all of them plain numbers; shares are between 0 and 1.

    Attributes:
        match_ratio: matches among the lines of the alignment.
        deletion_share: deletions among the score notes that the alignment names.
        insertion_share: insertions among the played notes that the alignment names.
        wrong_pitch_share: pairs whose pitches differ.
        order_violations: score onsets played more than ``EARLY`` before one that comes earlier in the score.
        tempo_outliers: score onsets whose beat period is ``TEMPO_FACTOR`` times the median or more, or as much less.
        stuck_keys: notes whose key is down longer than ``STUCK_KEY``.
        pedal_events: CC64 events.
        pedal_down_share: of the time, with the pedal down.
        velocity_sd: standard deviation of the MIDI velocities.
        seconds: from the first key down to the last key up.
    """

    match_ratio: float
    deletion_share: float
    insertion_share: float
    wrong_pitch_share: float
    order_violations: float
    tempo_outliers: float
    stuck_keys: int
    pedal_events: int
    pedal_down_share: float
    velocity_sd: float
    seconds: float


class Bound(NamedTuple):
    """From where a figure is doubtful, and from where it is hopeless (None: it never is); ``above`` or below."""

    code: str
    figure: str
    above: bool
    doubtful: float
    hopeless: float | None
    told: str


# The first line's refusal is the published gate for ATEPP: fewer than half of the alignment's lines are matches.
BOUNDS = (
    Bound("low_alignment_match_ratio", "match_ratio", False, 0.8, 0.5, "of its alignment's lines are matches"),
    Bound("pitches_differ", "wrong_pitch_share", True, 0.02, 0.5, "of its aligned notes have another pitch"),
    Bound("alignment_out_of_order", "order_violations", True, 0.1, 0.5, "of its score onsets are played out of order"),
    Bound("tempo_jumps", "tempo_outliers", True, 0.15, None, "of its beat periods are outliers"),
    Bound("stuck_keys", "stuck_keys", True, 0, None, "keys held longer than 20 s"),
    Bound("no_pedal", "pedal_events", False, 2, None, "pedal events"),
    Bound("pedal_stuck", "pedal_down_share", True, 0.98, None, "of the time the pedal is down"),
    Bound("constant_velocity", "velocity_sd", False, 2.0, None, "standard deviation of its velocities"),
)
# What ATEPP's books say of recordings, from version 1.2 on; "high quality" is no reason for doubt.
CORRUPTED = "corrupted"  # the transcription, as its makers found by hearing it
RECORDINGS = {
    CORRUPTED: "recording_corrupted",
    "low quality": "recording_low_quality",
    "background noise": "recording_background_noise",
    "applause": "recording_applause",
}


def measure(score: Score, performance: Performance, alignment: Alignment, encoded: EncodedPerformance) -> Quality:
    """The figures of a performance that could be encoded.

    Args:
        score: the score that it was encoded on.
        performance: its notes and pedal.
        alignment: pairs of ids.
        encoded: what the codec made of the three.
    """
    score_note, played_note = alignment.score_id != "", alignment.performance_id != ""
    matches = int(np.count_nonzero(score_note & played_note))
    rows, played, _ = aligned_rows(score, performance, alignment, "")
    matched = played >= 0
    notes, performed = score.notes[rows[matched]], performance.notes[played[matched]]
    groups = onset_groups(notes["onset_beat"].astype(np.float64))
    onset = group_means(performed["onset_sec"], groups)
    beat_period = group_means(encoded.p_codec[encoded.matched, 0], groups)
    first, last = key_span(performance)
    return Quality(
        match_ratio=_share(matches, len(alignment.score_id)),
        deletion_share=_share(np.count_nonzero(score_note & ~played_note), np.count_nonzero(score_note)),
        insertion_share=_share(np.count_nonzero(~score_note), np.count_nonzero(played_note)),
        wrong_pitch_share=_share(np.count_nonzero(notes["pitch"] != performed["pitch"]), len(notes)),
        order_violations=_share(np.count_nonzero(onset < np.maximum.accumulate(onset) - EARLY), len(onset)),
        tempo_outliers=_share(np.count_nonzero(_outliers(beat_period)), len(beat_period)),
        stuck_keys=int(np.count_nonzero(performance.notes["keydown_sec"] > STUCK_KEY)),
        pedal_events=len(performance.pedal),
        pedal_down_share=_pedal_down(performance.pedal, first, last),
        velocity_sd=round(float(performed["velocity"].std()), 3),
        seconds=round(last - first, 3),
    )


def flags(quality: Quality) -> list[str]:
    """Codes of the figures that are doubtful, in the order of ``BOUNDS``."""
    return [bound.code for bound in BOUNDS if _beyond(getattr(quality, bound.figure), bound, bound.doubtful)]


def refuse_hopeless(quality: Quality, path: str) -> None:
    """Refuse a performance that cannot be one of its score.

    Raises:
        InputError: ``low_alignment_match_ratio``, ``pitches_differ`` or ``alignment_out_of_order``.
    """
    for bound in BOUNDS:
        value = getattr(quality, bound.figure)
        if bound.hopeless is not None and _beyond(value, bound, bound.hopeless):
            side = "more" if bound.above else "fewer"
            reason = f"{value:.0%} {bound.told}, {side} than {bound.hopeless:.0%}"
            raise InputError(
                path, reason, "Align it to its score again, or see that both are the same piece", bound.code
            )


def refuse_corrupted(recording: str, path: str) -> None:
    """Refuse a performance whose transcription its corpus's books call corrupted.

    Raises:
        InputError: ``recording_corrupted``.
    """
    if CORRUPTED in recording:
        reason = "its corpus's books call its transcription corrupted"
        raise InputError(path, reason, "Transcribe another recording", RECORDINGS[CORRUPTED])


def columns() -> dict[str, type]:
    """The columns that the figures take in the table of performances, and ``flags``, codes separated by spaces."""
    return {field.name: {"int": int, "float": float}[str(field.type)] for field in fields(Quality)} | {"flags": str}


def row(quality: Quality, recording: str = "") -> dict[str, Any]:
    """The values of ``columns``; what the books say of the recording is among the flags."""
    said = [code for words, code in RECORDINGS.items() if words in recording]
    return asdict(quality) | {"flags": " ".join(flags(quality) + said)}


def key_span(performance: Performance) -> tuple[float, float]:
    """When the first key goes down and the last one up, s."""
    onset = performance.notes["onset_sec"]
    return float(onset.min()), float((onset + performance.notes["keydown_sec"]).max())


def _outliers(beat_period: np.ndarray) -> np.ndarray:
    ratio = np.maximum(beat_period, 1e-9) / max(float(np.median(beat_period)), 1e-9)
    return np.abs(np.log2(ratio)) >= np.log2(TEMPO_FACTOR)


def _pedal_down(pedal: np.ndarray, first: float, last: float) -> float:
    """Share of the time between first and last (s) in which the sustain pedal is down."""
    if not len(pedal) or last <= first:
        return 0.0
    pedal = pedal[np.argsort(pedal[:, 0], kind="stable")]
    times = np.clip(np.append(pedal[:, 0], last), first, last)
    return _share(float(np.diff(times)[pedal[:, 1] >= PEDAL_DOWN].sum()), last - first)


def _share(part: SupportsFloat, whole: SupportsFloat) -> float:
    return round(float(part) / float(whole), 6) if float(whole) else 0.0


def _beyond(value: float, bound: Bound, limit: float) -> bool:
    return value > limit if bound.above else value < limit
