"""The performance codec: worked by hand, against the golden codecs, and back to notes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dexter_model.codec.performance_codec import EncodedPerformance, decode, encode
from dexter_model.errors import InputError
from dexter_model.notes import PERFORMED_NOTE, SCORE_NOTE, Alignment, Performance, Score
from dexter_model.reading.alignment import load_alignment, score_as_aligned
from dexter_model.reading.match import load_match
from dexter_model.reading.midi import load_midi
from dexter_model.reading.score import load_score

DIVS = 12  # a beat


def score_of(*notes: tuple[float, float, int]) -> Score:
    """Notes of (onset, duration) in beats and pitch, sorted; ids s0, s1, ..."""
    array = np.zeros(len(notes), SCORE_NOTE)
    array["onset_beat"], array["duration_beat"], array["pitch"] = np.array(notes).T
    array["onset_div"], array["duration_div"] = array["onset_beat"] * DIVS, array["duration_beat"] * DIVS
    array["voice"] = 1
    return Score(np.array([f"s{i}" for i in range(len(notes))]), array)


def performance_of(*notes: tuple[float, float, int], pedal: tuple[tuple[float, float], ...] = ()) -> Performance:
    """Notes of onset and duration in s and velocity; ids n0, n1, ..."""
    array = np.zeros(len(notes), PERFORMED_NOTE)
    array["onset_sec"], array["duration_sec"], array["velocity"] = np.array(notes).T
    array["onset_sec"] = array["onset_sec"].astype(np.float32)
    array["keydown_sec"] = array["duration_sec"] / 2
    return Performance(np.array([f"n{i}" for i in range(len(notes))]), array, np.array(pedal, float).reshape(-1, 2))


def alignment_of(**pairs: str) -> Alignment:
    """Score note -> played note, '' where it was not played."""
    return Alignment(np.array(list(pairs)), np.array(list(pairs.values())))


CHORD_AND_TWO = score_of((0, 1, 60), (0, 1, 64), (1, 1, 62), (2, 2, 60))
PLAYED = ((1.0, 0.4, 50), (1.02, 0.5, 60), (1.51, 0.5, 70), (2.05, 1.0, 127))
ALL_MATCHED = alignment_of(s0="n0", s1="n1", s2="n2", s3="n3")


def test_columns_worked_by_hand() -> None:
    encoded = encode(CHORD_AND_TWO, performance_of(*PLAYED), ALL_MATCHED)
    beat_period = [0.5, 0.5, 0.54, 0.5]  # mean onsets 1.01, 1.51, 2.05; the end 3.05 at beat 4
    np.testing.assert_allclose(encoded.p_codec[:, 0], beat_period, atol=1e-6)
    np.testing.assert_allclose(encoded.p_codec[:, 1], np.array([50, 60, 70, 127]) / 127, atol=1e-7)
    np.testing.assert_allclose(encoded.p_codec[:, 2], [0.01, -0.01, 0, 0], atol=1e-6)
    ratio = np.array([0.4 / 0.5, 0.5 / 0.5, 0.5 / 0.54, 1.0 / 1.0])
    np.testing.assert_allclose(encoded.p_codec[:, 3], np.log2(ratio), atol=1e-6)
    np.testing.assert_allclose(encoded.keydown_articulation, np.log2(ratio / 2), atol=1e-6)
    assert encoded.p_codec.dtype == np.float32
    assert encoded.s_codec.tolist() == [[0, 12, 60, 1], [0, 12, 64, 1], [12, 12, 62, 1], [24, 24, 60, 1]]
    assert encoded.s_codec.dtype == np.int32
    assert encoded.matched.all()
    assert not encoded.tempo_outlier


def test_onsets_out_of_order_are_made_monotonic() -> None:
    score = score_of((0, 1, 60), (1, 1, 61), (2, 1, 62), (3, 1, 63))
    played = performance_of((0, 1, 60), (2, 0.1, 60), (1, 0.1, 60), (3, 1, 60))  # the third before the second
    encoded = encode(score, played, ALL_MATCHED)
    # 0, 2, (1 replaced by half way from 2 to 3), 3, end 4
    np.testing.assert_allclose(encoded.p_codec[:, 0], [2, 0.5, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(encoded.p_codec[:, 2], [0, 0, 1.5, 0], atol=1e-6)


def test_grace_notes_have_no_articulation_and_decode_to_the_shortest_duration() -> None:
    score = score_of((0, 1, 60), (1, 0, 61), (1, 1, 62), (2, 0, 62))
    encoded = encode(score, performance_of((0, 1, 9), (0.95, 0.05, 9), (1, 0.01, 9), (2, 0.4, 9)), ALL_MATCHED)
    assert encoded.p_codec[[1, 3], 3].tolist() == [0, 0]
    decoded = decode(score.notes, score.note_id, encoded.p_codec)
    np.testing.assert_allclose(decoded.notes["duration_sec"][1:], 0.075, atol=1e-7)
    assert encoded.p_codec[3, 0] == pytest.approx(0.4)  # the end lies a beat after a last grace note


def test_pedal_is_linear_between_its_events_and_zero_outside() -> None:
    pedal = ((1.01, 100.0), (1.61, 40.0))
    encoded = encode(CHORD_AND_TWO, performance_of(*PLAYED, pedal=pedal), ALL_MATCHED)
    np.testing.assert_allclose(encoded.p_codec[:, 4] * 127, [0, 99, 50, 0], atol=1e-3)
    one = encode(CHORD_AND_TWO, performance_of(*PLAYED, pedal=((1.0, 100.0),)), ALL_MATCHED)
    assert not one.p_codec[:, 4].any()


def test_deleted_notes_keep_their_rows_and_leave_the_tempo_alone() -> None:
    more = score_of((0, 1, 60), (0, 1, 64), (1, 1, 62), (1, 1, 90), (1.5, 0.5, 91), (2, 2, 60))
    alignment = alignment_of(s0="n0", s1="n1", s2="n2", s3="", s4="", s5="n3")
    encoded = encode(more, performance_of(*PLAYED), alignment)
    alone = encode(CHORD_AND_TWO, performance_of(*PLAYED), ALL_MATCHED)
    assert encoded.matched.tolist() == [True, True, True, False, False, True]
    np.testing.assert_array_equal(encoded.p_codec[encoded.matched], alone.p_codec)
    np.testing.assert_allclose(encoded.p_codec[3:5, 0], 0.54, atol=1e-6)  # its own group's, the group's before it
    np.testing.assert_allclose(encoded.p_codec[3:5, 1:], [alone.p_codec[:, 1:].mean(axis=0)] * 2, atol=1e-6)


def test_deletions_before_the_first_match_take_its_beat_period() -> None:
    alignment = alignment_of(s0="", s1="", s2="n0", s3="n1")
    encoded = encode(CHORD_AND_TWO, performance_of((1, 0.5, 60), (1.6, 1.0, 60)), alignment)
    np.testing.assert_allclose(encoded.p_codec[:, 0], [0.6, 0.6, 0.6, 0.5], atol=1e-6)
    decoded = decode(CHORD_AND_TWO.notes, CHORD_AND_TWO.note_id, encoded.p_codec, encoded.matched)
    np.testing.assert_allclose(decoded.notes["onset_sec"], [0, 0, 0, 0.6], atol=1e-6)


def test_notes_that_the_alignment_does_not_name_have_no_row() -> None:
    encoded = encode(CHORD_AND_TWO, performance_of(*PLAYED), alignment_of(s3="n3", s0="n0", gone="", lost="n2"))
    assert encoded.rows.tolist() == [0, 3]
    assert encoded.note_id.tolist() == ["s0", "s3"]
    assert encoded.unknown_ids == 2


def test_of_two_lines_for_one_score_note_the_first_holds() -> None:
    alignment = Alignment(np.array(["s0", "s2", "s2", "s0"]), np.array(["n0", "n2", "n1", ""]))
    encoded = encode(CHORD_AND_TWO, performance_of(*PLAYED), alignment)
    np.testing.assert_allclose(encoded.p_codec[:, 1] * 127, [50, 70], atol=1e-4)
    assert encoded.matched.all()


def test_a_match_with_no_played_note_is_a_deletion() -> None:
    encoded = encode(CHORD_AND_TWO, performance_of(*PLAYED), alignment_of(s0="n0", s1="n99", s2="n2"))
    assert encoded.matched.tolist() == [True, False, True]


def test_alignments_to_other_scores_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        encode(CHORD_AND_TWO, performance_of(*PLAYED), alignment_of(x="n0", y="n1", s0="n2"), "piece.match")
    assert (caught.value.code, caught.value.path) == ("unknown_ids", "piece.match")
    assert "1 of the 3" in caught.value.reason
    with pytest.raises(InputError) as caught:
        encode(CHORD_AND_TWO, performance_of(*PLAYED), alignment_of(s0="", s1=""))
    assert caught.value.code == "no_matches"
    deleted_first = Alignment(np.array(["s0", "s0", "s1", "s1"]), np.array(["", "n0", "", "n1"]))
    with pytest.raises(InputError) as caught:
        encode(CHORD_AND_TWO, performance_of(*PLAYED), deleted_first)
    assert caught.value.code == "no_matches"
    half = encode(CHORD_AND_TWO, performance_of(*PLAYED), alignment_of(x="n0", s0="n1"))
    assert half.unknown_ids == 1


def test_a_fast_mean_tempo_is_marked() -> None:
    fast = performance_of((0, 0.2, 9), (0, 0.2, 9), (0.25, 0.2, 9), (0.5, 0.5, 9))
    assert encode(CHORD_AND_TWO, fast, ALL_MATCHED).tempo_outlier


def test_decoding_clips_velocity_and_moves_the_pedal_at_each_played_note() -> None:
    p_codec = np.tile([0.5, 2.0, 0.0, 0.0, 1.5], (4, 1))
    p_codec[2] = [0.5, -1.0, 0.1, 1.0, 0.25]
    decoded = decode(CHORD_AND_TWO.notes, CHORD_AND_TWO.note_id, p_codec, np.array([True, False, True, True]))
    assert decoded.notes["velocity"].tolist() == [127, 127, 1, 127]
    np.testing.assert_allclose(decoded.notes["onset_sec"], [0, 0, 0.4, 1.0])
    np.testing.assert_allclose(decoded.notes["duration_sec"], [0.5, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(decoded.pedal, [[0, 127], [0.4, 32], [1.0, 127]])
    assert decoded.note_id.tolist() == CHORD_AND_TWO.note_id.tolist()


@st.composite
def performances(draw: st.DrawFn) -> tuple[Score, Performance, Alignment]:
    """Some 2 to 40 notes, played within a second of a tempo, late in a long recording, some of them not."""
    size = draw(st.integers(2, 40))
    whole = st.integers(0, 10**6)
    random = np.random.default_rng(draw(whole))
    onset = np.sort(random.integers(-DIVS, 60 * DIVS, size)) / DIVS
    duration = random.integers(0, 4 * DIVS, size) / DIVS
    score = score_of(*zip(onset, duration, random.integers(21, 109, size), strict=True))
    start, tempo = draw(st.floats(0, 2000)), draw(st.floats(0.1, 2))
    played = np.maximum(start + tempo * onset + random.uniform(-1, 1, size), 0)
    keys = zip(played, random.uniform(0, 3, size), random.integers(1, 128, size), strict=True)
    performed = [f"n{i}" if random.random() < 0.8 or i == size // 2 else "" for i in range(size)]
    return score, performance_of(*keys, pedal=((0, 0), (3000, 127))), Alignment(score.note_id, np.array(performed))


@settings(max_examples=200, deadline=None)
@given(performances())
def test_any_performance_survives_encoding(case: tuple[Score, Performance, Alignment]) -> None:
    score, performance, alignment = case
    encoded = encode(score, performance, alignment)
    assert np.isfinite(encoded.p_codec).all()
    assert (encoded.p_codec[:, 0] > 0).all()
    assert_round_trip(score, performance, alignment, encoded)


@settings(max_examples=25, deadline=None)
@given(performances())
def test_the_order_of_lines_and_played_notes_does_not_matter(case: tuple[Score, Performance, Alignment]) -> None:
    score, performance, alignment = case
    random = np.random.default_rng(0)
    lines, keys = random.permutation(len(score.notes)), random.permutation(len(score.notes))
    shuffled = Performance(performance.note_id[keys], performance.notes[keys], performance.pedal)
    other = encode(score, shuffled, Alignment(alignment.score_id[lines], alignment.performance_id[lines]))
    np.testing.assert_array_equal(other.p_codec, encode(score, performance, alignment).p_codec)


def assert_round_trip(
    score: Score, performance: Performance, alignment: Alignment, encoded: EncodedPerformance
) -> None:
    """Decoded onsets within 0.01 ms of the performed ones, velocities equal, on matched rows."""
    number = {note_id: index for index, note_id in reversed(list(enumerate(performance.note_id.tolist())))}
    pairs = dict(zip(alignment.score_id.tolist()[::-1], alignment.performance_id.tolist()[::-1], strict=True))
    played = performance.notes[[number[pairs[score_id]] for score_id in encoded.note_id[encoded.matched].tolist()]]
    decoded = decode(score.notes[encoded.rows], encoded.note_id, encoded.p_codec, encoded.matched)
    notes = decoded.notes[encoded.matched]
    onset = played["onset_sec"] - played["onset_sec"].min()
    np.testing.assert_allclose(notes["onset_sec"], onset, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(notes["velocity"], played["velocity"])
    sounding = (score.notes["duration_beat"][encoded.rows] > 0)[encoded.matched]
    expected = np.maximum(played["duration_sec"], 0.075)
    np.testing.assert_allclose(notes["duration_sec"][sounding], expected[sounding], rtol=1e-5)


# In these the pedal moves dozens of times at time 0. partitura sorts them with numpy's unstable sort; the golden values
# are what numpy 1.26 with AVX-512 makes of it, ours are in the order of the file (docs/decisions/0005-own-readers.md).
PEDAL_AT_ONCE = {
    "match/Chopin_op38_p01.match": 4,
    "match/Chopin_op38_p14.match": 2,
    "match/Chopin_op38_p18.match": 2,
    "match/Chopin_op38_p21.match": 3,
    "match/Mozart_K331_1st-mov_p14.match": 3,
}


def golden(name: str) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Key, note ids, score codec and performance codec of each golden performance."""
    with np.load(Path(os.environ["DEXTER_GOLDEN"]) / f"{name}_codecs.npz", allow_pickle=False) as file:
        for row in json.loads(str(file["rows"])):
            k = row["index"]
            yield row["key"], file[f"i{k}"], file[f"s{k}"], file[f"p{k}"]


