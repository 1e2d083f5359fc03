"""Match files: the same performance and alignment as partitura reads, without partitura."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from dexter_model.errors import InputError
from dexter_model.reading import match
from dexter_model.reading.match import load_match

HEAD = "info(matchFileVersion,1.0.0).\ninfo(midiClockUnits,480).\ninfo(midiClockRate,500000).\n"
OLD_HEAD = HEAD.replace("1.0.0", "5.0")


def snote(score_id: str, attributes: str = "v1,staff1") -> str:
    return f"snote({score_id},[C,n],4,1:1,0,1/4,0.0000,1.0000,[{attributes}])"


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file must be read without partitura's help."""
    monkeypatch.delattr(match, "_with_partitura")


def write(path: Path, *lines: str, head: str = HEAD) -> Path:
    path.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def assert_as_partitura(path: Path) -> None:
    import partitura

    theirs, pairs = partitura.load_match(str(path), quiet=True)
    performance, alignment = load_match(path)
    expected = theirs[0].note_array()
    assert performance.note_id.tolist() == expected["id"].tolist()
    for column in ("onset_sec", "duration_sec", "pitch", "velocity"):
        np.testing.assert_array_equal(performance.notes[column], expected[column], err_msg=column)
    pedal = [(c["time"], c["value"]) for c in theirs[0].controls if c["number"] == 64]
    assert performance.pedal.tolist() == [list(event) for event in sorted(pedal, key=lambda event: event[0])]
    ours = list(zip(alignment.score_id.tolist(), alignment.performance_id.tolist(), strict=True))
    assert ours == [(pair.get("score_id", ""), pair.get("performance_id", "")) for pair in pairs]


@pytest.mark.usefixtures("fast")
def test_the_old_version_reads_as_in_partitura() -> None:
    with resources.as_file(resources.files("parangonar") / "assets" / "mozart_k265_var1.match") as path:
        assert_as_partitura(path)


@pytest.mark.corpora
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "key",
    [
        "vienna4x22/match/Chopin_op10_no3_p01.match",
        "vienna4x22/match/Mozart_K331_1st-mov_p17.match",
        "asap-dataset/Schumann/Toccata/Dulu03.match",  # version 5.0
        "asap-dataset/Haydn/Keyboard_Sonatas/6-1/ChenC01.match",
    ],
)
def test_corpus_files_read_as_in_partitura(corpora_root: Path, key: str) -> None:
    assert_as_partitura(corpora_root / key)


@pytest.mark.usefixtures("fast")
def test_each_kind_of_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.match",
        "scoreprop(keySignature,E,0:1,0,-0.5000).",
        snote("n1") + "-note(n0,59,0,240,44,0,0).",
        snote("n1") + "-note(n0,59,0,240,44,0,0).",  # twice the same line
        snote("n2") + "-note(7,60,240,480,45,1,2).",  # an id without n
        snote("n3", "v1,fermata]weird[") + "-deletion.",
        snote("n4", "leftOutTied") + "-deletion.",
        "insertion-note(n9,61,480,720,46,0,0).",
        "insertion-note(n0,59,0,240,44,0,0).",  # played note of the first line
        "",
        "sustain(480,127).",
        "soft(480,127).",
        "sustain(960,0).",
    )
    performance, alignment = load_match(path)
    assert alignment.score_id.tolist() == ["n1", "n2", "n3", ""]
    assert alignment.performance_id.tolist() == ["n0", "n7", "", "n9"]
    assert performance.note_id.tolist() == ["n0", "n7", "n9"]
    assert performance.notes["pitch"].tolist() == [59, 60, 61]
    assert performance.notes["onset_sec"].tolist() == [0.0, 0.25, 0.5]
    assert performance.notes["keydown_sec"].tolist() == [0.25, 0.25, 0.25]
    assert performance.notes["duration_sec"].tolist() == [0.25, 0.25, 0.5]  # the pedal comes down after the second
    assert performance.pedal.tolist() == [[0.5, 127.0], [1.0, 0.0]]
    assert_as_partitura(path)


