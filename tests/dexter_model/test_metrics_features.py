"""Performance features: the golden values of the original's definitions, closed forms, masks."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dexter_model.codec.performance_codec import pedal_at
from dexter_model.metrics import articulation, asynchrony, dynamics
from dexter_model.metrics.curves import mean_per_onset, onset_starts
from dexter_model.metrics.distributions import BINS, Distributions, histograms, jensen_shannon, pooled
from dexter_model.metrics.features import inter_onset, performance_features, times, written
from dexter_model.notes import SCORE_NOTE
from dexter_model.reading.match import load_match

GOLDEN = Path(os.environ.get("DEXTER_GOLDEN", "")) / "features.npz"
golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="DEXTER_GOLDEN names no folder with features.npz")
NAN = np.nan


def golden_rows() -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Row, ids, note table, features and mask of notes without key overlap of each performance."""
    arrays = np.load(GOLDEN)
    for row in json.loads(str(arrays["rows"])):
        k = row["index"]
        yield row, arrays[f"i{k}"], arrays[f"m{k}"], arrays[f"f{k}"], arrays[f"no_kor{k}"]


def close(ours: np.ndarray, golden: np.ndarray) -> None:
    np.testing.assert_allclose(np.nan_to_num(ours), golden, rtol=1e-5, atol=1e-6)


@golden
def test_golden_articulation_and_asynchrony() -> None:
    for _, _, notes, features, no_overlap in golden_rows():
        everything = np.ones(len(notes), bool)
        starts = onset_starts(notes["onset"])
        group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(notes)))
        offset, p_offset = notes["onset"] + notes["duration"], notes["p_onset"] + notes["p_duration"]
        where = articulation.transitions(notes["onset"], offset, notes["pitch"], notes["voice"])
        overlap = articulation.key_overlap(notes["p_onset"], p_offset, everything, where)
        np.testing.assert_array_equal(np.isnan(overlap), no_overlap)
        close(overlap[~no_overlap], features["articulation_feature.kor"][~no_overlap])
        delta = asynchrony.spread(notes["p_onset"], everything, starts)
        close(delta[group], features["asynchrony_feature.delta"])
        leads = asynchrony.pitch_correlation(notes["p_onset"], notes["pitch"], everything, starts)
        close(leads[group], features["asynchrony_feature.pitch_cor"])


@golden
@pytest.mark.corpora
def test_golden_pedal(corpora_root: Path) -> None:
    for row, _, notes, features, _ in golden_rows():
        performance, _ = load_match(corpora_root / "vienna4x22" / row["key"])
        close(127 * pedal_at(performance.pedal, notes["p_onset"]), features["pedal_feature.onset_value"])


@functools.cache
def written_part(path: Path) -> Any:
    """A score as partitura reads it; four performances share it."""
    import partitura

    return partitura.load_musicxml(path, force_note_ids="keep")[0]


def written_markings(corpora_root: Path, piece: str, note_id: np.ndarray) -> tuple[np.ndarray, ...]:
    """Marking in force, and how far crescendi and diminuendi have got, at each note, as the original reads a score.

    Equal figures need more than SCORE_NOTE holds. There a ramp rises from 0 to 1 and stays until the next loudness, or
    for a quarter if there is none; ramps add up; and in op. 38 one that stands at 1 passes for a marking.
    """
    from partitura import score as pt

    part = written_part(corpora_root / f"vienna4x22/musicxml/{piece}.musicxml")
    notes = part.note_array()
    onset_of = dict(zip(notes["id"], notes["onset_div"], strict=True))
    onset = np.array([onset_of[name] for name in note_id])
    loudness = [d for d in part.iter_all(pt.ConstantLoudnessDirection)]
    columns: dict[str, np.ndarray] = {}
    for direction in part.iter_all(pt.LoudnessDirection, include_subclasses=True):
        start, end = direction.start.t, direction.end.t if direction.end else direction.start.t
        kind = type(direction)
        name = {pt.IncreasingLoudnessDirection: "incr", pt.DecreasingLoudnessDirection: "decr"}.get(
            kind, direction.text
        )
        if name in ("incr", "decr"):
            until = min(
                (d.start.t for d in loudness if d.start.t > start), default=end + part.quarter_durations()[0, 1]
            )
            values = np.interp(onset, [start, end], [0, 1]) * (onset < until)
        else:
            values = ((onset >= start) & (onset < max(end, start + 1))).astype(float)
        columns[name] = columns.get(name, 0) + values
    in_force = np.full(len(onset), "", "U8")
    for name in reversed(columns):
        in_force[columns[name] == 1] = name
    nothing = np.zeros(len(onset))
    return in_force, columns.get("incr", nothing), columns.get("decr", nothing)


