"""Perceptual features: the specification's values, what must not matter, what must, and what real music gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dexter_model.codec.performance_codec import decode, encode
from dexter_model.corpora.sources import PerformanceSource
from dexter_model.dataset.perceptual import encoder, perceive
from dexter_model.errors import InputError
from dexter_model.notes import PERCEPTUAL_FEATURES, PERFORMED_NOTE, SCORE_NOTE, Alignment, Performance, Score
from dexter_model.perceptual.composites import DEVIATION, MEAN, SCALES, WEIGHTS, composites
from dexter_model.perceptual.estimate import SOURCE, estimate, estimate_encoded, raw_terms
from dexter_model.perceptual.events import chord_events
from dexter_model.perceptual.features import PerceptualFeatures, nothing_known, unknown_values
from dexter_model.perceptual.roughness import roughness, total_amplitude
from dexter_model.perceptual.tonality import CBMS, KK, key_correlations
from dexter_model.perceptual.windows import windows_over
from dexter_model.performers import deadpan
from dexter_model.reading.match import load_match
from dexter_model.reading.midi import load_midi
from dexter_model.reading.sandbox import Sandbox
from dexter_model.reading.score import load_score

NO_BEATS = (np.zeros(0), np.zeros(0))
COLUMN = {name: column for column, name in enumerate(PERCEPTUAL_FEATURES)}


def performance_of(onset: object, pitch: object, duration: object = 0.2, velocity: object = 64) -> Performance:
    """Notes by their onsets in s, pitches, durations in s and velocities (arrays, or one for all)."""
    notes = np.zeros(len(np.atleast_1d(np.asarray(onset))), PERFORMED_NOTE)
    notes["onset_sec"], notes["pitch"], notes["velocity"] = onset, pitch, velocity
    notes["duration_sec"] = notes["keydown_sec"] = duration
    return Performance(np.array([f"n{i}" for i in range(len(notes))]), notes, np.zeros((0, 2)))


def quarters(n: int, pitches: tuple[int, ...] = (60, 64, 67, 72)) -> Score:
    """A score of one note a beat."""
    notes = np.zeros(n, SCORE_NOTE)
    notes["onset_beat"], notes["duration_beat"] = np.arange(n), 1
    notes["pitch"] = np.resize(pitches, n)
    return Score(np.array([f"s{i}" for i in range(n)]), notes)


def played(score: Score, beat_period: object, **columns: float) -> tuple[Performance, np.ndarray]:
    """A score played with these beat periods, and its codec."""
    codec = deadpan.perform(score.notes, 120)
    codec[:, 0] = beat_period
    for name, value in columns.items():
        codec[:, ("velocity", "timing", "articulation").index(name) + 1] = value
    return decode(score.notes, score.note_id, codec), codec


def term(performance: Performance, name: str) -> float:
    """A raw term in the performance's first window."""
    onset = performance.notes["onset_sec"]
    return float(raw_terms(performance, windows_over(onset.min(), onset.max()), *NO_BEATS)[0][name][0])


@pytest.mark.parametrize(
    ("chord", "rough", "relative"),
    [
        ((60,), 0.0431, 0.0097),
        ((60, 67), 0.6936, 0.0777),
        ((60, 64), 1.9751, 0.2213),
        ((60, 64, 67), 4.3568, 0.3254),
        ((60, 63, 67), 4.4980, 0.3359),
        ((60, 61), 3.8508, 0.4314),
        ((55, 59, 62, 65), 11.2572, 0.6305),
        ((60, 61, 62, 63), 18.5814, 1.0408),
        ((36, 40), 7.5322, 0.8438),
    ],
)
def test_roughness_of_the_specification(chord: tuple[int, ...], rough: float, relative: float) -> None:
    pitch = np.array([chord])
    amplitude = np.ones(pitch.shape)
    total = roughness(pitch, amplitude)
    np.testing.assert_allclose(total, rough, atol=5e-5)
    np.testing.assert_allclose(total / total_amplitude(amplitude), relative, atol=5e-5)


@pytest.mark.parametrize(("profiles", "major", "minor"), [(CBMS, 0.937, 0.579), (KK, 0.756, 0.712)])
def test_keys_of_a_c_major_scale(profiles: np.ndarray, major: float, minor: float) -> None:
    scale = np.isin(np.arange(12), [0, 2, 4, 5, 7, 9, 11]).astype(float)
    correlations = key_correlations(scale, profiles)
    assert correlations[:12].argmax() == 0
    assert correlations[:12].max() == pytest.approx(major, abs=1e-3)
    assert correlations[12:].max() == pytest.approx(minor, abs=1e-3)
    np.testing.assert_allclose(key_correlations(np.roll(scale, 5), profiles)[:12], np.roll(correlations[:12], 5))
    assert np.isnan(key_correlations(np.ones(12), profiles)).all()


