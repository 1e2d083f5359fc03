"""Performance MIDI: notes numbered, paired, timed and prolonged as partitura does; hostile files refused."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from midi_files import off, on, sustain, tempo, write

from dexter_model.errors import InputError
from dexter_model.notes import Performance
from dexter_model.reading.midi import load_midi


def sounding(performance: Performance) -> list[tuple[float, float]]:
    return [(float(n["onset_sec"]), round(float(n["duration_sec"]), 4)) for n in performance.notes]


def assert_as_partitura(path: Path) -> None:
    import partitura

    theirs = partitura.load_performance_midi(str(path))
    expected = theirs.note_array()
    ours = load_midi(path)
    assert sorted(ours.note_id.tolist()) == sorted(expected["id"].tolist())
    expected = expected[np.argsort(expected["id"])]
    notes = ours.notes[np.argsort(ours.note_id)]
    for column in ("onset_sec", "duration_sec", "pitch", "velocity", "channel"):
        np.testing.assert_array_equal(notes[column], expected[column], err_msg=column)
    pedal = sorted((c["time"], c["value"]) for part in theirs for c in part.controls if c["number"] == 64)
    assert sorted(map(tuple, ours.pedal.tolist())) == pedal


def test_a_restruck_key_begins_anew_and_stray_note_offs_end_nothing(tmp_path: Path) -> None:
    messages = [on(0, 60, 10), on(240, 60, 20), off(480, 60), off(500, 60), off(600, 61), on(700, 62), on(960, 60, 0)]
    performance = load_midi(write(tmp_path / "a.mid", messages))
    assert performance.note_id.tolist() == ["n0"]
    assert performance.notes["velocity"].tolist() == [20]
    assert sounding(performance) == [(0.25, 0.25)]
    assert_as_partitura(tmp_path / "a.mid")


def test_notes_are_numbered_by_onset_pitch_and_offset(tmp_path: Path) -> None:
    messages = [on(0, 64), on(0, 60), off(100, 60), off(100, 64), on(100, 60), off(200, 60)]
    performance = load_midi(write(tmp_path / "a.mid", messages))
    assert performance.notes["pitch"].tolist() == [60, 64, 60]
    assert performance.note_id.tolist() == ["n0", "n1", "n2"]


def test_times_follow_every_tempo_change(tmp_path: Path) -> None:
    tempos = [tempo(0, 600_000), tempo(480, 300_000)]
    performance = load_midi(write(tmp_path / "a.mid", tempos, [on(0, 60), off(480, 60), on(960, 60), off(1440, 60)]))
    assert sounding(performance) == [(0.0, 0.6), (pytest.approx(0.9), 0.3)]
    assert_as_partitura(tmp_path / "a.mid")


def test_the_pedal_prolongs_until_it_is_lifted_or_the_key_is_struck_again(tmp_path: Path) -> None:
    # A quarter note lasts 0.5 s. The pedal is down from 0.25 to 2 s; 64 itself is still up.
    pedal = [sustain(0, 64), sustain(240, 65), sustain(1920, 64), sustain(2000, 0)]
    keys = [on(0, 60), off(480, 60), on(960, 60), off(1200, 60), on(0, 62), off(120, 62), on(0, 64), off(2400, 64)]
    performance = load_midi(write(tmp_path / "a.mid", sorted(pedal + keys, key=lambda message: message[0])))
    by_pitch = {(int(n["pitch"]), float(n["onset_sec"])): float(n["duration_sec"]) for n in performance.notes}
    assert by_pitch[60, 0.0] == 1.0  # cut by the second 60
    assert by_pitch[60, 1.0] == 1.0  # until the pedal goes up
    assert by_pitch[62, 0.0] == 0.125  # the key went up before the pedal went down
    assert by_pitch[64, 0.0] == 2.5  # the key outlasts the pedal
    assert performance.notes["keydown_sec"].tolist() == [0.5, 0.125, 2.5, 0.25]
    assert performance.pedal[:, 1].tolist() == [64, 65, 64, 0]
    assert_as_partitura(tmp_path / "a.mid")


def test_a_pedal_never_lifted_holds_until_a_second_after_the_end(tmp_path: Path) -> None:
    performance = load_midi(
        write(tmp_path / "a.mid", [sustain(0, 127), on(0, 60), on(0, 70), off(480, 60), off(960, 70)])
    )
    assert sounding(performance) == [(0.0, 2.0), (0.0, 2.0)]
    assert_as_partitura(tmp_path / "a.mid")


def test_tracks_that_play_have_ids_and_pedals_of_their_own(tmp_path: Path) -> None:
    right = [sustain(0, 127), on(0, 60), off(480, 60), sustain(960, 0)]
    performance = load_midi(write(tmp_path / "a.mid", [tempo(0, 400_000)], right, [on(0, 48), off(480, 48)]))
    assert performance.note_id.tolist() == ["P01_n0", "P00_n0"]
    assert_as_partitura(tmp_path / "a.mid")


def messages(kind: str, **data: Any) -> st.SearchStrategy[tuple[int, mido.Message]]:
    return st.tuples(st.integers(0, 40), st.builds(mido.Message, st.just(kind), **data))


MESSAGES = st.one_of(
    messages("note_on", note=st.integers(60, 62), velocity=st.integers(0, 9)),
    messages("note_off", note=st.integers(60, 62)),
    messages("control_change", control=st.just(64), value=st.sampled_from([0, 64, 65, 127])),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MESSAGES, max_size=40), st.integers(1, 1000))
def test_any_stream_of_keys_and_pedals_reads_as_in_partitura(tmp_path: Path, drawn: list, tpq: int) -> None:
    # partitura sorts simultaneous pedal changes at random: here the pedal moves once a tick.
    moves = {tick: message for tick, message in drawn if message.type == "control_change"}
    keys = [message for message in drawn if message[1].type != "control_change"]
    stream = sorted([*keys, *moves.items(), on(50, 60), off(60, 60)], key=lambda message: message[0])
    assert_as_partitura(write(tmp_path / "a.mid", stream, tpq=tpq))


@pytest.mark.corpora
@pytest.mark.parametrize(
    "key",
    [
        "Bach/Italian_concerto/LeeN07.mid",  # six note-ons for a key that sounds already
        "Schumann/Toccata/Dulu03.mid",
        "Haydn/Keyboard_Sonatas/31-1/Masycheva01.mid",
    ],
)
def test_asap_files_read_as_in_partitura(corpora_root: Path, key: str) -> None:
    assert_as_partitura(corpora_root / "asap-dataset" / key)


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_midi(path)
    assert caught.value.code == "performance_unreadable"
    assert caught.value.path == str(path)
    return caught.value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not a MIDI file at all", "header"),
        (b"MThd\0\0\0\6\0\1\0\1\xe7\x28MTrk\0\0\0\0", "ticks a quarter"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", "no note"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60JUNK\0\0\0\4\0\xff\x2f\0", "no track"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\x40\x40\0", "no MIDI event"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\x90\xc0\x40", "above 127"),
        (b"MThd\0\0\0\6\0\1\0\1\0\1MTrk\0\0\0\x0b\0\x90\x40\x40\xff\xff\xff\x7f\x80\x40\x40", "hours"),
        (b"MThd\0\0\0\6\0\1\0\1\0\1MTrk\0\0\0\x05\0\xff\x01\xff\x7f", "middle of a track"),
    ],
)
def test_hostile_files_are_refused_with_their_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "hostile.mid"
    path.write_bytes(content)
    assert reason in refusal(path).reason


def test_files_too_large_or_missing_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "large.mid").open("wb") as file:
        file.truncate(1 << 32)
    assert "too large" in refusal(tmp_path / "large.mid").reason
    assert "No such file" in refusal(tmp_path / "missing.mid").reason
    assert "directory" in refusal(tmp_path).reason


def test_every_truncation_and_many_corruptions_read_or_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mid", [tempo(0, 400_000)], [sustain(0, 127), on(0, 60), off(480, 60)]).read_bytes()
    path = tmp_path / "b.mid"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)
    chance = random.Random(0)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(3):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            load_midi(path)


def test_readers_and_codec_leave_heavy_libraries_alone() -> None:
    program = (
        "import sys, dexter_model.reading.match, dexter_model.reading.midi, dexter_model.reading.alignment\n"
        "import dexter_model.codec.performance_codec, dexter_model.codec.files, dexter_model.codec.performance_midi\n"
        "print({'partitura', 'torch', 'scipy', 'symusic', 'prefect', 'ray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