@golden
@pytest.mark.corpora
def test_golden_dynamics(corpora_root: Path) -> None:
    for row, note_id, notes, features, _ in golden_rows():
        everything = np.ones(len(notes), bool)
        starts = onset_starts(notes["onset"])
        group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(notes)))
        piece = Path(row["key"]).stem.rsplit("_p", 1)[0]
        written = (values[starts] for values in written_markings(corpora_root, piece, note_id))
        marks = dynamics.markings(notes["onset"][starts], *written)
        velocity = mean_per_onset(notes["velocity"], everything, starts)
        found = {
            "agreement": dynamics.agreement(velocity, marks),
            "consistency_std": dynamics.consistency(velocity, marks),
            "ramp_cor": dynamics.ramp_correlation(velocity, marks),
            "tempo_cor": dynamics.tempo_correlation(notes["beat_period"][starts].astype(float), velocity, marks),
        }
        for name, values in found.items():
            close(values[group], features[f"dynamics_feature.{name}"])


def chords(*sizes: int) -> np.ndarray:
    return np.cumsum([0, *sizes])[:-1]


def test_chord_spread_by_hand() -> None:
    onset = np.array([[0.0, 0.03, 0.01, 1.0, 2.0, 3.5]])  # a chord of three, a single note, a chord torn apart
    everything = np.ones((1, 6), bool)
    assert asynchrony.spread(onset, everything, chords(3, 1, 2))[0] == pytest.approx([0.03, NAN, 1], nan_ok=True)
    without = np.array([[True, False, True, True, True, False]])
    assert asynchrony.spread(onset, without, chords(3, 1, 2))[0] == pytest.approx([0.01, NAN, NAN], nan_ok=True)


def test_the_top_note_leads_by_hand() -> None:
    pitch = np.array([60, 64, 67, 50, 62, 62])
    onset = np.array([[0.02, 0.01, 0.0, 1.0, 1.01, 2.0], [0.0, 0.01, 0.02, 1.0, 1.0, 2.0]])
    both = np.ones((2, 6), bool)
    found = asynchrony.pitch_correlation(onset, pitch, both, chords(3, 2, 1))
    # pitches -11/3, 1/3, 10/3 against times 1, 0, -1: -7 / sqrt(74/3 * 2) = -0.9966, and the sign is turned
    assert found[0] == pytest.approx([7 / np.sqrt(2 * 74 / 3), -1, NAN], nan_ok=True)
    assert found[1] == pytest.approx([-7 / np.sqrt(2 * 74 / 3), 0, NAN], nan_ok=True)  # together: 0, as published


# A melody in voice 1 (rows 1, 3, 5, 6) over a bass in voice 2; the third note is followed by a rest.
MELODY = {
    "onset": np.array([0, 0, 2, 2, 4, 4, 8]),
    "offset": np.array([2, 2, 4, 4, 6, 6, 10]),
    "pitch": np.array([40, 60, 43, 62, 40, 64, 65]),
    "voice": np.array([2, 1, 2, 1, 2, 1, 1]),
}


def test_key_overlap_by_hand() -> None:
    where = articulation.transitions(**MELODY)
    onset = np.array([0.0, 0, 1, 1, 2, 2, 4])
    offset = np.array([9.0, 1.2, 9, 1.5, 9, 2.5, 5])
    found = articulation.key_overlap(onset, offset, np.ones(7, bool), where)
    # 0.2 s held over 1 s: legato; 0.5 s early over 1 s: detached; before the rest and at the end there is none
    assert found == pytest.approx([NAN, 0.2, NAN, -0.5, NAN, NAN, NAN], nan_ok=True)
    late = np.array([0.0, 1, 1, 1, 2, 2, 4])  # the successor is not later: 0
    assert articulation.key_overlap(late, offset, np.ones(7, bool), where)[1] == 0
    long = offset + np.array([0, 20, 0, 0, 0, 0, 0])
    assert articulation.key_overlap(onset, long, np.ones(7, bool), where)[1] == 5