def test_composites_at_the_medians_and_beside_them() -> None:
    medians = {name: np.array([median]) for name, (median, _) in SCALES.items()}
    np.testing.assert_allclose(composites(medians)[0], 0.55 - 0.15 * MEAN / DEVIATION)
    for name, (median, scale) in SCALES.items():
        above = composites(medians | {name: np.array([median + scale])}) - composites(medians)
        for column, feature in enumerate(PERCEPTUAL_FEATURES):
            weight = WEIGHTS[feature].get(name, 0.0)
            np.testing.assert_allclose(above[0, column], 0.15 * weight / DEVIATION[column], atol=1e-12)
    unknown = {name: np.array([np.nan]) for name in SCALES}
    np.testing.assert_allclose(composites(unknown), composites(medians))
    wild = composites({name: np.array([1e9]) for name in SCALES})
    np.testing.assert_allclose(wild, composites({n: np.array([m + 3 * s]) for n, (m, s) in SCALES.items()}))
    assert wild.min() >= 0.1
    assert wild.max() <= 1.0


def test_without_beats_the_pulse_alone_tells_how_steady_the_rhythm_is() -> None:
    terms = {name: np.array([median]) for name, (median, _) in SCALES.items()}
    median, scale = SCALES["pc"]
    terms |= {"sd_beat": np.array([np.nan]), "pc": np.array([median + scale])}
    column = COLUMN["rhythm_stability"]
    np.testing.assert_allclose(composites(terms)[0, column], 0.55 + 0.15 * (1 - MEAN[column]) / DEVIATION[column])


def test_chords_melody_and_bass() -> None:
    onset = [0, 0.029, 0.05, 0.1, 0.12, 0.14, 0.16]  # spread up to 50 ms; the last begins 60 ms after its chord
    events = chord_events(performance_of(onset, [60, 64, 67, 48, 72, 55, 74]))
    assert events.first.tolist() == [0, 3, 6]
    assert events.onset.tolist() == [0, 0.1, 0.16]
    assert events.last_onset.tolist() == [0.05, 0.14, 0.16]
    assert events.notes["pitch"][events.melody].tolist() == [67, 72, 74]
    assert events.notes["pitch"][events.bass].tolist() == [60, 48, 74]
    below = performance_of([0, 0.5, 1.0, 2.0], [72, 64, 65, 60], [1.04, 0.2, 0.2, 0.2])
    pitches = chord_events(below).notes["pitch"]
    # E4 lies 8 below a C5 that is held on; F4 begins 40 ms before that goes up
    assert pitches[chord_events(below).melody].tolist() == [72, 65, 60]


def test_terms_worked_by_hand() -> None:
    onset = np.arange(0, 16, 0.5)
    even = performance_of(onset, np.resize([60, 62, 64, 67], len(onset)), 0.4)
    assert term(even, "art_key") == pytest.approx(0.2)
    assert term(even, "art_snd") == pytest.approx(0.2)
    assert term(even, "step") == pytest.approx(15 / 29)  # of 2, 2, 3 and 7 semitones: 30 notes, 29 intervals
    assert term(even, "leap") == pytest.approx(np.log2(1 + (8 * 2 + 7 * 2 + 7 * 3 + 7 * 7) / 29))
    assert term(even, "rate") == term(even, "dens") == pytest.approx(1)
    assert term(even, "ent") == pytest.approx(0)
    assert term(even, "npvi") == pytest.approx(0)
    assert term(even, "pc") == pytest.approx(1, abs=0.02)
    assert np.isnan(term(even, "sal"))  # no accompaniment
    assert np.isnan(term(even, "sd_beat"))
    dotted = np.cumsum(np.resize([0.6, 0.2], 40))
    assert term(performance_of(dotted, 60), "npvi") == pytest.approx(100)
    shares = np.array([19, 18]) / 37  # 38 events in the window, two kinds of interval, their median one of them
    assert term(performance_of(dotted, 60), "ent") == pytest.approx(-(shares * np.log2(shares)).sum() / np.log2(13))
    two = performance_of(np.repeat(onset, 2), np.resize([48, 72], 2 * len(onset)), 0.4, np.resize([40, 70], 64))
    assert term(two, "sal") == pytest.approx(30 / 127)


def test_random_onsets_have_less_of_a_pulse() -> None:
    onset = np.sort(np.random.default_rng(0).uniform(0, 30, 60))
    assert term(performance_of(onset, 60), "pc") < 0.4


def test_the_beat_is_steady_or_not() -> None:
    score = quarters(64)
    steady, codec = played(score, 0.5)
    wavering, other = played(score, np.resize([0.45, 0.55], 64))
    values = [
        estimate(p, score, c).values[:, COLUMN["rhythm_stability"]] for p, c in ((steady, codec), (wavering, other))
    ]
    assert (values[0] > values[1] + 0.1).all()


