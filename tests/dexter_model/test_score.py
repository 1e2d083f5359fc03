"""Scores of every format, as written and unfolded, against partitura's own note arrays, and their cache."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from musicxml_samples import MUSIC21, PARTITURA, attributes, direction, musicxml, note, scale

from dexter_model.digests import cache_dir
from dexter_model.errors import InputError
from dexter_model.notes import ARTICULATIONS, DYNAMICS, SCORE_NOTE, Score
from dexter_model.reading.score import cached_score, import_partitura, load_score

COLUMNS = ("onset_beat", "duration_beat", "onset_div", "duration_div", "pitch", "voice", "staff")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEXTER_CACHE_DIR", str(tmp_path / "cache"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def flags(score: Score, name: str) -> list[bool]:
    return list(score.notes["articulation"] & 1 << ARTICULATIONS.index(name) > 0)


def by_partitura(path: Path, *, unfold: bool) -> np.ndarray:
    partitura = import_partitura()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = partitura.load_musicxml(str(path), force_note_ids="keep")
        if unfold:
            score.parts = [partitura.score.unfold_part_maximal(part) for part in score.parts]
        return score.note_array(include_staff=True, include_grace_notes=True)


@pytest.mark.parametrize("unfold", [False, True])
@pytest.mark.parametrize(
    "name", ["joplin/maple_leaf_rag.mxl", "schumann_clara/polonaise_op1n1.mxl", "mozart/k155/movement2.mxl"]
)
def test_the_table_is_partituras_note_array(name: str, unfold: bool) -> None:
    expected = by_partitura(MUSIC21 / name, unfold=unfold)
    score = load_score(MUSIC21 / name, unfold=unfold)
    expected = expected[np.argsort(expected["id"])]
    notes = score.notes[np.argsort(score.note_id)]
    assert list(expected["id"]) == sorted(score.note_id)
    for column in COLUMNS:
        np.testing.assert_array_equal(notes[column], expected[column], column)
    np.testing.assert_array_equal(notes["grace"], expected["is_grace"].astype(bool))


def test_rows_are_in_score_order_and_ids_unique() -> None:
    score = load_score(MUSIC21 / "mozart/k155/movement2.mxl", unfold=True)
    keys = list(zip(score.notes["onset_div"].tolist(), score.notes["pitch"].tolist(), strict=True))
    assert keys == sorted(keys)
    assert len(set(score.note_id)) == len(keys)
    assert {name.split("_")[0] for name in score.note_id} == {"P00", "P01", "P02", "P03"}


def test_unfolding_plays_both_endings_and_cuts_ties_at_their_edges(tmp_path: Path) -> None:
    forward = '<barline location="left"><repeat direction="forward"/></barline>'
    backward = '<repeat direction="backward"/>'
    opened = '<barline location="left"><ending number="{}" type="start"/></barline>'
    closed = '<barline location="right"><ending number="{}" type="stop"/>{}</barline>'
    measures = [
        attributes(1) + forward + note("C", 4, 4, name="a", tie="start"),
        opened.format(1) + note("C", 4, 4, name="b", tie="stop") + closed.format(1, backward),
        opened.format(2) + note("E", 4, 4, name="c", tie="start") + closed.format(2, ""),
        note("E", 4, 4, name="d", tie="stop"),
    ]
    path = write(tmp_path / "repeats.musicxml", musicxml(measures))
    assert list(load_score(path).note_id) == ["a", "c"]
    score = load_score(path, unfold=True)
    expected = by_partitura(path, unfold=True)
    assert list(score.note_id) == list(expected["id"])
    assert score.notes["onset_div"].tolist() == expected["onset_div"].tolist()
    assert score.notes["duration_div"].tolist() == expected["duration_div"].tolist()
    assert list(score.note_id) == ["a-1", "b-1", "a-2", "c-1", "d-1"]


def test_a_score_without_repeats_unfolds_to_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "scale.musicxml", scale())
    written, unfolded = load_score(path), load_score(path, unfold=True)
    np.testing.assert_array_equal(written.notes, unfolded.notes)
    assert list(unfolded.note_id) == [f"{name}-1" for name in written.note_id]


def test_ids_that_tell_repetitions_apart_already_are_left_alone(tmp_path: Path) -> None:
    measure = attributes(1) + note("C", 4, 2, name="n1-1") + note("D", 4, 2, name="n2-1")
    path = write(tmp_path / "score.musicxml", musicxml([measure]))
    assert list(load_score(path, unfold=True).note_id) == ["n1-1", "n2-1"]


def test_ids_given_twice_become_unique(tmp_path: Path) -> None:
    measure = attributes(1) + "".join(note(step, 4, 1, name="n") for step in "CDEF")
    path = write(tmp_path / "score.musicxml", musicxml([measure]))
    assert list(load_score(path).note_id) == ["n", "n.2", "n.3", "n.4"]


def test_parts_of_different_divisions_share_one_unit(tmp_path: Path) -> None:
    halves = attributes(2) + note("C", 4, 4) + note("D", 4, 4)
    triplets = attributes(3) + "".join(note(step, 5, 4) for step in "EFG")
    notes = load_score(write(tmp_path / "score.musicxml", musicxml([halves], [triplets]))).notes
    assert notes["onset_div"].tolist() == [0, 0, 8, 12, 16]
    assert notes["duration_div"].tolist() == [12, 8, 8, 12, 8]
    np.testing.assert_allclose(notes["onset_beat"], [0, 0, 4 / 3, 2, 8 / 3], rtol=1e-6)


def test_metre_of_an_upbeat_and_of_a_bar_divided_by_a_repeat(tmp_path: Path) -> None:
    eighths = ["".join(note("C", 5, 1) for _ in range(count)) for count in (1, 6, 4, 2, 6)]
    eighths[0] = attributes(2, 6, 8) + eighths[0]
    notes = load_score(write(tmp_path / "score.musicxml", musicxml(eighths))).notes
    assert notes["onset_beat"][0] == -1
    assert notes["metrical_position"].tolist() == [5, *range(6), *range(4), 4, 5, *range(6)]
    assert set(notes["beats"].tolist()) == {6}
    assert set(notes["beat_type"].tolist()) == {8}


def test_dynamics_and_ramps_hold_at_every_note(tmp_path: Path) -> None:
    def quarter(before: str = "") -> str:
        return before + note("C", 4, 1)

    wedge = [direction(f'<wedge type="{kind}"/>') for kind in ("crescendo", "stop")]
    piano, forte, accent = (direction(f"<dynamics><{name}/></dynamics>") for name in ("p", "ffff", "fp"))
    first = attributes(1) + quarter() + quarter(piano) + quarter(wedge[0]) + quarter()
    second = quarter(wedge[1] + forte) + quarter(direction("<words>dim.</words>")) + quarter() + quarter(accent)
    notes = load_score(write(tmp_path / "score.musicxml", musicxml([first, second]))).notes
    assert [DYNAMICS[level] for level in notes["dynamic"]] == ["none", "p", "p", "p", "fff", "fff", "fff", "p"]
    assert notes["ramp"].tolist() == [0, 0, 1, 1, 0, -1, -1, 0]


def test_articulations_fermatas_slurs_and_grace_notes(tmp_path: Path) -> None:
    def marked(*names: str) -> str:
        return f"<articulations>{''.join(f'<{name}/>' for name in names)}</articulations>"

    measure = attributes(1) + (
        note("D", 4, 0)
        + note("C", 4, 1, marked("staccato", "accent"))
        + note("E", 4, 1, '<slur type="start" number="1"/>')
        + note("F", 4, 1, '<slur type="stop" number="1"/>')
        + note("G", 4, 1, "<fermata/>")
    )
    score = load_score(write(tmp_path / "score.musicxml", musicxml([measure])))
    assert score.notes["grace"].tolist() == [False, True, False, False, False]
    assert score.notes["duration_beat"].tolist() == [1, 0, 1, 1, 1]
    assert flags(score, "staccato") == flags(score, "accent") == [True, False, False, False, False]
    assert flags(score, "slur") == [False, False, True, True, False]
    assert flags(score, "fermata") == [False, False, False, False, True]
    assert not any(flags(score, "tenuto"))


@pytest.mark.parametrize("suffix", ["musicxml", "mei", "krn", "mid"])
def test_every_format_gives_the_same_chord(suffix: str) -> None:
    score = load_score(PARTITURA / f"score_example.{suffix}")
    assert score.notes.dtype == SCORE_NOTE
    assert score.notes["pitch"].tolist() == [69, 72, 76]
    assert score.notes["onset_beat"].tolist() == [0, 2, 2]
    assert score.notes["duration_beat"].tolist() == [4, 2, 2]


def test_kern_with_two_spines(tmp_path: Path) -> None:
    left, right = ("**kern", "*M4/4", "=1", "4C", "4D", "2E", "=", "*-"), ("**kern", "*M4/4", "=1", "4cc", "4dd", "2ee")
    lines = [f"{a}\t{b}" for a, b in zip(left, (*right, "=", "*-"), strict=True)]
    score = load_score(write(tmp_path / "score.krn", "\n".join(lines) + "\n"))
    assert score.notes["pitch"].tolist() == [48, 72, 50, 74, 52, 76]
    assert score.notes["onset_beat"].tolist() == [0, 0, 1, 1, 2, 2]


def test_changing_divisions_are_an_error(tmp_path: Path) -> None:
    path = write(
        tmp_path / "score.musicxml", musicxml([attributes(1) + note("C", 4, 4), attributes(2) + note("D", 4, 8)])
    )
    with pytest.raises(InputError, match="divisions") as caught:
        load_score(path)
    assert caught.value.code == "score_unreadable"


@pytest.mark.usefixtures("empty_cache")
def test_a_score_read_before_needs_no_partitura(tmp_path: Path) -> None:
    path = write(tmp_path / "score.musicxml", scale())
    assert cached_score(path) is None
    score = load_score(path)
    program = (
        "import sys; from dexter_model.reading.score import load_score;"
        f"print(*load_score({str(path)!r}).note_id); sys.exit('partitura' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.split() == list(score.note_id)


@pytest.mark.usefixtures("empty_cache")
def test_the_cache_knows_a_changed_file_another_format_and_unfolding(tmp_path: Path) -> None:
    path = write(tmp_path / "score.musicxml", scale())
    assert len(load_score(path).notes) == 8
    assert cached_score(path, unfold=True) is None
    assert cached_score(write(tmp_path / "score.mei", scale())) is None
    write(path, musicxml([attributes(1) + note("C", 4, 4)]))
    assert cached_score(path) is None
    assert len(load_score(path).notes) == 1


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nothing", b"\x93NUMPY"])
def test_a_damaged_cache_file_is_read_again_and_rewritten(tmp_path: Path, damage: bytes) -> None:
    path = write(tmp_path / "score.musicxml", scale())
    score = load_score(path)
    (file,) = (cache_dir() / "scores").iterdir()
    file.write_bytes(damage)
    assert cached_score(path) is None
    np.testing.assert_array_equal(load_score(path).notes, score.notes)
    assert cached_score(path) is not None


@pytest.mark.corpora
@pytest.mark.parametrize("piece", ["Haydn/Keyboard_Sonatas/31-1", "Mozart/Piano_Sonatas/11-3", "Schumann/Arabeske"])
def test_asap_alignments_name_notes_of_the_unfolded_score(corpora_root: Path, piece: str) -> None:
    folder = corpora_root / "asap-dataset" / piece
    score = load_score(folder / "xml_score.musicxml", unfold=True)
    for table in folder.glob("*_note_alignments/note_alignment.tsv"):
        names = [line.split("\t")[0] for line in table.read_text().splitlines()[1:]]
        assert np.isin([name for name in names if name != "insertion"], score.note_id).mean() > 0.95


@pytest.mark.corpora
def test_vienna_scores_and_their_match_files_agree(corpora_root: Path) -> None:
    folder = corpora_root / "vienna4x22"
    written = load_score(folder / "musicxml" / "Schubert_D783_no15.musicxml", unfold=True)
    matched = load_score(folder / "match" / "Schubert_D783_no15_p01.match")
    assert set(matched.note_id) == set(written.note_id)
    np.testing.assert_array_equal(matched.notes["onset_beat"], written.notes["onset_beat"])