def test_key_overlap_of_notes_not_played() -> None:
    where = articulation.transitions(**MELODY)
    onset, offset = np.array([0.0, 0, 1, 1, 2, 2, 4]), np.array([9.0, 1.2, 9, 1.5, 9, 2.5, 5])
    counts = np.ones((3, 7), bool)
    counts[0, 3] = counts[1, 1] = counts[2, 0] = False
    found = articulation.key_overlap(np.tile(onset, (3, 1)), np.tile(offset, (3, 1)), counts, where)
    assert np.isnan(found[0]).all()  # its successor, and it itself
    assert found[1] == pytest.approx([NAN, NAN, NAN, -0.5, NAN, NAN, NAN], nan_ok=True)
    assert found[2] == pytest.approx([NAN, 0.2, NAN, -0.5, NAN, NAN, NAN], nan_ok=True)  # the bass is not looked at


def test_the_nearest_pitch_follows() -> None:
    where = articulation.transitions(
        np.array([0, 4, 4]), np.array([4, 8, 8]), np.array([60, 55, 62]), np.array([1, 1, 1])
    )
    onset, offset = np.array([0.0, 1, 2]), np.array([3.0, 4, 4])
    assert articulation.key_overlap(onset, offset, np.array([True] * 3), where)[0] == pytest.approx((3 - 2) / 2)
    # the nearest is not played, so the other one is
    assert articulation.key_overlap(onset, offset, np.array([True, True, False]), where)[0] == pytest.approx(2)


def marked(
    names: list[str], rising: list[float] | None = None, falling: list[float] | None = None
) -> dynamics.Markings:
    nothing = [0.0] * len(names)
    onset = np.arange(len(names), dtype=float)
    return dynamics.markings(onset, np.array(names), np.array(rising or nothing), np.array(falling or nothing))


def test_agreement_by_hand() -> None:
    marks = marked(["p", "p", "f", "f", "mf", "p"])
    found = dynamics.agreement(np.array([[40.0, 99, 80, 99, 90, 30], [40, 0, 30, 0, 20, 60]]), marks)
    # p to f: louder; f to mf: louder though softer is marked; mf to p: softer
    assert found[0] == pytest.approx([NAN, NAN, 1, NAN, -1, 1], nan_ok=True)
    assert found[1] == pytest.approx([NAN, NAN, -1, NAN, 1, -1], nan_ok=True)
    missing = dynamics.agreement(np.array([40.0, 99, NAN, 70, NAN, 30]), marks)
    # f is first heard an onset later, mf never
    assert missing == pytest.approx([NAN, NAN, NAN, 1, NAN, NAN], nan_ok=True)
    assert np.isnan(dynamics.agreement(np.arange(3.0), marked(["p"] * 3))).all()


def test_consistency_by_hand() -> None:
    marks = marked(["p", "f", "p", "f", "mf", "p"])
    found = dynamics.consistency(np.array([40.0, 80, 50, 90, 70, 60]), marks)
    # of f (80, 90) at the first marked onset, of mf none, of p (40, 50, 60) at the third: in the alphabet's order
    assert found == pytest.approx([5, NAN, np.sqrt(200 / 3), NAN, NAN, NAN], nan_ok=True)


def test_ramps_by_hand() -> None:
    marks = marked([""] * 7, rising=[0, 1, 2, 3, 3, 3, 3], falling=[0, 0, 0, 0, 0, 1, 2])
    found = dynamics.ramp_correlation(np.array([[50.0, 60, 70, 80, 10, 50, 60], [50, 60, 60, 60, 1, 2, 3]]), marks)
    # at the crescendo's onsets and the one after it; the diminuendo does not end, so it is none, as published
    assert found[0] == pytest.approx([NAN, 1, 1, 1, 1, NAN, NAN], nan_ok=True)
    assert found[1] == pytest.approx([NAN, 0, 0, 0, 0, NAN, NAN], nan_ok=True)
    falling = marked([""] * 5, falling=[0, 1, 2, 2, 2])
    assert dynamics.ramp_correlation(np.array([9.0, 60, 50, 4, 9]), falling)[1:4] == pytest.approx([1, 1, 1])


