"""Generated music: features worked out by hand, distances against SciPy, copies that are known, what is better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_music import music, noise, recorded
from numpy.testing import assert_allclose
from scipy.spatial.distance import jensenshannon
from scipy.stats import gaussian_kde, wasserstein_distance

from dexter_model.errors import InputError
from dexter_model.metrics.generated import HUMAN, Drawn, Played, judged, rows
from dexter_model.metrics.generated_copies import LENGTHS, Training, steps
from dexter_model.metrics.generated_distances import Reference
from dexter_model.metrics.generated_features import SECONDS, TRAITS, Excerpts, excerpts, only_velocity
from dexter_model.metrics.generated_regression import GeneratedTolerance, headline, regression, told

NAMES = [trait.name for trait in TRAITS]


def scale(number: int = 20, step: float = 0.5) -> np.ndarray:
    """A chromatic scale from middle C, a note every ``step`` s, each sounding until the next."""
    return recorded(np.arange(number) * step, step, 60 + np.arange(number), 64)


def histogram(found: Excerpts, name: str) -> np.ndarray:
    return found.histograms[name].sum(axis=0)


def test_features_of_a_scale() -> None:
    found = excerpts(scale())
    assert (len(found), found.sparse) == (1, 0)
    assert found.vectors["pitch_range"] == [[19]]
    assert found.vectors["density"] == [[1]]  # two notes a second
    assert found.vectors["pitch_classes"][0] == pytest.approx([2 / 20] * 8 + [1 / 20] * 4)
    assert found.vectors["ioi"][0] == pytest.approx([-1, 0])
    assert found.vectors["duration"][0] == pytest.approx([-1, 0])
    assert found.vectors["velocity"][0] == pytest.approx([64, 0])
    assert found.vectors["polyphony"][0] == pytest.approx([1, 0])
    assert found.vectors["melody"][0].argmax() == 19  # up a semitone, and nothing else
    assert histogram(found, "polyphony")[1] == pytest.approx(10)
    assert histogram(found, "velocity")[16] == 20
    assert histogram(found, "ioi").sum() == 19


def test_chords_begin_once() -> None:
    onset = np.repeat(np.arange(10.0), 3) + np.tile([0, 0.01, 0.02], 10)
    found = excerpts(recorded(onset, 0.5, np.tile([60, 64, 67], 10), 80))
    assert histogram(found, "ioi").sum() == 9
    assert found.vectors["ioi"][0] == pytest.approx([0, 0], abs=1e-9)
    assert histogram(found, "polyphony")[1:4] == pytest.approx([0.02 * 10, 0.02 * 10, 0.48 * 10])
    assert found.vectors["melody"][0].argmax() == 18  # the upper line stays


@pytest.mark.parametrize(("seconds", "cut"), [(5.9, 0), (6.1, 1), (10, 1), (15.9, 1), (16.1, 2), (19.9, 2), (31, 3)])
def test_excerpts_are_nearly_full(seconds: float, cut: int) -> None:
    number = 50
    onset = np.linspace(0, seconds - 0.5, number)
    assert len(excerpts(recorded(onset, 0.5, np.full(number, 60), 64))) == cut


def test_silence_is_told() -> None:
    notes = np.concatenate([scale(), scale()])
    notes[20:]["onset_sec"] += 60
    notes[20:]["sustained_sec"] += 60
    found = excerpts(notes)
    assert (len(found), found.sparse) == (2, 5)


def test_drums_and_dropped_notes() -> None:
    drums = scale()
    drums["channel"] = 9
    assert (len(excerpts(drums)), len(steps(drums))) == (0, 0)
    both = np.concatenate([scale(), drums])
    both = both[np.lexsort((both["pitch"], both["onset_sec"]))]
    assert np.array_equal(steps(both), steps(scale()))
    dropped = scale()
    dropped["sustained_sec"] = np.nan
    assert excerpts(dropped).vectors["duration"][0] == pytest.approx([-1, 0])


@given(st.floats(0, 5000), st.integers(-20, 20))
@settings(max_examples=20, deadline=None)
def test_when_it_begins_and_in_which_key_is_all_one(later: float, higher: int) -> None:
    plain = recorded(np.round(music(1)["onset_sec"] * 64) / 64, 0.25, music(1)["pitch"], 70)
    moved = plain.copy()
    for name in ("onset_sec", "offset_sec", "sustained_sec"):
        moved[name] += round(later)
    moved["pitch"] = moved["pitch"].astype(int) + higher
    ours, theirs = excerpts(plain), excerpts(moved)
    for name in set(NAMES) - {"pitch_classes"}:
        assert np.allclose(ours.vectors[name], theirs.vectors[name]), name
    classes = np.roll(ours.vectors["pitch_classes"], higher, axis=1)
    assert np.allclose(classes, theirs.vectors["pitch_classes"])
    assert np.array_equal(steps(plain), steps(moved))


def test_divergences_are_scipys() -> None:
    ours, theirs = [excerpts(music(s)) for s in range(4)], [excerpts(music(s)) for s in range(4, 8)]
    found = Reference(theirs).measure(ours, np.ones((1, 4)))
    for trait in TRAITS:
        p, q = (np.sum([histogram(piece, trait.name) for piece in side], axis=0) for side in (ours, theirs))
        assert found[trait.name, "js"][0] == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
        if not trait.circular:
            centres = (trait.edges[1:] + trait.edges[:-1]) / 2
            distance = wasserstein_distance(centres, centres, p, q)
            assert found[trait.name, "wasserstein"][0] == pytest.approx(distance, abs=1e-9)


def test_pitch_classes_lie_on_a_circle() -> None:
    """From B to C is as far as from C to C sharp."""
    notes = [recorded(np.arange(30) / 2, 0.5, np.full(30, pitch), 64) for pitch in (59, 60, 61)]
    b, c, cis = (excerpts(each) for each in notes)
    for other in (b, cis):
        found = Reference([c, c]).measure([other], np.ones((1, 1)))
        assert found["pitch_classes", "wasserstein"][0] == pytest.approx(1)


def test_overlap_area_is_that_of_kernel_densities() -> None:
    ours, theirs = [excerpts(music(s)) for s in range(6)], [excerpts(music(s)) for s in range(6, 12)]
    found = Reference(theirs).measure(ours, np.ones((1, 6)))
    for name in ("velocity", "density", "ioi"):
        a, b = (np.concatenate([piece.vectors[name] for piece in side]) for side in (ours, theirs))
        piece = np.repeat(np.arange(6), [len(each) for each in theirs])
        apart = np.linalg.norm(b[:, None] - b[None], axis=2)
        within = apart[np.triu(piece[:, None] != piece[None])]
        between = np.linalg.norm(a[:, None] - b[None], axis=2).ravel()
        grid = np.linspace(0, 2 * within.max(), 400)
        density = [gaussian_kde(each)(grid) + gaussian_kde(each)(-grid) for each in (within, between)]
        area = np.minimum(*density).sum() * (grid[1] - grid[0])
        assert found[name, "overlap_area"][0] == pytest.approx(area, abs=0.06), name


def test_weights_repeat_pieces() -> None:
    pieces = [excerpts(music(s)) for s in range(3)]
    reference = Reference([excerpts(music(s)) for s in range(5, 9)])
    drawn = reference.measure(pieces, np.array([[2.0, 0, 1]]))
    repeated = reference.measure([pieces[0], pieces[0], pieces[2]], np.ones((1, 3)))
    for key, values in drawn.items():
        assert values == pytest.approx(repeated[key]), key


TRAINING = [music(100 + s) for s in range(12)]


@pytest.fixture(scope="module")
def training() -> Training:
    return Training((f"piece {number}", steps(notes)) for number, notes in enumerate(TRAINING))


def test_a_copy_in_another_key_is_found(training: Training) -> None:
    copy = TRAINING[7][100:200].copy()
    copy["pitch"] += 3
    found = training.copied(steps(copy))
    assert found.found == found.sequences == {8: 93, 16: 85}
    assert (found.notes, found.longest, found.nearest) == (100, 100, "piece 7")


def test_a_copied_phrase_is_as_long_as_it_is(training: Training) -> None:
    own, phrase = noise(1, 100), TRAINING[3][50:90].copy()
    phrase["onset_sec"] += 100 - phrase["onset_sec"][0]
    found = training.copied(steps(np.concatenate([own, phrase])))
    assert (found.longest, found.nearest) == (40, "piece 3")
    assert (found.found[8], found.found[16]) == (33, 25)


def test_noise_copies_nothing(training: Training) -> None:
    found = training.copied(steps(noise(2)))
    assert (found.found, found.longest, found.nearest) == ({8: 0, 16: 0}, 0, "")


@pytest.mark.parametrize("number", [0, 1, 2, 7, 8])
def test_short_pieces_have_few_sequences(training: Training, number: int) -> None:
    found = training.copied(steps(TRAINING[0][:number]))
    assert found.sequences == {8: max(0, number - 7), 16: 0}
    assert np.isnan(found.rate(16))
    assert Training([]).copied(steps(TRAINING[0][:number])).found == {8: 0, 16: 0}


def test_a_run_ends_where_the_piece_does() -> None:
    """Two pieces one after the other are no third one."""
    whole = TRAINING[0]
    training = Training([("first", steps(whole[:60])), ("second", steps(whole[60:]))])
    assert training.copied(steps(whole)).longest == len(whole) - 60


def played(name: str, notes: np.ndarray, training: Training) -> Played:
    return Played(name, name, excerpts(notes), training.copied(steps(notes)))


@pytest.fixture(scope="module")
def people(training: Training) -> list[Played]:
    return [played(f"h{s}", music(s), training) for s in range(20)]


@pytest.fixture(scope="module")
def systems(training: Training) -> dict[str, list[Played]]:
    random = np.random.default_rng(0)
    made = {"good": [music(200 + s) for s in range(8)], "noise": [noise(s) for s in range(8)]}
    made["copier"] = TRAINING[:8]
    made["shuffled"] = [notes.copy() for notes in made["good"]]
    for notes in made["shuffled"]:
        notes["pitch"] = random.permutation(notes["pitch"])
    return {name: [played(f"{s}", n, training) for s, n in enumerate(pieces)] for name, pieces in made.items()}


def test_the_better_is_better_in_every_main_figure(people: list[Played], systems: dict[str, list[Played]]) -> None:
    tables = judged(systems, people, 13)
    overlap, js, copies = (
        {name: {end: value or 0.0 for end, value in table["", measure].row().items()} for name, table in tables.items()}
        for measure in ("overlap_area", "js", "copy_rate")
    )
    assert overlap["good"]["low"] > overlap["noise"]["high"] + 0.2
    assert js["good"]["high"] < js["noise"]["low"] - 0.1
    assert overlap["good"]["mean"] > overlap["shuffled"]["mean"]
    assert js["good"]["mean"] < js["shuffled"]["mean"]
    assert overlap["good"]["mean"] == pytest.approx(overlap[HUMAN]["mean"], abs=0.05)
    assert js["good"]["mean"] == pytest.approx(js[HUMAN]["mean"], abs=0.03)
    assert copies["copier"]["mean"] == 1.0
    assert copies["good"]["mean"] == pytest.approx(copies[HUMAN]["mean"], abs=0.2)
    assert tables["copier"]["copies", "16"].value == 1 > 10 * tables["good"]["copies", "16"].value
    assert copies["noise"]["mean"] == 0
    for feature in ("pitch_range", "velocity", "melody", "duration"):
        for measure, sign in (("overlap_area", 1), ("js", -1), ("wasserstein", -1)):
            good, bad = (tables[name][feature, measure].value for name in ("good", "noise"))
            assert sign * good > sign * bad, (feature, measure)


def test_figures_depend_on_the_seed_alone(people: list[Played], systems: dict[str, list[Played]]) -> None:
    some = {"good": systems["good"][:3]}
    assert rows(judged(some, people, 5)) == rows(judged(some, people, 5))
    other = judged({"before": systems["noise"], **some}, people, 5)
    assert [r for r in rows(other) if r["system"] != "before"] == rows(judged(some, people, 5))
    assert rows(judged(some, people, 5)) != rows(judged(some, people, 6))


def test_every_mean_lies_in_its_interval(people: list[Played], systems: dict[str, list[Played]]) -> None:
    for row in rows(judged(systems, people, 13)):
        if row["low"] is not None:
            assert row["low"] - 1e-9 <= row["mean"] <= row["high"] + 1e-9, row


def test_silence_is_as_bad_as_can_be(people: list[Played], training: Training) -> None:
    tables = judged({"silent": [played("s", scale(5), training)]}, people, 13)
    assert (tables["silent"]["", "overlap_area"].value, tables["silent"]["", "js"].value) == (0, 1)
    row = next(r for r in rows(tables) if (r["system"], r["measure"]) == ("silent", "wasserstein"))
    assert (row["mean"], row["low"]) == (None, None)


def test_one_performance_of_a_work_counts(training: Training) -> None:
    """Many performances of a few works do not make people more alike than they are."""
    one = [Played("x", f"work {s}", excerpts(music(s)), training.copied(steps(music(s)))) for s in range(6)]
    table = judged({}, one, 13)[HUMAN]
    again = judged({}, one * 5, 13)[HUMAN]
    assert again["", "copy_rate"].row() == table["", "copy_rate"].row()
    assert again["", "overlap_area"].value == pytest.approx(table["", "overlap_area"].value, abs=0.06)


def test_too_few_works_are_refused(people: list[Played], systems: dict[str, list[Played]]) -> None:
    with pytest.raises(InputError) as caught:
        judged(systems, people[:3], 13)
    assert caught.value.code == "no_held_out"


def test_regressions(people: list[Played], systems: dict[str, list[Played]]) -> None:
    good, bad, copier = (judged({"x": systems[name]}, people, 13) for name in ("good", "noise", "copier"))
    about = {"baseline": {"name": "before"}}
    same = regression(good, good, GeneratedTolerance()) | about
    assert same["passed"]
    assert {(row["change"], row["low"], row["high"]) for row in same["comparisons"]} == {(0.0, 0.0, 0.0)}
    assert headline(same) == "No regression against baseline before: 4 figures."
    worse = regression(bad, good, GeneratedTolerance()) | about
    assert not worse["passed"]
    found = {row["figure"]: row["verdict"] for row in worse["comparisons"]}
    assert found["overlap_area"] == found["js"] == "regression"
    assert found["copy_rate"] != "regression"
    lines = told(worse)
    assert len(lines) == 2
    assert all("of x: " in line and "worst in " in line for line in lines)
    learnt = regression(copier, good, GeneratedTolerance())
    assert {row["figure"] for row in learnt["comparisons"] if row["verdict"] == "regression"} == {"copy_rate"}
    assert regression(good, bad, GeneratedTolerance())["passed"]
    loose = GeneratedTolerance(overlap_area=1, js=1, copy_rate=1)
    assert regression(bad, good, loose)["passed"]


def test_a_generator_that_falls_silent_is_a_regression(
    people: list[Played], systems: dict[str, list[Played]], training: Training
) -> None:
    """Those of its pieces that can be judged are as good as before."""
    silent = [played(f"{number}", scale(5), training) for number in range(6)]
    before, now = (judged({"x": pieces}, people, 13) for pieces in (systems["good"], systems["good"][:2] + silent))
    assert (before["x"]["", "filled"].value, now["x"]["", "filled"].value) == (1, pytest.approx(12 / 18))
    verdict = regression(now, before, GeneratedTolerance())
    assert [row["figure"] for row in verdict["comparisons"] if row["verdict"] == "regression"] == ["filled"]
    assert regression(now, before, GeneratedTolerance(), ("js",))["passed"]


def test_what_is_within_reach_of_a_system(people: list[Played], systems: dict[str, list[Played]]) -> None:
    """Little music, and music without dynamics, is farther from people's even if people play it."""
    some = [replace(piece, excerpts=piece.excerpts.first(1)) for piece in systems["good"][:2]]
    level = [replace(piece, excerpts=piece.excerpts.without_dynamics(64.0)) for piece in systems["good"]]
    tables = judged({"good": systems["good"], "little": some, "level": level}, people, 13)
    reach = {name: tables[name]["", "js_within_reach"].value for name in ("good", "little", "level")}
    assert tables[HUMAN]["", "js"].value <= reach["good"] < reach["little"]
    assert reach["good"] < reach["level"] == pytest.approx(tables["level"]["", "js"].value, abs=0.05)
    assert only_velocity([piece.excerpts for piece in level]) == 64
    assert only_velocity([piece.excerpts for piece in people]) is None
    notes = music(1)
    notes["velocity"] = 64
    flat, made = excerpts(notes), excerpts(music(1)).without_dynamics(64.0)
    for name in flat.vectors:
        assert_allclose(flat.vectors[name], made.vectors[name])
        assert_allclose(flat.histograms[name], made.histograms[name])


