"""Performances without scores: MIDI files paired as pretty_midi does, match files, scores; hostile files refused."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from midi_files import Timed, off, on, program, sustain, tempo, write
from musicxml_samples import attributes, direction, musicxml, note

from dexter_model.errors import InputError
from dexter_model.notes import RECORDED_NOTE
from dexter_model.reading.recording import MAX_BEATS, load_recording
from dexter_model.reading.sandbox import Sandbox
from dexter_model.reading.score import load_score


def spans(notes: np.ndarray, end: str = "offset_sec") -> list[tuple[int, float, float]]:
    return [(int(n["pitch"]), round(float(n["onset_sec"]), 6), round(float(n[end]), 6)) for n in notes]


def assert_as_pretty_midi(path: Path) -> None:
    theirs = [
        (n.pitch, n.velocity, instrument.program, instrument.is_drum, n.start, n.end)
        for instrument in pretty_midi.PrettyMIDI(str(path)).instruments
        for n in instrument.notes
    ]
    ours = np.zeros(0, RECORDED_NOTE)
    with contextlib.nullcontext() if theirs else pytest.raises(InputError, match="no note"):
        ours = load_recording(path)
    names = ("pitch", "velocity", "program", "channel", "onset_sec", "offset_sec")
    found = [(*row[:3], row[3] == 9, *row[4:]) for row in ours[list(names)].tolist()]
    expected = np.array(sorted(theirs), float).reshape(-1, 6)
    np.testing.assert_allclose(np.array(sorted(found), float).reshape(-1, 6), expected, rtol=0, atol=1e-9)


# -- MIDI


def test_a_note_off_ends_all_notes_of_its_key_that_began_before(tmp_path: Path) -> None:
    messages = [on(0, 60, 10), on(240, 60, 20), off(480, 60), off(500, 60), on(700, 62), off(700, 62), on(900, 64)]
    notes = load_recording(write(tmp_path / "a.mid", messages))
    assert spans(notes) == [(60, 0.0, 0.5), (60, 0.25, 0.5)]
    assert notes["velocity"].tolist() == [10, 20]
    assert_as_pretty_midi(tmp_path / "a.mid")


def test_a_note_that_begins_where_the_last_of_its_key_ends_sounds_on(tmp_path: Path) -> None:
    messages = [on(0, 60), on(480, 60), off(480, 60), on(960, 60), off(960, 60), off(1440, 60)]
    notes = load_recording(write(tmp_path / "a.mid", messages))
    assert spans(notes) == [(60, 0.0, 0.5), (60, 0.5, 1.0), (60, 1.0, 1.5)]
    assert_as_pretty_midi(tmp_path / "a.mid")


def test_times_follow_the_tempo_and_beats_the_ticks(tmp_path: Path) -> None:
    tempos = [tempo(0, 600_000), tempo(480, 300_000)]
    notes = load_recording(write(tmp_path / "a.mid", tempos, [on(0, 60), off(480, 60), on(960, 60), off(1440, 60)]))
    assert spans(notes) == [(60, 0.0, 0.6), (60, 0.9, 1.2)]
    assert notes["onset_beat"].tolist() == [0, 2]
    assert notes["offset_beat"].tolist() == [1, 3]


def test_programmes_channels_and_tracks_are_kept(tmp_path: Path) -> None:
    first = [program(0, 24), on(0, 60), program(240, 40), off(480, 60), on(480, 62, 64, 9), off(960, 62, 9)]
    second = [program(0, 5, 3), on(0, 64, 64, 3), off(480, 64, 3), on(480, 65), off(960, 65)]
    notes = load_recording(write(tmp_path / "a.mid", [tempo(0, 500_000)], first, second))
    rows = {int(n["pitch"]): (int(n["program"]), int(n["channel"]), int(n["track"])) for n in notes}
    assert rows == {60: (40, 0, 1), 62: (0, 9, 1), 64: (5, 3, 2), 65: (0, 0, 2)}
    assert_as_pretty_midi(tmp_path / "a.mid")


def test_each_track_and_channel_has_its_own_pedal_and_drums_have_none(tmp_path: Path) -> None:
    first = [sustain(0, 64), on(0, 60), off(480, 60), on(480, 61, 64, 1), off(960, 61, 1), sustain(1440, 63)]
    second = [sustain(0, 127, 9), on(0, 36, 64, 9), off(480, 36, 9), on(0, 62), off(480, 62)]
    notes = load_recording(write(tmp_path / "a.mid", first, sorted(second, key=lambda m: m[0])))
    assert {row[0]: row[2] for row in spans(notes, "sustained_sec")} == {60: 1.5, 61: 1.0, 36: 0.5, 62: 0.5}


def test_the_pedal_cuts_at_the_next_onset_and_holds_to_the_last_event_of_all(tmp_path: Path) -> None:
    held = [sustain(0, 127), on(0, 60), off(240, 60), on(480, 60), off(600, 60), on(480, 62, 1), on(480, 62, 2)]
    held += [off(720, 62)]
    other = [on(0, 70, 64, 1), off(1920, 70, 1)]
    notes = load_recording(write(tmp_path / "a.mid", sorted(held, key=lambda m: m[0]), other))
    by_pitch = [row for row in spans(notes, "sustained_sec") if row[0] == 60]
    assert by_pitch == [(60, 0.0, 0.5), (60, 0.5, 2.0)]
    twins = notes[notes["pitch"] == 62]
    assert np.isnan(twins["sustained_sec"]).tolist() == [True, False]
    assert twins["velocity"].tolist() == [1, 2]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["on", "off", "program"]),
        st.integers(0, 2),
        st.integers(0, 1),
        st.sampled_from([0, 0, 0, 1, 7]),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tracks=st.lists(EVENTS, min_size=1, max_size=3))
def test_any_order_of_messages_is_paired_as_pretty_midi_does(
    tracks: list[list[tuple[str, int, int, int]]], tmp_path: Path
) -> None:
    written = []
    for events in tracks:
        now, messages = 0, list[Timed]()
        for kind, number, channel, wait in events:
            now += wait
            if kind == "on":
                messages.append(on(now, 60 + number, 1 + len(messages), channel))
            elif kind == "off":
                messages.append(off(now, 60 + number, channel))
            else:
                messages.append(program(now, number, channel))
        written.append(messages)
    assert_as_pretty_midi(write(tmp_path / "a.mid", *written))


@pytest.mark.corpora
def test_real_files_are_paired_as_pretty_midi_does_and_match_files_hold_the_same(corpora_root: Path) -> None:
    vienna = corpora_root / "vienna4x22"
    for path in sorted((vienna / "midi").glob("*_p0[17].mid")):
        assert_as_pretty_midi(path)
    played = load_recording(vienna / "midi" / "Chopin_op38_p01.mid")
    matched = load_recording(vienna / "match" / "Chopin_op38_p01.match")
    for name in RECORDED_NOTE.names or ():
        np.testing.assert_allclose(played[name], matched[name], atol=2e-5, err_msg=name)


@pytest.mark.corpora
def test_every_performance_of_asap_is_read(corpora_root: Path) -> None:
    paths = [path for path in (corpora_root / "asap-dataset").glob("*/*/**/*.mid") if path.name != "midi_score.mid"]
    for path in sorted(paths)[::40]:
        notes = load_recording(path)
        assert len(notes) > 50
        assert (np.diff(notes["onset_sec"]) >= 0).all()
        kept = ~np.isnan(notes["sustained_sec"])
        assert (notes["sustained_sec"][kept] > notes["onset_sec"][kept]).all()


# -- scores


def test_a_score_is_played_at_its_tempo_and_loudness_without_grace_notes(tmp_path: Path) -> None:
    path = tmp_path / "a.musicxml"
    grace = "<note><grace/><pitch><step>G</step><octave>4</octave></pitch><voice>1</voice></note>"
    marked = "<metronome><beat-unit>quarter</beat-unit><per-minute>60</per-minute></metronome>"
    slow = f'<direction><direction-type>{marked}</direction-type><sound tempo="60"/></direction>'
    bars = [attributes(2, 3, 8) + note("C", 4, 1) + note("D", 4, 1) + note("E", 4, 1)]
    bars += [slow + direction("<dynamics><ff/></dynamics>") + grace + note("F", 4, 3)]
    path.write_text(musicxml(bars))
    notes = load_recording(path)
    assert spans(notes) == [(60, 0.0, 0.25), (62, 0.25, 0.5), (64, 0.5, 0.75), (65, 0.75, 2.25)]
    assert notes["onset_beat"].tolist() == [0, 0.5, 1, 1.5]
    assert notes["velocity"].tolist() == [64, 64, 64, 112]
    assert not notes["program"].any()


@pytest.mark.corpora
def test_beats_of_real_scores_are_quarter_notes(corpora_root: Path) -> None:
    for name in ("Chopin_op38", "Schubert_D783_no15"):
        path = corpora_root / "vienna4x22" / "musicxml" / f"{name}.musicxml"
        notes, score = load_recording(path), load_score(path).notes
        same_bar = score["beat_type"] == score["beat_type"][0]
        assert same_bar.all()
        quarters = np.sort(score["onset_beat"][score["duration_div"] > 0] * 4.0 / score["beat_type"][0])
        np.testing.assert_allclose(np.diff(notes["onset_beat"]), np.diff(quarters), atol=1e-3)


# -- what is no performance


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(timeout=60) as sandbox:
        yield sandbox


def midi_bytes(track: bytes, tpq: int = 480) -> bytes:
    header = b"MThd" + (6).to_bytes(4) + (0).to_bytes(2) + (1).to_bytes(2) + tpq.to_bytes(2)
    return header + b"MTrk" + len(track).to_bytes(4) + track


NOTE = b"\x00\x90\x3c\x40\x60\x80\x3c\x40"
ONE_DAY = b"\xff\xff\xff\x7f"
BAD: dict[str, tuple[bytes, str]] = {
    "empty.mid": (b"", "performance_unreadable"),
    "text.mid": (b"no music", "performance_unreadable"),
    "silent.mid": (midi_bytes(b"\x00\xff\x2f\x00"), "no_notes"),
    "hanging.mid": (midi_bytes(b"\x00\x90\x3c\x40"), "no_notes"),
    "truncated.mid": (midi_bytes(NOTE * 9)[:40], "performance_unreadable"),
    "bytes.mid": (midi_bytes(b"\x00\x90\xbc\x40\x60\x80\xbc\x40"), "performance_unreadable"),
    "infinite.mid": (midi_bytes(b"\x00\xff\x51\x03\x00\x00\x00" + NOTE), "performance_unreadable"),
    "endless.mid": (midi_bytes(NOTE + ONE_DAY + NOTE[1:], tpq=1), "performance_unreadable"),
    "slow.mid": (
        midi_bytes(b"\x00\xff\x51\x03\xff\xff\xff" + NOTE + b"\xff\xff\x7f" + NOTE[1:], 24),
        "performance_unreadable",
    ),
    "beats.mid": (
        midi_bytes(b"\x00\xff\x51\x03\x00\x00\x01" + b"\x83\xff\xff\x7f" + NOTE[1:], 1),
        "performance_unreadable",
    ),
    "broken.match": (b"info(matchFileVersion,5.0).\nsnote(\n", "performance_unreadable"),
    "page.xml": (b"<html/>", "score_unreadable"),
    "sound.wav": (b"RIFF", "score_unreadable"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_performance_gives_one_clear_error(name: str, tmp_path: Path, sandbox: Sandbox) -> None:
    content, code = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        sandbox.call(load_recording, str(tmp_path / name))
    assert caught.value.code == code
    assert caught.value.path == str(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("a.mid", "a.match", "a.tfrecord#0", "a.tfrecord"):
        with pytest.raises(InputError, match="No such file"):
            load_recording(tmp_path / name)


def test_many_tracks_and_channels_cost_little(tmp_path: Path) -> None:
    tracks = [[sustain(0, 127), on(0, 60), off(480, 60), sustain(960, 0)] for _ in range(300)]
    notes = load_recording(write(tmp_path / "a.mid", *tracks))
    assert len(notes) == 300
    assert (notes["sustained_sec"] == 1.0).all()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_a_sound_performance_or_one_error(data: st.DataObject, tmp_path: Path) -> None:
    body = bytearray(NOTE * 6 + b"\x00\xff\x51\x03\x07\xa1\x20" + b"\x00\xb0\x40\x7f" + b"\x00\xc0\x18" + NOTE * 3)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    content = midi_bytes(bytes(body), data.draw(st.sampled_from([1, 24, 480, 32767])))
    path = tmp_path / "a.mid"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    with contextlib.suppress(InputError):
        notes = load_recording(path)
        assert notes.dtype == RECORDED_NOTE
        assert len(notes)
        assert (np.diff(notes["onset_sec"]) >= 0).all()
        assert (notes["offset_sec"] >= notes["onset_sec"]).all()
        assert notes["offset_beat"].max() <= MAX_BEATS
        assert notes["pitch"].max() < 128
        assert not np.isinf(notes["sustained_sec"]).any()


SCORE = musicxml(
    [
        attributes(2, 3, 8) + direction("<dynamics><pp/></dynamics>") + note("C", 4, 1) + note("D", 4, 1),
        attributes(1, 2, 4) + direction("<words>Allegro</words>") + note("E", 4, 4),
    ]
)
SCORE_PARTS = re.split(r"(?<=>)|(?=<)", SCORE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_of_a_score_is_a_performance_or_one_error(
    sandbox: Sandbox, tmp_path: Path, data: st.DataObject
) -> None:
    parts = list(SCORE_PARTS)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(parts) - 1))
        parts[at] = data.draw(st.sampled_from(["", "0", "-1", "99999", "1e9", "nan", parts[at] * 2]))
    path = tmp_path / "a.musicxml"
    path.write_text("".join(parts))
    with contextlib.suppress(InputError):
        notes = sandbox.call(load_recording, str(path))
        assert (notes["offset_sec"] >= notes["onset_sec"]).all()
        assert (notes["sustained_sec"] == notes["offset_sec"]).all()


def test_reading_midi_imports_nothing_heavy(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mid", [on(0, 60), off(480, 60)])
    code = (
        "import sys; from dexter_model.reading.recording import load_recording\n"
        f"load_recording({str(path)!r})\n"
        "print({'torch', 'partitura', 'mido', 'pretty_midi', 'google.protobuf', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