def test_tempo_correlation_by_hand() -> None:
    onset = np.array([0.0, 1, 2, 20, 21, 40])
    marks = dynamics.markings(onset, np.array([""] * 6), np.zeros(6), np.zeros(6))
    period = np.array([1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 2, 1 / 3])  # tempo 1, 2, 3 | 4, 2 | 3
    loud = np.array([[10.0, 20, 30, 50, 60, 7], [10, 30, 20, 9, 9, 7], [10, NAN, 20, 9, 5, 7]])
    found = dynamics.tempo_correlation(np.tile(period, (3, 1)), loud, marks)
    assert found[0] == pytest.approx([1, 1, 1, -1, -1, 0])
    assert found[1] == pytest.approx([0.5, 0.5, 0.5, 0, 0, 0], abs=1e-9)
    assert found[2] == pytest.approx([1, NAN, 1, 1, 1, 0], nan_ok=True)


def a_score() -> np.ndarray:
    """Four onsets a beat apart, the second a chord, in mf from the third on, with a crescendo over the first two."""
    notes = np.zeros(5, SCORE_NOTE)
    notes["onset_div"] = [0, 4, 4, 8, 12]
    notes["duration_div"], notes["duration_beat"] = 4, 1
    notes["onset_beat"] = notes["onset_div"] / 4
    notes["pitch"], notes["voice"] = [60, 48, 62, 64, 65], [1, 2, 1, 1, 1]
    notes["dynamic"], notes["ramp"] = [0, 0, 0, 5, 5], [1, 1, 1, 0, 0]
    return notes


def test_a_score_is_prepared() -> None:
    score = written(a_score())
    assert score.starts.tolist() == [0, 1, 3, 4]
    assert score.group.tolist() == [0, 1, 1, 2, 3]
    assert (score.markings.marked.tolist(), score.markings.names.tolist()) == ([2], ["mf"])
    assert score.markings.ramp_onset.tolist() == [1, 2]  # from the first onset that has got further
    assert score.transitions.note.tolist() == [0, 2, 3]


def test_times_and_intervals_by_hand() -> None:
    score = written(a_score())
    codec = np.zeros((1, 5, 5))
    codec[..., 0] = [[0.5, 1.0, 1.0, 0.5, 0.5]]
    codec[..., 2] = [[0, 0.1, -0.1, 0, 0]]  # a tenth early, a tenth late
    codec[..., 3] = [[1, 0, 0, -9, 0]]
    found = times(codec, score)
    assert found.onset[0] == pytest.approx([0, 0.4, 0.6, 1.5, 2.0])
    assert (found.offset - found.onset)[0] == pytest.approx([1.0, 1.0, 1.0, 0.075, 0.5])
    performed, beats = inter_onset(found.onset, np.ones((1, 5), bool), score)
    assert performed[0] == pytest.approx([0.5, 1.0, 0.5, NAN], nan_ok=True)
    assert beats[0] == pytest.approx([1, 1, 1, NAN], nan_ok=True)
    gap = np.array([[True, False, False, True, True]])
    performed, beats = inter_onset(found.onset, gap, score)
    assert performed[0] == pytest.approx([1.5, NAN, 0.5, NAN], nan_ok=True)
    assert beats[0] == pytest.approx([2, NAN, 1, NAN], nan_ok=True)


@pytest.mark.parametrize("missing", [0, 2, 3, 4])
def test_a_missing_row_is_the_only_one_missing(missing: int) -> None:
    """A render of a score that lacks a note (alone, or of a chord): all other notes keep their times."""
    score = written(a_score())
    codec = np.full((5, 5), 0.5)
    codec[:, 2] = [0, 0.1, -0.1, 0, 0]
    lacking = codec.copy()
    lacking[missing] = NAN
    whole, found = times(codec, score), times(np.stack([codec, lacking]), score)
    there = np.arange(5) != missing
    for name in ("onset", "offset"):
        np.testing.assert_array_equal(getattr(found, name)[0], getattr(whole, name))
        np.testing.assert_array_equal(getattr(found, name)[1, there], getattr(whole, name)[there])
        assert np.isnan(getattr(found, name)[1, missing])
    features = performance_features(lacking, times(lacking, score), there, score)
    assert np.isfinite(features["log_ioi"]).sum() == len(np.unique(score.group[there])) - 1


