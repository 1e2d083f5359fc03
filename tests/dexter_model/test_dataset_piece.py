from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dexter_model.corpora import features_csv
from dexter_model.corpora.layouts import folder, vienna
from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.dataset.piece import encode_piece, read_performance
from dexter_model.reading.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def match_file(path: Path, lines: list[str]) -> None:
    """A match file of notes a beat apart; a line is a note number, with ``x`` when the note is not played."""
    head = ["info(matchFileVersion,1.0.0).", "info(midiClockUnits,480).", "info(midiClockRate,500000)."]
    head += ["scoreprop(timeSignature,4/4,1:1,0,0.0000).", "scoreprop(keySignature,C,1:1,0,0.0000)."]
    body = []
    for line in lines:
        n = int(line.strip("x"))
        note = f"snote(n{n},[C,n],{n % 5 + 2},{n // 4 + 1}:{n % 4 + 1},0,1/4,{n:.4f},{n + 1:.4f},[v1,staff1])"
        played = f"note(n{n},{12 * (n % 5 + 3)},{480 * n},{480 * n + 400},{60 + n},0,0)"
        body.append(f"{note}-{'deletion' if 'x' in line else played}.")
    path.write_text("\n".join(head + body) + "\n")


def test_a_piece_is_a_rectangle_over_the_union_of_the_named_notes(tmp_path: Path, sandbox: Sandbox) -> None:
    match_file(tmp_path / "whole.match", [str(n) for n in range(12)])
    match_file(tmp_path / "part.match", ["1", "2", "3x", "4", "8", "9"])
    (tmp_path / "broken.match").write_text("nothing of the kind")
    played = tuple(
        PerformanceSource(name, str(tmp_path / name), None, "p")
        for name in ("whole.match", "part.match", "broken.match")
    )
    source = PieceSource("FOLDER", "key", "work", "c", "t", str(tmp_path / "whole.match"), played)
    piece, [refused] = encode_piece(source, sandbox)
    assert piece is not None
    assert piece.performance.shape == (2, 12, 5)
    assert np.isfinite(piece.performance).all()
    assert (np.diff(piece.score["onset_div"]) > 0).all()
    named = [str(n) in ("1", "2", "3", "4", "8", "9") for n in range(12)]
    assert piece.named.tolist() == [[True] * 12, named]
    assert piece.matched[1].tolist() == [name and n != 3 for n, name in enumerate(named)]
    unmatched = piece.performance[1][~piece.matched[1]]
    np.testing.assert_allclose(
        unmatched[:, 1:], np.tile(piece.performance[1][piece.matched[1], 1:].mean(0), (7, 1)), rtol=1e-5
    )
    beat_period = piece.performance[1, :, 0]
    assert beat_period[0] == beat_period[1]  # before the first matched note: that of the first
    assert (beat_period[[5, 6, 7]] == beat_period[4]).all()  # else that of the last before
    assert (refused.code, refused.performance) == ("performance_unreadable", "broken.match")
    assert len(refused.digest) == 64
    assert "Traceback" in refused.traceback
    assert "in load_match" in refused.traceback
    assert str(Path(__file__).parents[2]) not in refused.traceback
    assert str(tmp_path) not in refused.traceback


def test_without_score_or_alignment_every_performance_is_quarantined(tmp_path: Path, sandbox: Sandbox) -> None:
    match_file(tmp_path / "a.match", ["0", "1", "2"])
    (tmp_path / "b.mid").write_bytes(b"MThd")
    played = (
        PerformanceSource("a", str(tmp_path / "a.match"), None, "p"),
        PerformanceSource("b", str(tmp_path / "b.mid"), None, "p"),
    )
    piece, refused = encode_piece(PieceSource("C", "k", "w", "c", "t", None, played), sandbox)
    assert piece is None
    assert [item.code for item in refused] == ["missing_score", "missing_score"]
    score = str(tmp_path / "a.match")
    piece, refused = encode_piece(PieceSource("C", "k", "w", "c", "t", score, played), sandbox)
    assert [item.code for item in refused] == ["missing_alignment"]
    assert piece is not None
    assert piece.performances[0]["key"] == "a"


def test_an_unreadable_score_quarantines_its_performances(tmp_path: Path, sandbox: Sandbox) -> None:
    match_file(tmp_path / "s_1.match", ["0", "1", "2"])
    match_file(tmp_path / "s_2.match", ["0", "1", "2"])
    (tmp_path / "s.musicxml").write_text("<score-partwise><part>")
    [source] = folder(tmp_path)
    piece, refused = encode_piece(source, sandbox)
    assert piece is None
    assert [(item.performance, item.code) for item in refused] == [
        ("s_1.match", "score_unreadable"),
        ("s_2.match", "score_unreadable"),
    ]
    first, second = (item.traceback for item in refused)
    assert first == second
    assert "in load_score" in first
    assert "InputError: s.musicxml" in first
    assert str(tmp_path) not in first


def test_the_alignment_that_is_given_goes_before_the_match_files_own(tmp_path: Path) -> None:
    for name, lines in {"own.MATCH": ["0", "1", "2"], "other.match": ["1", "2x"]}.items():
        match_file(tmp_path / name, lines)
    (tmp_path / "other.tsv").write_text("xml_id\tmidi_id\nn2\tn0\nn0\tdeletion\n")
    own, other, tsv, midi = (str(tmp_path / name) for name in ("own.MATCH", "other.match", "other.tsv", "gone.mid"))
    names = {
        (own, None): (["n0", "n1", "n2"], ["n0", "n1", "n2"]),
        (own, tsv): (["n0", "n1", "n2"], ["n0", ""]),
        (own, other): (["n0", "n1", "n2"], ["n1", ""]),
        (midi, other): (["n1"], ["n1", ""]),  # its ids are those of its own notes
    }
    for (performance, alignment), (played, matched) in names.items():
        performed, pairs = read_performance(performance, alignment)
        assert performed.note_id.tolist() == played
        assert pairs.performance_id.tolist() == matched