@pytest.mark.usefixtures("fast")
def test_spelled_pitches_of_old_versions(tmp_path: Path) -> None:
    spelled = ["[C,n],-1", "[c,n],4", "[C,b],4", "[B,x],4", "[E,##],4", "[B,bb],3"]
    lines = [f"{snote(f'n{i}')}-note(n{i},{pitch},{i},{i + 1},{i + 1},9)." for i, pitch in enumerate(spelled)]
    performance, _ = load_match(write(tmp_path / "a.match", *lines, head=OLD_HEAD))
    assert performance.notes["pitch"].tolist() == [0, 60, 59, 73, 66, 57]


@pytest.mark.usefixtures("fast")
def test_a_played_note_is_read_whatever_its_score_note_says(tmp_path: Path) -> None:
    # Lines like this one occur in ASAP; partitura cannot interpret the duration and drops the note.
    line = "snote(n55-1,[B,b],3,6:1,1/10,-1/28,8.388671875,8.25,[])-note(n48,[B,b],3,4551,4599,4599,68)."
    performance, alignment = load_match(write(tmp_path / "a.match", line, head=OLD_HEAD))
    assert (performance.note_id.tolist(), alignment.score_id.tolist()) == (["n48"], ["n55-1"])


def test_other_kinds_of_line_are_left_to_partitura(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.match",
        snote("n1") + "-note(n0,59,0,240,44,0,0).",
        "ornament(n1,trill)-note(n1,60,240,480,45,0,0).",
        snote("n2") + "-deletion.",
        "sustain(0,127).",
    )
    performance, alignment = load_match(path)
    assert performance.note_id.tolist() == ["n0"]
    assert performance.notes["duration_sec"].tolist() == [1.25]  # a second after the end
    assert alignment.score_id.tolist() == ["n1", "n2"]
    assert alignment.performance_id.tolist() == ["n0", ""]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("", "no line"),
        ("info(matchFileVersion,1.0.0).\n", "midiClockRate"),
        ("info(matchFileVersion,9.9.9).\n", "no line"),
        (HEAD + snote("n1") + "-deletion.\n", "no played note"),
        (HEAD[:30] + snote("n1") + "-note(n0,59,0,240,44,0,0).\n", "midiClockRate"),
        (HEAD + snote("n1") + "-note(n0,59,240,0,44,0,0).\n", "ends before"),
        (HEAD + snote("n1") + "-note(n0,159,0,240,44,0,0).\n", "0 to 127"),
        (HEAD + snote("n1") + "-note(n0,59,0,999999999999,44,0,0).\n", "hours"),
        (HEAD + snote("n1") + "-note(n0,59,0,zero,44,0,0).\n", "partitura cannot read it"),
    ],
)
def test_hostile_files_are_refused_with_their_reason(tmp_path: Path, lines: str, reason: str) -> None:
    path = tmp_path / "hostile.match"
    path.write_text(lines)
    with pytest.raises(InputError, match=reason) as caught:
        load_match(path)
    assert (caught.value.code, caught.value.path) == ("performance_unreadable", str(path))


def test_binary_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.match").write_bytes(bytes(range(256)))
    for name in ("binary.match", "missing.match"):
        with pytest.raises(InputError):
            load_match(tmp_path / name)


def test_a_line_that_would_take_seconds_is_refused(tmp_path: Path) -> None:
    played = f"{snote('n1')}-note(0,60,0,400,60,0,0)."
    for hostile in (f"snote(n2,{'[' * 200_000}", "snote(n2," + "[]" * 100_000, "x" * 200_000):
        with pytest.raises(InputError, match="more than 2048 characters") as caught:
            load_match(write(tmp_path / "hostile.match", played, hostile))
        assert caught.value.code == "performance_unreadable"