def test_time_goes_on_at_a_missing_onset_as_before_it() -> None:
    score, codec = written(a_score()), np.zeros((5, 5))
    codec[:, 0] = [0.5, 1.0, 1.0, NAN, 0.25]
    assert times(codec, score).onset[[0, 1, 2, 4]] == pytest.approx([0, 0.5, 0.5, 2.5])
    codec[:, 0] = [NAN, 1.0, 1.0, 0.5, 0.25]
    assert times(codec, score).onset[1:] == pytest.approx([1, 1, 2, 2.5])
    codec[:] = NAN
    assert np.isnan(times(codec, score).onset).all()


def test_log_ioi_leaves_out_what_is_written_closer_than_a_sixteenth_beat() -> None:
    notes = a_score()
    notes["onset_beat"][3:] = [1.05, 2.05]  # a slip of a twentieth beat between the second and the third onset
    score, codec = written(notes), np.zeros((1, 5, 5))
    codec[..., 0] = 0.5
    found = performance_features(codec, times(codec, score), np.ones((1, 5), bool), score)["log_ioi"]
    assert found[0] == pytest.approx([-1, NAN, -1, NAN], nan_ok=True)


def test_features_broadcast_over_performances() -> None:
    score, random = written(a_score()), np.random.default_rng(0)
    codec = random.uniform(0.2, 1, (6, 5, 5))
    counts = random.random((6, 5)) < 0.7
    together = performance_features(codec, times(codec, score), counts, score)
    for row in range(6):
        alone = performance_features(codec[row], times(codec[row], score), counts[row], score)
        for name, values in alone.items():
            np.testing.assert_allclose(together[name][row], values)


def test_jensen_shannon_by_hand() -> None:
    assert jensen_shannon(np.array([2.0, 0]), np.array([0, 5.0])) == pytest.approx(1)
    assert jensen_shannon(np.array([2.0, 6]), np.array([1, 3.0])) == 0
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): (log2 4/3 + (log2 2/3 + log2 2) / 2) / 2
    by_hand = (np.log2(4 / 3) + (np.log2(2 / 3) + 1) / 2) / 2
    assert jensen_shannon(np.array([1.0, 0]), np.array([1, 1.0])) == pytest.approx(by_hand)


def test_histograms_by_hand() -> None:
    score = written(a_score())
    codec = np.zeros((2, 5, 5))
    codec[..., 0] = 0.5
    codec[..., 1] = np.array([10, 10, 64, 127, 0]) / 127
    codec[..., 4] = NAN
    found = histograms(codec, np.array([[True] * 5, [True] * 4 + [False]]), score)
    assert sorted(found) == ["duration", "ioi", "velocity"]
    assert {i: float(n) for i, n in enumerate(found["velocity"]) if n} == {0: 0.5, 2: 2, 16: 1, 31: 1}
    quarter = int(np.flatnonzero(BINS["duration"] == 0.5)[0])
    assert (found["duration"][quarter], found["ioi"][quarter]) == (4.5, 2.5)


def test_pooled_distributions() -> None:
    def one(system: str, piece: str, ours: list[float], theirs: list[float]) -> Distributions:
        return Distributions(system, ("C", piece), False, {"velocity": np.array(ours)}, {"velocity": np.array(theirs)})

    found = pooled(
        [
            one("ours", "a", [4, 0], [0, 4]),  # wrong in each piece, right over both
            one("ours", "b", [0, 4], [4, 0]),
            one("samples", "a", [4, 0], [4, 0]),
            one("samples", "a", [0, 4], [4, 0]),
        ]
    )
    assert [(row["system"], row["js"], row["pieces"]) for row in found] == [("ours", 0, 2), ("samples", 0.5, 1)]
