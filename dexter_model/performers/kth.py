"""Virtual pianists: the KTH rules in personal proportions, a tempo, a pedalling habit and hands that are not exact.

They play the synthetic performances of the demo corpus and are a baseline for evaluation. One pianist plays one score
always alike, note for note.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dexter_model.performers import rules

VELOCITIES = (35, 110)
VELOCITY_AT_0_DB, VELOCITY_PER_DB = 64, 3.5
FREEDOM = np.log2(1.25)  # how far from the base tempo the rules may lead, the final ritard excepted


@dataclass(frozen=True)
class Pianist:
    """A virtual pianist.

    Attributes:
        name: how corpora and reports call them.
        seed: of their motor noise.
        tempo: factor on the tempo a score suggests (``natural_tempo``).
        pedal: when the sustain pedal is changed: never pressed, at every bar, or at changes of bass and bar.
        phrase_arch, duration_contrast, high_loud, punctuation, final_ritard, notation, melody_lead: rule quantities k.
        noise: motor noise; 1 is a standard deviation of 6 ms in onsets, 1.5 % in the beat period and 2 in velocity.
    """

    name: str
    seed: int = 0
    tempo: float = 1.0
    pedal: Literal["none", "bar", "harmony"] = "harmony"
    phrase_arch: float = 1.0
    duration_contrast: float = 1.0
    high_loud: float = 1.0
    punctuation: float = 1.0
    final_ritard: float = 1.0
    notation: float = 1.0
    melody_lead: float = 1.0
    noise: float = 1.0


PIANISTS = (
    Pianist("Arco", seed=1, tempo=0.92, phrase_arch=1.4, high_loud=0.7, melody_lead=1.4, final_ritard=1.1),
    Pianist("Brio", seed=2, tempo=1.18, pedal="bar", phrase_arch=0.6, duration_contrast=1.8, final_ritard=0.6),
    Pianist("Classico", seed=3, pedal="none", phrase_arch=0.8, punctuation=1.8, high_loud=0.5, melody_lead=0.6),
    Pianist("Dolce", seed=4, tempo=0.84, phrase_arch=1.1, duration_contrast=-0.6, high_loud=1.3, punctuation=0.5),
)


def perform(notes: np.ndarray, pianist: Pianist, bpm: float | None = None) -> np.ndarray:
    """Let a pianist play a score.

    Args:
        notes: (n,) SCORE_NOTE, n > 0, in any order.
        pianist: who plays.
        bpm: beats (of the metre's denominator) a minute; None takes ``natural_tempo`` times the pianist's own factor.

    Returns:
        (n, 5) float32 performance codec, rows in the order of ``notes``.
    """
    fields = ("staff", "voice", "duration_div", "grace", "pitch", "onset_div")
    order = np.lexsort([notes[field] for field in fields])  # by onset, pitch, ...: independent of the given order
    played = np.empty((len(notes), 5), np.float32)
    played[order] = _play(notes[order], pianist, 60 / (bpm or natural_tempo(notes) * pianist.tempo))
    return played


def natural_tempo(notes: np.ndarray) -> float:
    """A tempo (beats a minute) for a score that names none, from how many onsets a quarter note has.

    80 quarter notes a minute where there are two, the slower the more there are (by the root of their number), between
    50 and 140.
    """
    onset = np.unique(notes["onset_beat"])
    end = (notes["onset_beat"] + notes["duration_beat"]).max()
    quarters_a_beat = 4 / max(int(notes["beat_type"][0]), 1)
    onsets_a_quarter = len(onset) / max(float(end - onset[0]) * quarters_a_beat, 1.0)
    return float(np.clip(80 * np.sqrt(2 / onsets_a_quarter), 50, 140)) / quarters_a_beat


def _play(notes: np.ndarray, pianist: Pianist, beat_period: float) -> np.ndarray:
    random = np.random.default_rng([pianist.seed, len(notes)])
    group, first = rules.onset_groups(notes)
    deviation = (
        rules.phrase_arch(notes, pianist.phrase_arch)
        + rules.duration_contrast(notes, pianist.duration_contrast, beat_period)
        + rules.high_loud(notes, pianist.high_loud)
        + rules.punctuation(notes, pianist.punctuation, beat_period)
        + rules.notation(notes, pianist.notation)
    )
    deviation[:, rules.TEMPO] += 0.02 * pianist.noise * random.standard_normal(len(first))[group]
    slowing = np.clip(deviation[:, rules.TEMPO], -FREEDOM, FREEDOM)
    slowing = slowing + rules.final_ritard(notes, pianist.final_ritard)[:, rules.TEMPO]
    velocity = VELOCITY_AT_0_DB + VELOCITY_PER_DB * deviation[:, rules.LEVEL]
    velocity += 2 * pianist.noise * random.standard_normal(len(notes))
    early = rules.melody_lead(notes, pianist.melody_lead)
    early += _centred(0.006 * pianist.noise * random.standard_normal(len(notes)), first, group)
    return np.column_stack(
        [
            beat_period * 2**slowing,
            np.round(np.clip(velocity, *VELOCITIES)) / 127,
            early,
            deviation[:, rules.LENGTH],
            pedal(notes, pianist.pedal),
        ]
    )


def pedal(notes: np.ndarray, habit: Literal["none", "bar", "harmony"]) -> np.ndarray:
    """Sustain pedal (n,), 0 or 1: lifted on the onset where it is changed, down on the others.

    It is changed at bar lines and, for the habit ``harmony``, where another bass note is struck on a beat. Staccato
    is played without.
    """
    group, first = rules.onset_groups(notes)
    if habit == "none":
        return np.zeros(len(notes))
    position = notes["metrical_position"][first]
    bar = np.round(notes["onset_beat"][first] - position, 2)
    change = np.diff(bar, prepend=np.nan) != 0
    if habit == "harmony":
        beat = np.flatnonzero(np.abs(position - np.round(position)) < 0.01)
        bass = notes["pitch"][first][beat] % 12  # the first note of a group is its lowest
        change[beat[np.diff(bass, prepend=-1) != 0]] = True
    short = notes["articulation"] & 3  # staccato, staccatissimo
    return (~change & (np.maximum.reduceat(short, first) == 0))[group].astype(float)


def _centred(values: np.ndarray, first: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Values without the mean of their onset group, so that the group's onset stays where the tempo puts it."""
    count = np.diff(np.append(first, len(values)))
    return np.asarray(values - (np.add.reduceat(values, first) / count)[group])