def test_a_system_that_is_gone_is_lost(people: list[Played], systems: dict[str, list[Played]]) -> None:
    both = judged({"a": systems["good"], "b": systems["noise"]}, people, 13)
    verdict = regression({"a": both["a"], HUMAN: both[HUMAN]}, both, GeneratedTolerance()) | {
        "baseline": {"name": "before"}
    }
    assert (verdict["passed"], verdict["lost"]) == (False, [{"system": "b"}])
    assert "Lost: b." in headline(verdict)
    alone = regression(
        {"new name": both["a"], HUMAN: both[HUMAN]}, {"a": both["a"], HUMAN: both[HUMAN]}, GeneratedTolerance()
    )
    assert [row["baseline_system"] for row in alone["comparisons"]] == ["a"] * 4


def test_one_piece_proves_nothing(people: list[Played], systems: dict[str, list[Played]]) -> None:
    worse, better = (judged({"x": systems[name][:1]}, people, 13) for name in ("noise", "good"))
    verdict = regression(worse, better, GeneratedTolerance())
    assert {row["low"] for row in verdict["comparisons"]} == {None}
    assert verdict["passed"]


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_tolerances_are_checked(value: float) -> None:
    with pytest.raises(InputError):
        GeneratedTolerance(js=value)


def test_intervals_are_those_of_the_draws() -> None:
    assert Drawn(0.5, np.linspace(0, 1, 1001)).row() == pytest.approx({"mean": 0.5, "low": 0.025, "high": 0.975})
    assert Drawn(float("nan"), np.zeros(0)).row() == {"mean": None, "low": None, "high": None}
    assert (SECONDS, LENGTHS) == (10.0, (8, 16))