def assert_golden(encoded: EncodedPerformance, key: str, ids: np.ndarray, s_codec: np.ndarray, p: np.ndarray) -> None:
    ours, theirs = encoded.note_id[encoded.matched], np.unique(ids, return_index=True)
    order = np.argsort(ours)
    assert ours[order].tolist() == theirs[0].tolist(), key
    np.testing.assert_array_equal(encoded.s_codec[encoded.matched][order], s_codec[theirs[1]], err_msg=key)
    off = np.abs(encoded.p_codec[encoded.matched][order] - p[theirs[1]]) > 1e-4
    assert np.count_nonzero(off, axis=0).tolist() == [0, 0, 0, PEDAL_AT_ONCE.get(key, 0), 0], key


needs_golden = pytest.mark.skipif(not os.environ.get("DEXTER_GOLDEN"), reason="DEXTER_GOLDEN is not set")


@needs_golden
@pytest.mark.corpora
def test_vienna_agrees_with_the_golden_codecs_and_survives_the_round_trip(corpora_root: Path) -> None:
    folder = corpora_root / "vienna4x22"
    for key, *expected in golden("vienna"):
        performance, alignment = load_match(folder / key)
        path = folder / "musicxml" / f"{Path(key).stem[:-4]}.musicxml"
        score = score_as_aligned(alignment, lambda unfold, path=path: load_score(path, unfold=unfold))
        encoded = encode(score, performance, alignment)
        assert_golden(encoded, key, *expected)
        assert_round_trip(score, performance, alignment, encoded)


@needs_golden
@pytest.mark.corpora
def test_asap_agrees_with_the_golden_codecs_and_survives_the_round_trip(corpora_root: Path) -> None:
    folder = corpora_root / "asap-dataset"
    for key, *expected in golden("asap"):
        path = folder / key
        performance = load_midi(path)
        alignment = load_alignment(path.with_name(f"{path.stem}_note_alignments") / "note_alignment.tsv")
        score = load_score(path.parent / "xml_score.musicxml", unfold=True)
        encoded = encode(score, performance, alignment)
        assert_golden(encoded, key, *expected)
        assert_round_trip(score, performance, alignment, encoded)