def test_transposed_only_dissonance_differs() -> None:
    rng = np.random.default_rng(1)
    onset, pitch = np.sort(rng.uniform(0, 40, 300)), rng.integers(40, 80, 300)
    here, there = (estimate(performance_of(onset, pitch + k, 0.3, 50 + pitch % 30)).values for k in (0, 5))
    same = [column for name, column in COLUMN.items() if name != "dissonance"]
    np.testing.assert_allclose(here[:, same], there[:, same], atol=1e-6)
    assert np.abs(here - there)[:, COLUMN["dissonance"]].max() > 1e-3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1000), st.integers(1, 400))
def test_rows_in_any_order_and_later_notes_give_the_same(seed: int, later: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    onset = rng.choice(np.arange(0, 30, 0.01), n)
    notes = performance_of(onset, rng.integers(21, 109, n), rng.uniform(0, 3, n), rng.integers(1, 128, n))
    features = estimate(notes)
    order = rng.permutation(n)
    shuffled = estimate(Performance(notes.note_id[order], notes.notes[order], notes.pedal))
    np.testing.assert_array_equal(features.values, shuffled.values)
    assert features.source == SOURCE
    assert features.mask.tolist() == np.isfinite(features.values).all(axis=1).tolist()
    known = features.values[features.mask]
    assert ((known >= 0.1) & (known <= 1)).all()
    assert np.isnan(features.values[~features.mask]).all()
    moved = Performance(notes.note_id, notes.notes.copy(), notes.pedal)
    moved.notes["onset_sec"] += np.round(later)
    np.testing.assert_allclose(estimate(moved).times, features.times + np.round(later))


def test_windows_cover_the_performance_and_few_notes_tell_nothing() -> None:
    long = estimate(performance_of(np.arange(1, 32.1, 0.25), 60))
    np.testing.assert_allclose(long.times, [8.5, 13.5, 18.5, 23.5])  # full windows from the first onset at 1 s
    assert long.mask.all()
    short = estimate(performance_of(np.arange(2, 8, 0.25), 60))
    np.testing.assert_allclose(short.times, [2 + 5.75 / 2])
    assert short.mask.all()
    gap = estimate(performance_of(np.r_[np.arange(0, 15, 0.25), np.arange(50, 70, 0.25)], 60))
    assert 0 < gap.mask.sum() < len(gap.mask)
    notes = gap.per_note(np.array([10.0, 34.0, 60.0]))
    assert np.isfinite(notes[[0, 2]]).all()
    for few in (
        performance_of(np.arange(7), 60),
        performance_of(np.repeat([0, 5, 10], 5), np.resize(range(60, 65), 15)),
    ):
        assert not estimate(few).mask.any()
        assert np.isnan(estimate(few).per_note(np.array([0.0, 5.0]))).all()


def test_staccato_is_articulated_and_minor_is_minor() -> None:
    score = quarters(80)
    legato, staccato = (estimate(*_with(score, articulation=a)).values for a in (0.0, -1.5))
    assert (staccato[:, COLUMN["articulation"]] > legato[:, COLUMN["articulation"]] + 0.2).all()
    minor, major = (estimate(*_with(quarters(80, triad))).values for triad in ((60, 63, 67, 72), (60, 64, 67, 72)))
    assert (minor[:, COLUMN["minorness"]] > major[:, COLUMN["minorness"]] + 0.2).all()


def _with(score: Score, **columns: float) -> tuple[Performance, Score, np.ndarray]:
    performance, codec = played(score, 0.5, **columns)
    return performance, score, codec


def test_a_deadpan_performance_is_its_own_reference() -> None:
    score = quarters(100)
    performance, codec = played(score, 0.5)
    features = estimate(performance, score, codec)
    assert features.mask.all()
    np.testing.assert_allclose(features.values, features.reference, atol=1e-5)
    np.testing.assert_allclose(features.delta_per_note(performance.notes["onset_sec"]), 0, atol=1e-5)


def test_the_reference_lies_at_the_same_places_of_the_score() -> None:
    n = 160  # the first half repeated notes, the second leaps; played ever slower
    score = quarters(n)
    score.notes["pitch"][: n // 2] = 60
    performance, codec = played(score, np.linspace(0.3, 1.2, n))
    features = estimate(performance, score, codec)
    change = performance.notes["onset_sec"][n // 2]
    melodious = features.reference[:, COLUMN["melodiousness"]]
    before, after = features.times < change - 15, features.times > change + 15
    assert melodious[before].min() > melodious[after].max() + 0.2
    later = estimate(
        Performance(performance.note_id, _moved(performance, 3.0), performance.pedal), score, codec, start=3
    )
    np.testing.assert_allclose(later.reference, features.reference, atol=1e-6)
    np.testing.assert_allclose(later.values, features.values, atol=1e-6)


def _moved(performance: Performance, seconds: float) -> np.ndarray:
    notes = performance.notes.copy()
    notes["onset_sec"] += seconds
    return notes


def test_features_of_notes() -> None:
    values = np.arange(21, dtype=np.float32).reshape(3, 7)
    known = np.ones(3, bool)
    features = PerceptualFeatures(np.array([7.5, 12.5, 17.5]), values, unknown_values(3), known, "cep_csv")
    onset = np.array([16.0, 0, 10, 21, 26, 90])
    np.testing.assert_allclose(features.per_note(onset)[:, 0], [11.9, 0, 3.5, 14, 14, np.nan], rtol=1e-6)
    assert features.per_note(onset, "causal")[:, 0].tolist() == [0, 0, 0, 7, 14, 14]
    assert features.per_note(onset, "dexter")[:, 0].tolist() == [0, 14, 14, 7, 14, 14]
    assert np.isnan(features.delta_per_note(onset)).all()
    assert features.shifted(2).times.tolist() == [9.5, 14.5, 19.5]
    for mode in ("centred", "causal", "dexter"):
        none = nothing_known().per_note(onset, mode)
        assert none.shape == (6, 7)
        assert np.isnan(none).all()
    with pytest.raises(ValueError, match="none of centred, causal, dexter"):
        features.per_note(onset, "backwards")


def test_the_door_speaks_the_codecs_clock(tmp_path: Path) -> None:
    score = quarters(60)
    performance, _ = played(score, 0.5)
    early = performance_of([0.0, 0.5], 40)  # two notes that are not the score's, then the first that is, at 4 s
    notes = np.concatenate([early.notes, _moved(performance, 4.0)])
    ids = np.concatenate([early.note_id, score.note_id])
    whole = Performance(ids, notes, np.zeros((0, 2)))
    encoded = encode(score, whole, Alignment(score.note_id, score.note_id))
    assert encoded.start == 4.0
    features = estimate_encoded(whole, encoded, score)
    np.testing.assert_allclose(features.times[0], 7.5 - 4.0)
    onset = decode(score.notes[encoded.rows], encoded.note_id, encoded.p_codec, encoded.matched).notes["onset_sec"]
    assert np.isfinite(features.per_note(onset)).all()
    assert np.isfinite(features.delta_per_note(onset)).all()
    source = PerformanceSource("x.mid", str(tmp_path / "x.mid"), None, "")
    with Sandbox() as sandbox:
        for choice in ("estimate", "csv"):  # there is no file of features
            heard = perceive(choice, source, whole, encoded, score, sandbox)
            np.testing.assert_array_equal(heard.values, features.values)
        assert perceive("none", source, whole, encoded, score, sandbox).source == "none"
    for choice in ("cnn", "estimated", "cnn:"):
        with pytest.raises(InputError) as caught:
            encoder(choice)
        assert caught.value.code == "perceptual_source"


@pytest.mark.corpora
def test_pianists_of_one_piece_agree(corpora_root: Path) -> None:
    piece = "Schubert_D783_no15"
    folder = corpora_root / "vienna4x22"
    score = load_score(str(folder / "musicxml" / f"{piece}.musicxml"))
    values = []
    for pianist in ("p01", "p02"):
        performance, alignment = load_match(str(folder / "match" / f"{piece}_{pianist}.match"))
        encoded = encode(score, performance, alignment)
        features = estimate_encoded(performance, encoded, score)
        assert features.mask.all()
        assert np.isfinite(features.reference).all()
        onset = decode(score.notes[encoded.rows], encoded.note_id, encoded.p_codec, encoded.matched).notes["onset_sec"]
        values.append((features.per_note(onset).mean(axis=0), np.nanstd(features.delta_per_note(onset), axis=0)))
    (one, _), (other, spread) = values
    assert np.abs(one - other).max() < 0.15  # a standard deviation of the scale
    assert (spread > 0).all()


@pytest.mark.corpora
def test_minor_pieces_of_the_well_tempered_clavier_are_more_minor(corpora_root: Path) -> None:
    minorness: dict[bool, list[float]] = {True: [], False: []}
    for folder in (corpora_root / "asap-dataset" / "Bach").glob("*/bwv_*"):
        number = int(folder.name.removeprefix("bwv_"))  # of the preludes and fugues the odd ones are in minor
        for path in sorted(folder.glob("*.mid"))[:3]:
            if 846 <= number <= 893 and path.name != "midi_score.mid":
                values = estimate(load_midi(path)).values[:, COLUMN["minorness"]]
                minorness[number % 2 == 1].append(float(np.nanmean(values[:13])))  # 75 s
    assert min(map(len, minorness.values())) > 20
    more = np.array(minorness[True])[:, None] > np.array(minorness[False])
    assert more.mean() > 0.95  # area under the ROC curve