REPEATED = """<?xml version="1.0"?><score-partwise version="3.1"><part-list><score-part id="P1"><part-name>P</part-name>
</score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>1</divisions><time><beats>3</beats>
<beat-type>4</beat-type></time></attributes>{notes}<barline location="right"><repeat direction="backward"/></barline>
</measure></part></score-partwise>"""
QUARTER = """<note id="n{n}"><pitch><step>C</step><octave>{octave}</octave></pitch><duration>1</duration>
<voice>1</voice></note>"""


def test_folded_and_unfolded_alignments_do_not_mix(tmp_path: Path, sandbox: Sandbox) -> None:
    notes = "".join(QUARTER.format(n=n, octave=n + 2) for n in range(3))
    (tmp_path / "s.musicxml").write_text(REPEATED.format(notes=notes))
    match_file(tmp_path / "s_folded.match", ["0", "1", "2"])
    match_file(tmp_path / "s_a.match", ["0", "1", "2"])
    unfolded = (tmp_path / "s_a.match").read_text()
    for n in range(3):
        unfolded = unfolded.replace(f"snote(n{n},", f"snote(n{n}-1,")
    for name in "ab":
        (tmp_path / f"s_{name}.match").write_text(unfolded)
    [source] = folder(tmp_path)
    piece, refused = encode_piece(source, sandbox)
    assert piece is not None
    assert piece.note_id.tolist() == ["n0-1", "n1-1", "n2-1"]
    assert [p["key"] for p in piece.performances] == ["s_a.match", "s_b.match"]
    assert [(item.performance, item.code) for item in refused] == [("s_folded.match", "unfolding_differs")]


FEATURES = "melody,articulation,rhythm_complexity,rhythm_stability,dissonance,tonal_stability,minorness"


def test_every_performance_tells_where_its_perceptual_features_come_from(tmp_path: Path, sandbox: Sandbox) -> None:
    for name in ("a", "b", "c"):
        match_file(tmp_path / f"s_{name}.match", ["0x", *map(str, range(1, 60))])
    (tmp_path / "s_a_cep_features.csv").write_text(f"frame_start_time,{FEATURES}\n15,1,2,3,4,5,6,7\n20,2,3,4,5,6,7,8\n")
    (tmp_path / "s_b_cep_features.csv").write_text("no table")
    paths = {name: str(tmp_path / f"s_{name}.match") for name in "abc"}
    played = tuple(
        PerformanceSource(f"s_{name}.match", path, None, name, features=features_csv(path))
        for name, path in paths.items()
    )
    source = PieceSource("FOLDER", "key", "work", "c", "t", paths["a"], played)
    piece, [refused] = encode_piece(source, sandbox, "csv")
    assert piece is not None
    assert [row["perceptual"] for row in piece.performances] == ["cep_csv", "estimate:symbolic-v1"]
    assert (refused.performance, refused.code) == ("s_b.match", "perceptual_unreadable")
    assert piece.frames[0] == 2
    np.testing.assert_array_equal(piece.perceptual[:2, 6], [7, 8])
    assert np.isnan(piece.perceptual_reference[:2]).all()
    first_heard = 0.5  # s: the first note is not played, and the clock starts at the second
    np.testing.assert_allclose(piece.frame_time[:2], np.array([15, 20]) - 7.487 - first_heard, atol=0.001)
    known = piece.perceptual_notes(delta=False)
    assert np.isfinite(known[0, :50]).all()
    assert np.isnan(known[0, 56:]).all()  # later than 15 s after the last of the corpus's frames
    assert np.isfinite(known[1]).all()
    assert np.isnan(piece.perceptual_notes(delta=True)[0]).all()
    assert np.isfinite(piece.perceptual_notes(delta=True)[1]).all()


def test_features_are_estimated_or_left_out(tmp_path: Path, sandbox: Sandbox) -> None:
    match_file(tmp_path / "s_a.match", [str(n) for n in range(60)])
    [source] = folder(tmp_path)
    estimated, _ = encode_piece(source, sandbox)
    without, _ = encode_piece(source, sandbox, "none")
    assert estimated is not None
    assert without is not None
    assert estimated.frames[0] == len(estimated.frame_time) > 0
    assert without.frames.tolist() == [0]
    assert without.performances[0]["perceptual"] == "none"
    assert np.isnan(without.perceptual_notes(delta=False)).all()
    assert estimated.digest() != without.digest()
    assert encode_piece(source, sandbox)[0].digest() == estimated.digest()  # type: ignore[union-attr]


@pytest.mark.corpora
def test_vienna_has_all_its_rows(corpora_root: Path, sandbox: Sandbox) -> None:
    encoded = [encode_piece(source, sandbox) for source in vienna(corpora_root / "vienna4x22")]
    assert [refused for _, refused in encoded] == [[], [], [], []]
    pieces = [piece for piece, _ in encoded if piece is not None]
    assert [len(piece.performances) for piece in pieces] == [22, 22, 22, 22]
    assert sum(int(piece.named.sum()) for piece in pieces) == 43_890
    assert all(np.isfinite(piece.performance).all() for piece in pieces)
