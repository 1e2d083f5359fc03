"""The ``extended`` score condition: what a pianist reads off the page, a row of about unit size each.

Beats and their logarithms instead of divs, place in the bar and in the piece, the shape of melody and texture, the
markings, and what the KTH rules (``performers.rules``) would do: the network starts from a century of such rules and
learns where pianists differ.

Shapes: n notes of a whole piece, k onsets.
"""

from __future__ import annotations

import numpy as np

from dexter_model.codec.tempo import group_starts, onset_groups
from dexter_model.notes import ARTICULATIONS
from dexter_model.performers import kth

NEAR = 8.0  # beats: how far beginnings, ends and changes of dynamics are felt
_RULES = kth.Pianist("rules", noise=0)


def extended_rows(notes: np.ndarray) -> np.ndarray:
    """(n, S) float32, columns as ``EXTENDED_ROWS``, of the SCORE_NOTE (n,) of a whole piece, sorted by onset, pitch."""
    if not len(notes):
        return np.zeros((0, len(EXTENDED_ROWS)), np.float32)
    return np.column_stack(list(_rows(notes).values())).astype(np.float32)


def _rows(notes: np.ndarray) -> dict[str, np.ndarray]:
    return {
        **_pitch_rows(notes),
        **_time_rows(notes),
        **_metre_rows(notes),
        **_marking_rows(notes),
        **_tempo_rows(notes),
        **_key_rows(notes),
        **_rule_rows(notes),
    }


def _pitch_rows(notes: np.ndarray) -> dict[str, np.ndarray]:
    """Register, place in the chord, melodic steps of the top and the bottom line, staff and voice."""
    group, first = _groups(notes)
    pitch = notes["pitch"].astype(float)
    size = np.diff(np.append(first, len(notes)))
    top, bottom = np.maximum.reduceat(pitch, first), np.minimum.reduceat(pitch, first)
    return {
        "pitch": (pitch - 60) / 20,
        "below_top": (top[group] - pitch) / 12,
        "above_bottom": (pitch - bottom[group]) / 12,
        "is_top": pitch == top[group],
        "is_bottom": pitch == bottom[group],
        "chord_size": np.log2(size)[group] / 2,
        "top_step_before": (np.diff(top, prepend=top[0]) / 12).clip(-2, 2)[group],
        "top_step_after": (np.diff(top, append=top[-1]) / 12).clip(-2, 2)[group],
        "bottom_step_before": (np.diff(bottom, prepend=bottom[0]) / 12).clip(-2, 2)[group],
        "staff": notes["staff"].clip(0, 2) - 1.0,
        "voice": notes["voice"].clip(0, 8) / 4.0,
        "register_of_piece": np.full(len(notes), (pitch.mean() - 60) / 20),
    }


def _time_rows(notes: np.ndarray) -> dict[str, np.ndarray]:
    """Durations and intervals in log2 beats, rests, density, place in the piece."""
    group, first = _groups(notes)
    onset = notes["onset_beat"].astype(float)
    starts = onset[first]
    after = np.append(
        np.diff(starts), max(float((onset + notes["duration_beat"])[first[-1] :].max() - starts[-1]), 0.1)
    )
    before = np.append(after[0], after[:-1])
    ends = np.maximum.accumulate(np.maximum.reduceat(onset + notes["duration_beat"], first))
    rest = np.append(starts[1:] - ends[:-1], 0.0).clip(0, 2)
    near = np.searchsorted(onset, onset + 2) - np.searchsorted(onset, onset - 2)
    span = max(starts[-1] - starts[0], 1e-6)
    return {
        "log_duration": _log2(notes["duration_beat"]),
        "log_interval": _log2(after)[group],
        "log_interval_before": _log2(before)[group],
        "log_lengthening": np.log2(after / before).clip(-3, 3)[group] / 2,
        "held": (notes["duration_beat"] / after[group]).clip(0, 4) / 2,
        "rest_after": rest[group],
        "density": np.log2(near / 4 + 0.1) / 2,
        "interval_of_piece": np.full(len(notes), _log2(after).mean()),
        "place": 2 * (onset - starts[0]) / span - 1,
        "beginning": np.exp((starts[0] - onset) / NEAR),
        "end": np.exp((onset - starts[-1]) / NEAR),
    }


