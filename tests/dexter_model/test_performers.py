"""Performers: each rule alone, then whole performances of real scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dexter_model.corpora.layouts import packaged
from dexter_model.notes import ARTICULATIONS, SCORE_NOTE
from dexter_model.performers import deadpan, rules
from dexter_model.performers.kth import FREEDOM, PIANISTS, Pianist, natural_tempo, perform
from dexter_model.reading.score import load_score

RULES = ("phrase_arch", "duration_contrast", "high_loud", "punctuation", "final_ritard", "notation", "melody_lead")
TIMED = ("duration_contrast", "punctuation")  # rules that need to know the tempo
STILL = Pianist("still", 0, 1.0, "none", 0, 0, 0, 0, 0, 0, 0, 0)


def melody(pitches: list[int], beats: float = 1.0) -> np.ndarray:
    """A monophonic tune in 4/4, notes of equal length."""
    notes = np.zeros(len(pitches), SCORE_NOTE)
    notes["pitch"], notes["duration_beat"], notes["duration_div"] = pitches, beats, round(12 * beats)
    notes["onset_beat"] = np.arange(len(pitches)) * beats
    notes["onset_div"] = np.arange(len(pitches)) * round(12 * beats)
    notes["metrical_position"] = notes["onset_beat"] % 4
    notes["beats"], notes["beat_type"] = 4, 4
    return notes


def apply(rule: str, notes: np.ndarray, k: float) -> np.ndarray:
    return getattr(rules, rule)(notes, k, *([0.5] if rule in TIMED else []))


@pytest.fixture(scope="module")
def chorale() -> np.ndarray:
    return load_score(packaged("music21", "corpus", "bach", "bwv66.6.mxl")).notes


@pytest.fixture(scope="module")
def sonata() -> np.ndarray:
    return load_score(packaged("music21", "corpus", "mozart", "k545", "movement1_exposition.mxl")).notes


@st.composite
def scores(draw: st.DrawFn) -> np.ndarray:
    """Any score-like note array: chords, gaps, grace notes, markings; sorted, no two rows alike."""
    count = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    notes = np.zeros(count, SCORE_NOTE)
    notes["onset_div"] = np.sort(rng.integers(0, 4 * count, count))
    notes["duration_div"] = rng.integers(0, 9, count)
    notes["onset_beat"], notes["duration_beat"] = notes["onset_div"] / 4 - 1, notes["duration_div"] / 4
    notes["grace"] = notes["duration_div"] == 0
    notes["pitch"] = rng.integers(21, 109, count)
    notes["voice"] = np.arange(count)
    notes["metrical_position"] = notes["onset_beat"] % 3
    notes["beats"], notes["beat_type"] = 3, draw(st.sampled_from([2, 4, 8]))
    notes["dynamic"], notes["ramp"] = rng.integers(0, 9, count), rng.integers(-1, 2, count)
    notes["articulation"] = rng.integers(0, 1 << len(ARTICULATIONS), count)
    return notes[np.lexsort((notes["pitch"], notes["onset_div"]))]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_quantity_zero_does_nothing(rule: str, sonata: np.ndarray) -> None:
    assert not apply(rule, sonata, 0.0).any()


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"final_ritard"}))
def test_the_quantity_scales_a_rule(rule: str, sonata: np.ndarray) -> None:
    normal = apply(rule, sonata, 1.0)
    assert np.abs(normal).max() > 0
    np.testing.assert_allclose(apply(rule, sonata, -2.5), -2.5 * normal, atol=1e-12)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"melody_lead"}))
def test_notes_of_one_onset_share_their_tempo(rule: str, chorale: np.ndarray) -> None:
    tempo = apply(rule, chorale, 1.0)[:, rules.TEMPO]
    for onset in np.unique(chorale["onset_beat"]):
        assert np.ptp(tempo[chorale["onset_beat"] == onset]) == 0


def test_high_notes_are_louder_by_three_decibels_an_octave() -> None:
    moved = rules.high_loud(melody([60, 72, 48]), 1.0)
    np.testing.assert_allclose(moved, [[0, 0, 0], [0, 3, 0], [0, -3, 0]])


def test_the_final_ritard_slows_down_to_half_the_tempo_at_the_end_only() -> None:
    notes = melody([60] * 64)
    tempo = rules.final_ritard(notes, 1.0)[:, rules.TEMPO]
    assert not tempo[:-9].any()
    assert (np.diff(tempo[-9:]) > 0).all()
    assert tempo[-1] == pytest.approx(1)
    harder = rules.final_ritard(notes, 2.0)[:, rules.TEMPO]
    assert (harder[-8:] > tempo[-8:]).all()


def test_a_phrase_speeds_up_and_grows_then_slows_down_and_fades() -> None:
    moved = rules.phrase_arch(melody([60] * 32), 1.0)
    tempo, level = moved[:, rules.TEMPO], moved[:, rules.LEVEL]
    for phrase in (tempo[:16], tempo[16:]):
        assert phrase[0] > phrase[6] < phrase[15]
    assert level[0] < level[13]
    assert level[31] < level[18]
    assert abs(tempo.mean()) < 0.01  # the arch changes the tempo's course, not the tempo


def test_a_phrase_ends_at_a_fermata() -> None:
    notes = melody([60] * 32)
    notes["articulation"][9] = 1 << ARTICULATIONS.index("fermata")
    np.testing.assert_allclose(rules.phrase_position(notes, 4)[:10], (np.arange(10) + 0.5) / 10)
    assert rules.phrase_position(notes, 4)[10] < 0.1


def test_duration_contrast_shortens_short_notes_and_leaves_long_ones() -> None:
    long, short = (rules.duration_contrast(melody([60] * 8, beats), 1.0, 0.5) for beats in (2.0, 0.5))
    assert not long.any()
    assert (short[:, rules.TEMPO] < 0).all()
    assert (short[:, rules.LEVEL] < 0).all()


def test_punctuation_detaches_and_lengthens_the_note_before_a_rest() -> None:
    notes = melody([60] * 8)
    notes["duration_beat"][3] = 0.5
    moved = rules.punctuation(notes, 1.0, 0.5)
    assert moved[3, rules.TEMPO] > 0
    assert moved[3, rules.LENGTH] < 0
    assert not moved[[0, 1, 2, 4, 5, 6]].any()


def test_the_highest_note_of_a_chord_comes_first() -> None:
    chord = melody([60, 64, 67])
    chord["onset_beat"] = chord["onset_div"] = 0
    early = rules.melody_lead(chord, 1.0)
    assert early[2] - early[0] == pytest.approx(0.02)
    assert early.sum() == pytest.approx(0)


def test_notation_is_obeyed() -> None:
    notes = melody([60] * 4)
    notes["dynamic"] = [2, 7, 7, 7]
    notes["articulation"][3] = 1 << ARTICULATIONS.index("staccato")
    moved = rules.notation(notes, 1.0)
    assert moved[1, rules.LEVEL] - moved[0, rules.LEVEL] == pytest.approx(12.5)
    assert moved[3, rules.LENGTH] == -1


@pytest.mark.parametrize("pianist", PIANISTS, ids=lambda pianist: pianist.name)
def test_performances_are_plausible(pianist: Pianist, sonata: np.ndarray, chorale: np.ndarray) -> None:
    for notes in (sonata, chorale):
        codec = perform(notes, pianist)
        beat_period, velocity, timing, articulation, pedal = codec.T
        assert codec.dtype == np.float32
        assert 35 <= (velocity * 127).min() < (velocity * 127).max() <= 110
        np.testing.assert_allclose(velocity * 127, np.round(velocity * 127), atol=1e-4)
        assert np.abs(timing).max() < 0.1
        assert -2 < articulation.min() <= articulation.max() < 0.5
        assert set(np.unique(pedal)) == ({0} if pianist.pedal == "none" else {0, 1})
        base = 60 / (natural_tempo(notes) * pianist.tempo)
        before = notes["onset_beat"] < notes["onset_beat"].max() - 2 * notes["beats"][-1]
        assert np.abs(np.log2(beat_period[before] / base)).max() <= FREEDOM + 1e-5
        assert beat_period[-1] > 1.2 * base


def test_pianists_differ_and_each_plays_always_alike(chorale: np.ndarray) -> None:
    played = [perform(chorale, pianist) for pianist in PIANISTS]
    again = [perform(chorale, pianist) for pianist in PIANISTS]
    assert all(np.array_equal(one, other) for one, other in zip(played, again, strict=True))
    assert len({codec.tobytes() for codec in played}) == len(PIANISTS) == len({p.name for p in PIANISTS})


def test_without_rules_and_noise_a_pianist_is_deadpan(sonata: np.ndarray) -> None:
    np.testing.assert_array_equal(perform(sonata, STILL, bpm=100), deadpan.perform(sonata, 100))


def test_each_rule_is_heard_in_a_performance(sonata: np.ndarray) -> None:
    for rule in RULES:
        changed: dict[str, Any] = {rule: 1.0}
        assert not np.array_equal(perform(sonata, dataclasses.replace(STILL, **changed)), perform(sonata, STILL))


@settings(max_examples=60, deadline=None)
@given(scores(), st.sampled_from(PIANISTS), st.randoms(use_true_random=False))
def test_any_score_is_played_and_the_order_of_its_rows_does_not_matter(
    notes: np.ndarray, pianist: Pianist, random: object
) -> None:
    codec = perform(notes, pianist)
    assert codec.shape == (len(notes), 5)
    assert np.isfinite(codec).all()
    assert (codec[:, 0] > 0).all()
    for onset in np.unique(notes["onset_beat"]):
        assert np.ptp(codec[notes["onset_beat"] == onset, 0]) == 0
    order = list(range(len(notes)))
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(perform(notes[order], pianist), codec[order])


def test_a_performance_lasts_as_long_as_its_tempo_says(sonata: np.ndarray) -> None:
    _, first = rules.onset_groups(sonata)
    for pianist in PIANISTS:
        period = perform(sonata, pianist, bpm=100)[first, 0]
        seconds = (period[:-1] * np.diff(sonata["onset_beat"][first])).sum()
        nominal = float(np.ptp(sonata["onset_beat"])) * 0.6
        assert 0.8 * nominal < seconds < 1.3 * nominal
