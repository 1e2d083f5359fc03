"""Measures: closed forms worked by hand, invariances, and the golden figures of the original's definitions."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import entropy, gaussian_kde, pearsonr

from dexter_model.metrics.comparison import (
    correlation,
    density_draws,
    deviation,
    judged_correlation,
    kl_at,
    kl_divergence,
    log_density,
    mean_absolute_error,
    spread_ratio,
    why_undefined,
)
from dexter_model.metrics.curves import onset_starts, series, tempo_curve, velocity_curve
from dexter_model.metrics.features import written
from dexter_model.metrics.intervals import bootstrap_mean, paired_difference
from dexter_model.metrics.measures import SPACE, Played, compare, mean_and_spread
from dexter_model.notes import SCORE_NOTE

GOLDEN = Path(os.environ.get("DEXTER_GOLDEN", "")) / "features.npz"
golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="DEXTER_GOLDEN names no folder with features.npz")
NAN = math.nan

# Two chords and a single note: onsets 0, 0, 4, 4, 8 in divs.
ONSETS = np.array([0, 0, 4, 4, 8])
STARTS = np.array([0, 2, 4])


def test_onset_starts() -> None:
    assert onset_starts(ONSETS).tolist() == [0, 2, 4]
    assert onset_starts(np.array([-3, -3, 0])).tolist() == [0, 2]


def test_tempo_curve_by_hand() -> None:
    period = np.array([0.5, 0.5, 1.0, 1.0, 0.75])
    counts = np.ones(5, bool)
    assert tempo_curve(period, counts, STARTS) == pytest.approx([120, 60, 80])
    # 6 s a beat is 10 a minute, and 0.1 s is 600: both are clipped
    assert tempo_curve(np.array([6.0, 6, 0.1, 0.1, 1]), counts, STARTS) == pytest.approx([15, 480, 60])


def test_velocity_curve_is_the_chord_mean_over_notes_that_count() -> None:
    velocity = np.array([60, 80, 90, 50, 40]) / 127
    assert velocity_curve(velocity, np.ones(5, bool), STARTS) == pytest.approx([70, 70, 40])
    counts = np.array([True, False, True, True, False])
    curve = velocity_curve(velocity, counts, STARTS)
    assert curve[:2] == pytest.approx([60, 70])
    assert np.isnan(curve[2])


def test_series_broadcast_over_performances() -> None:
    codec = np.random.default_rng(0).uniform(0.2, 1, (3, 5, 5))
    counts = np.random.default_rng(1).random((3, 5)) < 0.7
    together = series(codec, counts, STARTS, codec[..., 3])
    for performance in range(3):
        alone = series(codec[performance], counts[performance], STARTS, codec[performance, :, 3])
        for name, values in alone.items():
            np.testing.assert_array_equal(together[name][performance], values)
    assert together["velocity"].shape == (3, 5)
    assert together["tempo_curve"].shape == (3, 3)


def test_correlation_by_hand() -> None:
    assert correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 6])) == pytest.approx(1)
    assert correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    # means 2 and 2; products of deviations 0 + 0 + 1 = 1; norms sqrt 2 and sqrt 2 -> 1/2
    assert correlation(np.array([1.0, 2, 3]), np.array([2.0, 1, 3])) == pytest.approx(0.5)


def test_a_constant_prediction_is_undefined_not_noise() -> None:
    truth = np.arange(50.0)
    nearly = np.full(50, 0.1) + 1e-9 * np.random.default_rng(0).normal(size=50)
    for constant in (np.zeros(50), np.full(50, 64.0), nearly):
        assert math.isnan(correlation(constant, truth))
        assert math.isnan(kl_divergence(constant, truth))
        assert why_undefined(constant, truth) == "constant prediction"
        assert why_undefined(truth, constant) == "constant reference"
        assert judged_correlation(constant, truth) == judged_correlation(constant, constant) == 0
        assert math.isnan(judged_correlation(truth, constant))  # a flat human says nothing of the prediction
    assert why_undefined(truth, truth) == ""
    assert judged_correlation(truth, truth) == correlation(truth, truth) == pytest.approx(1)
    assert why_undefined(truth[:1], truth[:1]) == "fewer than two notes"


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(float, 20, elements=st.floats(-100, 100).map(lambda x: round(x, 3))),
    st.floats(0.1, 10),
    st.floats(-50, 50),
)
def test_correlation_ignores_scale_and_shift(values: np.ndarray, scale: float, shift: float) -> None:
    truth = np.sin(np.arange(20.0))
    plain, moved = correlation(values, truth), correlation(values * scale + shift, truth)
    assert (math.isnan(plain) and math.isnan(moved)) or plain == pytest.approx(moved, abs=1e-6)
    if not math.isnan(plain):
        assert plain == pytest.approx(pearsonr(values, truth).statistic, abs=1e-9)


def test_missing_entries_are_left_out() -> None:
    x, y = np.array([1.0, NAN, 3, 4]), np.array([1.0, 2, NAN, 8])
    assert correlation(x, y) == pytest.approx(1)
    assert mean_absolute_error(x, y) == pytest.approx(2)
    assert math.isnan(mean_absolute_error(np.array([NAN]), np.array([1.0])))


def test_deviation_by_hand() -> None:
    found = deviation(np.array([2.0, 1.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert found.signed == pytest.approx((1 - 0.5 + 0) / 3)
    assert found.absolute == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.near_zero == 0
    assert deviation(np.array([100.0]), np.array([1.0])) == (5, 5, 0)
    assert deviation(np.array([-100.0]), np.array([1.0])).signed == -5


def test_spread() -> None:
    assert spread_ratio(np.array([0.0, 2, 4]), np.array([5.0, 6, 7])) == pytest.approx(2)
    assert spread_ratio(np.zeros(3), np.array([5.0, 6, 7])) == 0
    assert math.isnan(spread_ratio(np.array([5.0, 6, 7]), np.zeros(3)))


def test_deviation_tells_of_denominators_near_zero() -> None:
    found = deviation(np.array([1.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.001, 0.0]))
    assert found.near_zero == pytest.approx(0.5)  # the zero itself is dropped, the other is kept and told
    assert found.signed == 5
    nothing = deviation(np.ones(3), np.zeros(3))
    assert math.isnan(nothing.signed)
    assert math.isnan(nothing.absolute)
    assert nothing.near_zero == 1


def test_deviation_in_units_of_spread() -> None:
    found = deviation(np.array([3.0, 0.0]), np.array([1.0, 1.0]), np.array([2.0, 1.0]))
    assert found.signed == pytest.approx((1 - 1) / 2)
    assert found.absolute == pytest.approx(1)


def test_density_is_scipys() -> None:
    values = np.round(np.random.default_rng(3).normal(60, 12, 400))  # many equal ones
    points = np.linspace(20, 100, 50)
    ours, scipys = log_density(values, points), gaussian_kde(values).logpdf(points)
    np.testing.assert_allclose(ours - ours.mean(), scipys - scipys.mean(), rtol=1e-9, atol=1e-9)


def test_kl_divergence() -> None:
    random = np.random.default_rng(0)
    narrow, wide = random.normal(0, 1, 800), random.normal(3, 2, 800)
    assert kl_divergence(narrow, narrow) == pytest.approx(0, abs=1e-12)
    assert kl_divergence(narrow, wide) > 0.2
    assert kl_divergence(narrow, wide, 4) == kl_divergence(narrow, wide, 4)
    assert kl_divergence(narrow, wide, 4) != kl_divergence(narrow, wide, 5)
    # the published definition: a prediction that hardly varies looks like any reference around it
    assert kl_divergence(narrow / 100, narrow) < 0.2
    # far from everything the reference has no density, and the published figure is infinite
    assert 10 < kl_divergence(narrow, narrow + 7) < 745
    far, draws = narrow + 12, density_draws(narrow, seed=0)
    assert entropy(gaussian_kde(narrow)(draws), gaussian_kde(far)(draws)) == math.inf
    assert math.isnan(kl_divergence(narrow, far))
    draws = density_draws(narrow, seed=1)
    assert draws.shape == (300,)
    assert kl_divergence(narrow, wide, 1) == kl_at(narrow, wide, draws)


def test_bootstrap_interval() -> None:
    values = np.random.default_rng(0).normal(1, 1, 200)
    found = bootstrap_mean(values, seed=1)
    assert found.mean == pytest.approx(values.mean())
    standard_error = values.std() / math.sqrt(200)
    assert found.low == pytest.approx(found.mean - 1.96 * standard_error, abs=0.03)
    assert found.high == pytest.approx(found.mean + 1.96 * standard_error, abs=0.03)
    assert bootstrap_mean(values[::-1], seed=1) == found
    assert bootstrap_mean(np.append(values, NAN), seed=1) == found
    assert bootstrap_mean(values, seed=2) != found


def test_bootstrap_of_too_few() -> None:
    one = bootstrap_mean(np.array([3.0]), seed=0)
    assert one.mean == 3
    assert math.isnan(one.low)
    assert math.isnan(bootstrap_mean(np.array([NAN]), seed=0).mean)


def test_mean_and_spread_need_two_performances() -> None:
    mean, spread = mean_and_spread(np.array([[1.0, 2.0, NAN], [3.0, NAN, NAN], [5.0, NAN, 1.0]]))
    assert mean[0] == pytest.approx(3)
    assert spread[0] == pytest.approx(math.sqrt(8 / 3))
    assert np.isnan(mean[1:]).all()
    assert np.isnan(spread[1:]).all()


def some_playing(performances: int, notes: int = 60, seed: int = 0) -> Played:
    random = np.random.default_rng(seed)
    codec = np.stack(
        [
            np.repeat(random.uniform(0.4, 0.7, (performances, notes // 2)), 2, axis=1),
            random.integers(20, 110, (performances, notes)) / 127,
            random.normal(0, 0.02, (performances, notes)),
            random.normal(0, 0.5, (performances, notes)),
            random.uniform(0, 1, (performances, notes)),
        ],
        axis=-1,
    )
    return Played(codec, np.ones((performances, notes), bool), np.full((performances, notes), NAN))


def sixty_notes() -> np.ndarray:
    """Thirty chords of two notes a beat apart, a melody over a voice, in two dynamics with a crescendo between."""
    notes = np.zeros(60, SCORE_NOTE)
    notes["onset_div"] = np.repeat(np.arange(30) * 4, 2)
    notes["duration_div"], notes["duration_beat"] = 4, 1
    notes["onset_beat"] = notes["onset_div"] / 4
    notes["pitch"], notes["voice"] = np.tile([50, 62], 30), np.tile([2, 1], 30)
    notes["dynamic"], notes["ramp"] = np.repeat([3, 6, 3], 20), np.repeat([0, 1, 0, 0], 15)
    return notes


SIXTY = written(sixty_notes())


def figures(prediction: Played, humans: Played) -> dict[tuple[int, str, str], float]:
    return {(m.human, m.feature, m.name): m.value for m in compare(prediction, humans, SIXTY, seed=7)}


def test_a_perfect_prediction() -> None:
    humans = some_playing(3)
    found = figures(humans[1:2], humans)
    for feature in ("tempo_curve", "velocity_curve", "log_beat_period", "velocity", "timing", "articulation", "pedal"):
        assert found[1, feature, "correlation"] == pytest.approx(1)
        assert found[1, feature, "mean_absolute_error"] == 0
        assert found[1, feature, "absolute_deviation"] == 0
        assert found[1, feature, "kl"] == pytest.approx(0, abs=1e-9)
    assert found[1, "tempo_and_velocity", "loss"] == 0
    assert found[1, "tempo_and_velocity", "correlation"] == pytest.approx(2)
    assert abs(found[0, "velocity", "correlation"]) < 0.5


def test_tempo_velocity_loss_by_hand() -> None:
    humans = some_playing(1)
    ours = humans.codec.copy()
    ours[..., 0] = 60 / (60 / ours[..., 0] + 10)  # ten beats a minute faster everywhere
    ours[..., 1] += 4 / 127
    found = figures(Played(ours, humans.counts, humans.keydown), humans)
    assert found[0, "tempo_and_velocity", "loss"] == pytest.approx(14)
    assert found[0, "tempo_curve", "mean_absolute_error"] == pytest.approx(10)
    assert found[0, "velocity", "mean_absolute_error"] == pytest.approx(4)


def test_louder_playing_keeps_its_correlations() -> None:
    prediction, humans = some_playing(1, seed=5), some_playing(2)
    louder = prediction.codec.copy()
    louder[..., 1] = 0.5 * louder[..., 1] + 0.3
    plain, moved = figures(prediction, humans), figures(Played(louder, prediction.counts, prediction.keydown), humans)
    for key, value in plain.items():
        if key[2].endswith("correlation"):
            assert moved[key] == pytest.approx(value, nan_ok=True)
    assert moved[0, "velocity", "deviation"] != pytest.approx(plain[0, "velocity", "deviation"])


def test_the_order_of_the_humans_does_not_matter() -> None:
    prediction, humans = some_playing(1, seed=5), some_playing(4)
    order = np.array([2, 0, 3, 1])
    plain, permuted = figures(prediction, humans), figures(prediction, humans[order])
    for (human, feature, name), value in permuted.items():
        before = SPACE if human == SPACE else int(order[human])
        assert value == pytest.approx(plain[before, feature, name], nan_ok=True)


def test_notes_that_are_not_played_or_named_do_not_count() -> None:
    prediction, humans = some_playing(1, seed=5), some_playing(3)
    hidden = np.random.default_rng(2).random((3, 60)) < 0.2
    spoilt = humans.codec.copy()
    spoilt[hidden, 1:] = 1e3  # the beat period of a note that is not played still passes
    counts = ~hidden
    clean = figures(prediction, Played(humans.codec, counts, humans.keydown))
    spoilt_figures = figures(prediction, Played(spoilt, counts, humans.keydown))
    assert clean == pytest.approx(spoilt_figures, nan_ok=True)
    n = {m.feature: m.n for m in compare(prediction, Played(spoilt, counts, humans.keydown), SIXTY, 7) if m.human == 0}
    assert n["velocity"] == counts[0].sum()


def test_ground_truth_space_by_hand() -> None:
    humans = some_playing(2)
    velocity = np.where(np.arange(60) % 2, 60, 80) / 127
    humans.codec[0, :, 1], humans.codec[1, :, 1] = velocity - 10 / 127, velocity + 10 / 127
    prediction = some_playing(1, seed=5)
    prediction.codec[0, :, 1] = velocity + 5 / 127
    found = figures(prediction, humans)
    assert found[SPACE, "velocity", "space_deviation"] == pytest.approx(0.5)  # 5 over a standard deviation of 10
    assert found[SPACE, "velocity", "space_absolute_deviation"] == pytest.approx(0.5)
    assert found[SPACE, "velocity", "space_correlation"] == pytest.approx(1)
    assert not any(human == SPACE for human, _, _ in figures(prediction, humans[:1]))


def test_unknown_durations_give_no_articulation() -> None:
    prediction, humans = some_playing(1, seed=5), some_playing(2)
    keydown = np.random.default_rng(1).normal(size=(1, 60))
    prediction.codec[..., 3] = NAN
    humans = Played(humans.codec, humans.counts, np.repeat(keydown, 2, axis=0))
    features = {feature for _, feature, _ in figures(Played(prediction.codec, prediction.counts, keydown), humans)}
    assert "articulation" not in features
    assert "articulation_keydown" in features


@golden
def test_golden_comparisons() -> None:
    arrays = np.load(GOLDEN)
    rows, pairs = json.loads(str(arrays["rows"])), json.loads(str(arrays["pairs"]))
    index = {row["key"].removeprefix("match/").removesuffix(".match"): row["index"] for row in rows}
    compared = 0
    for pair in pairs:
        a, b = (index[f"{pair['piece']}_p{pair[side]:02d}"] for side in "ab")
        _, in_a, in_b = np.intersect1d(arrays[f"i{a}"], arrays[f"i{b}"], return_indices=True)
        ours, theirs = (arrays[f"f{k}"][pair["feature"]][rows].astype(float) for k, rows in ((a, in_a), (b, in_b)))
        if pair["feature"].endswith(".kor"):  # the one feature that is undefined on many notes
            known = ~(arrays[f"no_kor{a}"][in_a] | arrays[f"no_kor{b}"][in_b])
            ours, theirs = ours[known], theirs[known]
        assert deviation(ours, theirs).signed == pytest.approx(pair["deviation"], rel=1e-5, abs=1e-6, nan_ok=True)
        if pair["kl"] is not None and not math.isnan(pair["kl"]):
            points = arrays[f"pts{pair['index']}"]
            assert kl_at(ours, theirs, points) == pytest.approx(pair["kl"], rel=1e-5, abs=1e-6)
            assert correlation(ours, theirs) == pytest.approx(pair["correlation"], rel=1e-5, abs=1e-6)
            compared += 1
        else:  # the original's failures: a constant series
            assert why_undefined(ours, theirs) != ""
            assert math.isnan(correlation(ours, theirs))
    assert compared >= 50


def test_paired_difference_by_hand() -> None:
    ours = {"a": 3.0, "b": 2.0, "c": 5.0, "only ours": 9.0, "undefined": NAN}
    theirs = {"a": 1.0, "b": 2.0, "c": 1.0, "only theirs": 0.0, "undefined": 1.0}
    assert paired_difference(ours, theirs).mean == pytest.approx((2 + 0 + 4) / 3)
    # a and b are movements of one work: their mean is 1, then (1 + 4) / 2
    by_work = paired_difference(ours, theirs, {"a": "x", "b": "x", "c": "y"}, seed=3)
    assert by_work.mean == pytest.approx(2.5)
    assert (by_work.low, by_work.high) == (1, 4)
    assert paired_difference(dict(reversed(ours.items())), theirs, {"a": "x", "b": "x", "c": "y"}, 3) == by_work
    assert math.isnan(paired_difference(ours, {}).mean)
    assert math.isnan(paired_difference({"a": 1.0}, {"a": 0.5}).low)


def test_a_shared_difficulty_of_pieces_leaves_the_difference_sharp() -> None:
    difficulty = np.random.default_rng(0).normal(0, 10, 50)
    ours = {str(i): d + 1 + 0.1 * (i % 3) for i, d in enumerate(difficulty)}
    theirs = {str(i): d for i, d in enumerate(difficulty)}
    found = paired_difference(ours, theirs, seed=1)
    assert 1 < found.low < found.mean < found.high < 1.2