def _metre_rows(notes: np.ndarray) -> dict[str, np.ndarray]:
    """Place in the bar, strength of the beat, the metre."""
    position, beats = notes["metrical_position"].astype(float), np.maximum(notes["beats"], 1)
    off_beat = np.abs(position - np.round(position))
    phase = 2 * np.pi * position / beats
    return {
        "grace": notes["grace"],
        "downbeat": np.abs(position) < 0.01,
        "middle_of_bar": np.abs(position - beats / 2) < 0.01,
        "on_beat": off_beat < 0.01,
        "on_half_beat": np.abs(off_beat - 0.5) < 0.01,
        "bar_sine": np.sin(phase),
        "bar_cosine": np.cos(phase),
        "beats": np.log2(beats) - 1.5,
        "beat_type": np.log2(np.maximum(notes["beat_type"], 1)) - 2,
    }


def _marking_rows(notes: np.ndarray) -> dict[str, np.ndarray]:
    """Dynamics in force and where they change, hairpins, articulation marks and slurs."""
    level = (notes["dynamic"] - 4.5) / 2
    marked = notes["dynamic"] > 0
    onset = notes["onset_beat"].astype(float)
    change = np.diff(notes["dynamic"], prepend=notes["dynamic"][:1]) * (onset > onset[0])
    latest = np.maximum.accumulate(np.where(change != 0, np.arange(len(notes)), 0))
    mean = level[marked].mean() if marked.any() else 0.0
    return {
        "marked": marked,
        "dynamic": np.where(marked, level, 0),
        "dynamic_of_piece": np.where(marked, level - mean, 0),
        "dynamic_changed": change[latest] / 4 * np.exp((onset[latest] - onset) / NEAR),
        "ramp": notes["ramp"],
        **{name: notes["articulation"] >> bit & 1 for bit, name in enumerate(ARTICULATIONS)},
    }


def _tempo_rows(notes: np.ndarray) -> dict[str, np.ndarray]:
    """Marked tempo, about 100 beats a minute and about the piece's own, and ritardandi."""
    known = notes["tempo"] > 0
    tempo = np.log2(np.where(known, notes["tempo"], 100) / 100)
    return {
        "tempo_known": known,
        "tempo": tempo,
        "tempo_of_piece": np.where(known, 3 * (tempo - (np.median(tempo[known]) if known.any() else 0)), 0),
        "tempo_ramp": notes["tempo_ramp"],
    }


def _key_rows(notes: np.ndarray) -> dict[str, np.ndarray]:
    """Key signature, mode, and which notes are foreign to its scale."""
    degree = (notes["pitch"] * 7 - notes["key"] + 1) % 12  # on the line of fifths from the scale's first: 0 to 6 in it
    return {"key": notes["key"] / 4, "mode": notes["mode"], "chromatic": degree > 6}


def _rule_rows(notes: np.ndarray) -> dict[str, np.ndarray]:
    """Tempo, level, lead, length and pedal of the rule-based performer, about a standard deviation each."""
    codec = kth.perform(notes, _RULES)
    period = np.log2(codec[:, 0])
    return {
        "rules_slowing": (period - np.median(period)) * 4,
        "rules_velocity": (codec[:, 1] - 0.5) * 8,
        "rules_timing": codec[:, 2] * 50,
        "rules_articulation": codec[:, 3] * 2,
        "rules_pedal": codec[:, 4],
        "rules_tempo": np.full(len(notes), np.median(period)),
    }


def _groups(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each note's onset (n,), and the first note of each onset (k,)."""
    group = onset_groups(notes["onset_beat"].astype(float))
    return group, group_starts(group)


def _log2(beats: np.ndarray) -> np.ndarray:
    """log2 beats, halved, of durations from 1/64 to 16 beats."""
    return np.log2(np.clip(beats, 1 / 64, 16)) / 2


def _names() -> tuple[str, ...]:
    from dexter_model.notes import SCORE_NOTE

    one = np.zeros(1, SCORE_NOTE)
    one["duration_beat"] = one["duration_div"] = one["beats"] = one["voice"] = one["staff"] = 1
    one["beat_type"] = 4
    return tuple(_rows(one))


EXTENDED_ROWS = _names()
