"""Figures of performances whose faults were made on purpose, what is flagged, what is refused, and real corpora."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dexter_model.codec.performance_codec import encode
from dexter_model.corpora import discover
from dexter_model.corpora.check import check
from dexter_model.corpora.layouts import asap, vienna
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.dataset.piece import encode_piece
from dexter_model.dataset.quality import BOUNDS, Quality, columns, flags, measure, refuse_hopeless, row
from dexter_model.errors import InputError
from dexter_model.notes import PERFORMED_NOTE, SCORE_NOTE, Alignment, Performance, Score
from dexter_model.reading.sandbox import Sandbox

N = 100


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def score(n: int = N) -> Score:
    notes = np.zeros(n, SCORE_NOTE)
    notes["onset_div"] = notes["onset_beat"] = np.arange(n)
    notes["duration_div"] = notes["duration_beat"] = 1
    notes["pitch"] = 40 + np.arange(n) % 40
    return Score(np.array([f"s{i}" for i in range(n)]), notes)


def performance(n: int = N) -> Performance:
    """Each note half a second after the one before, the pedal down for the first half of every second."""
    notes = np.zeros(n, PERFORMED_NOTE)
    notes["onset_sec"] = np.arange(n) / 2
    notes["duration_sec"] = notes["keydown_sec"] = 0.5
    notes["pitch"] = 40 + np.arange(n) % 40
    notes["velocity"] = 60 + 10 * (np.arange(n) % 2)
    times = np.arange(n) / 2
    return Performance(np.array([f"p{i}" for i in range(n)]), notes, np.column_stack([times, 127 * (times % 1 == 0)]))


def alignment(n: int = N) -> Alignment:
    return Alignment(np.array([f"s{i}" for i in range(n)]), np.array([f"p{i}" for i in range(n)]))


def figures(played: Performance | None = None, pairs: Alignment | None = None, of: Score | None = None) -> Quality:
    notated, played, pairs = of or score(), played or performance(), pairs or alignment()
    return measure(notated, played, pairs, encode(notated, played, pairs))


def changed(**columns: np.ndarray | float) -> Performance:
    played = performance()
    notes = played.notes.copy()
    for name, values in columns.items():
        notes[name] = values
    return replace(played, notes=notes)


SOUND = Quality(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 100, 0.5, 5.0, 50.0)


def test_a_sound_performance() -> None:
    assert figures() == SOUND
    assert flags(SOUND) == []
    refuse_hopeless(SOUND, "x")


def test_what_the_alignment_lacks() -> None:
    pairs = Alignment(
        np.array([*(f"s{i}" for i in range(80)), *[""] * 40]),
        np.array([*(f"p{i}" for i in range(60)), *[""] * 20, *(f"p{i}" for i in range(60, 100))]),
    )
    found = figures(pairs=pairs)
    assert (found.match_ratio, found.deletion_share, found.insertion_share) == (0.5, 0.25, 0.4)
    refuse_hopeless(found, "x")  # half is enough, as published
    assert flags(found) == ["low_alignment_match_ratio"]
    with pytest.raises(InputError, match="49% of its alignment's lines are matches") as caught:
        refuse_hopeless(replace(found, match_ratio=0.49), "x")
    assert caught.value.code == "low_alignment_match_ratio"


def test_wrong_pitches() -> None:
    pitch = performance().notes["pitch"].copy()
    pitch[:5] += 1
    assert figures(changed(pitch=pitch)).wrong_pitch_share == 0.05
    assert flags(figures(changed(pitch=pitch))) == ["pitches_differ"]
    with pytest.raises(InputError) as caught:
        refuse_hopeless(figures(changed(pitch=performance().notes["pitch"] + 12)), "x")
    assert caught.value.code == "pitches_differ"


def test_the_order_of_onsets() -> None:
    swapped = performance().notes["onset_sec"].copy()
    swapped[10], swapped[11] = swapped[11], swapped[10]
    assert figures(changed(onset_sec=swapped)).order_violations == 0.01
    together = performance().notes["onset_sec"].copy()
    together[11] = together[10] - 0.04  # nearly at once, the later note first
    assert figures(changed(onset_sec=together)).order_violations == 0.0
    backwards = figures(changed(onset_sec=performance().notes["onset_sec"][::-1]))
    assert backwards.order_violations == 0.99
    with pytest.raises(InputError) as caught:
        refuse_hopeless(backwards, "x")
    assert caught.value.code == "alignment_out_of_order"


def test_jumps_of_tempo() -> None:
    onsets = performance().notes["onset_sec"].copy()
    onsets[50:] += 10  # a pause: one beat period of 10.5 s beside those of 0.5 s
    assert figures(changed(onset_sec=onsets)).tempo_outliers == 0.01
    onsets = np.cumsum(np.where(np.arange(N) % 5 == 4, 2.1, 0.5))
    found = figures(changed(onset_sec=onsets))
    assert found.tempo_outliers == 0.2
    assert "tempo_jumps" in flags(found)
    refuse_hopeless(found, "x")


def test_keys_pedal_velocities_and_length() -> None:
    keydown = np.full(N, 0.5)
    keydown[3] = 30.0
    stuck = figures(changed(keydown_sec=keydown))
    assert stuck.stuck_keys == 1
    assert flags(stuck) == ["stuck_keys"]
    none = figures(replace(performance(), pedal=np.zeros((0, 2))))
    assert (none.pedal_events, none.pedal_down_share) == (0, 0.0)
    assert flags(none) == ["no_pedal"]
    down = figures(replace(performance(), pedal=np.array([[0.0, 127], [49.99, 0]])))
    assert down.pedal_down_share == pytest.approx(0.9998)
    assert flags(down) == ["pedal_stuck"]
    flat = figures(changed(velocity=64))
    assert flat.velocity_sd == 0.0
    assert flags(flat) == ["constant_velocity"]
    assert figures(changed(onset_sec=10 + np.arange(N))).seconds == 99.5


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_aligned_the_figures_are_finite_and_shares_are_shares(data: st.DataObject) -> None:
    n, m = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    times = st.floats(0, 100, width=32)
    played = performance(m)
    played.notes["onset_sec"] = data.draw(st.lists(times, min_size=m, max_size=m))
    played.notes["pitch"] = data.draw(st.lists(st.integers(0, 127), min_size=m, max_size=m))
    ids = st.tuples(
        st.sampled_from(["", *(f"s{i}" for i in range(n + 2))]), st.sampled_from(["", *(f"p{i}" for i in range(m + 2))])
    )
    pairs = [("s0", "p0"), *data.draw(st.lists(ids, max_size=20))]
    aligned = Alignment(np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))
    try:
        found = figures(played, aligned, score(n))
    except InputError:
        return
    values = row(found)
    assert values.keys() == columns().keys()
    assert all(type(values[name]) is kind for name, kind in columns().items())
    assert all(np.isfinite(value) and value >= 0 for value in values.values() if not isinstance(value, str))
    assert all(values[f.name] <= 1 for f in fields(Quality) if f.name.endswith(("share", "ratio", "violations")))


def test_bounds_flag_before_they_refuse() -> None:
    for bound in BOUNDS:
        assert bound.figure in {f.name for f in fields(Quality)}
        if bound.hopeless is not None:
            assert (bound.hopeless > bound.doubtful) == bound.above
    assert len({bound.code for bound in BOUNDS}) == len(BOUNDS)


@pytest.mark.corpora
def test_vienna_is_without_a_flag(corpora_root: Path, sandbox: Sandbox) -> None:
    source = vienna(corpora_root / "vienna4x22")[3]
    piece, refused = encode_piece(source, sandbox, "none")
    assert refused == []
    assert piece is not None
    assert [p["flags"] for p in piece.performances] == [""] * 22
    assert min(p["match_ratio"] for p in piece.performances) > 0.94


@pytest.mark.corpora
def test_an_alignment_that_slipped_is_flagged_or_refused(corpora_root: Path, sandbox: Sandbox) -> None:
    """Flagged where people have checked the alignments, refused elsewhere."""
    source = {piece.key: piece for piece in asap(corpora_root / "asap-dataset")}["Schumann/Kreisleriana/2"]
    slipped = "Schumann/Kreisleriana/2/JohannsonP03.mid"
    piece, refused = encode_piece(source, sandbox, "none")
    assert piece is not None
    assert refused == []
    told = {p["key"]: p["flags"].split() for p in piece.performances}
    assert "low_alignment_match_ratio" in told[slipped]
    assert not any("low_alignment_match_ratio" in told[key] for key in told if key != slipped)
    piece, refused = encode_piece(replace(source, corpus="FOLDER"), sandbox, "none")
    assert [(item.performance, item.code) for item in refused] == [(slipped, "low_alignment_match_ratio")]
    assert piece is not None
    assert len(piece.performances) == 2


@pytest.mark.corpora
def test_only_robust_alignments_on_request(corpora_root: Path, sandbox: Sandbox) -> None:
    roots = CorpusRoots(corpora_root)
    marked = discover("ASAP", roots, robust_only=True)
    played = [performance for piece in marked for performance in piece.performances]
    assert sum(performance.robust for performance in played) == 1007 - 195
    assert all(p.robust for piece in discover("ASAP", roots) for p in piece.performances)
    found = check("ASAP", roots, robust_only=True)
    assert (found.performances, found.with_alignment, found.not_robust) == (1007, 809, 195)
    assert "alignment not robust: 195" in found.summary()
    source = next(piece for piece in marked if piece.key == "Schumann/Kreisleriana/2")
    piece, refused = encode_piece(source, sandbox, "none")
    kept = len(piece.performances) if piece else 0
    assert kept + len(refused) == len(source.performances)
    assert {item.code for item in refused} == {"alignment_not_robust"}
