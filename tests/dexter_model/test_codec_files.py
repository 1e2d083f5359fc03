"""Codec files and performance MIDI: what is written reads back, the same bytes each time; what is broken is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dexter_model.codec.files import Codec, load_codec, save_codec
from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.errors import InputError
from dexter_model.notes import PERFORMED_NOTE, Performance
from dexter_model.reading.midi import load_midi

HALF_A_TICK = 0.5 / 20_000


def codec_of(size: int = 3) -> Codec:
    ids = np.array([f"n{i}" for i in range(size)])
    columns = np.linspace(0, 1, size * 5, dtype=np.float32).reshape(size, 5)
    return Codec(columns, np.arange(size * 4, dtype=np.int32).reshape(size, 4), np.arange(size) % 2 == 0, ids)


def performance_of(*notes: tuple[float, float, int], pedal: tuple[tuple[float, int], ...] = ()) -> Performance:
    """Notes of onset, key-down duration and pitch."""
    array = np.zeros(len(notes), PERFORMED_NOTE)
    array["onset_sec"], array["keydown_sec"], array["pitch"] = np.array(notes).T
    array["velocity"] = np.arange(len(notes)) % 127 + 1
    return Performance(np.array([f"x{i}" for i in range(len(notes))]), array, np.array(pedal, float).reshape(-1, 2))


def read_back(performance: Performance, folder: Path) -> Performance:
    write_performance_midi(performance, folder / "a.mid")
    return load_midi(folder / "a.mid")


def test_codec_files_read_back_and_have_equal_bytes(tmp_path: Path) -> None:
    codec = codec_of()
    save_codec(tmp_path / "new" / "a.npz", codec)
    save_codec(tmp_path / "b.npz", codec)
    assert (tmp_path / "new" / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = load_codec(tmp_path / "b.npz")
    for name in ("p_codec", "s_codec", "matched", "note_id"):
        np.testing.assert_array_equal(getattr(again, name), getattr(codec, name))
        assert getattr(again, name).dtype == getattr(codec, name).dtype


def broken(tmp_path: Path, content: bytes | dict[str, np.ndarray]) -> InputError:
    path = tmp_path / "broken.npz"
    if isinstance(content, dict):
        packed = io.BytesIO()
        np.savez(packed, **content)
        content = packed.getvalue()
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_codec(path)
    assert (caught.value.code, caught.value.path) == ("codec_unreadable", str(path))
    return caught.value


def test_broken_codec_files_are_refused(tmp_path: Path) -> None:
    good = vars(codec_of())
    save_codec(tmp_path / "good.npz", codec_of())
    whole = (tmp_path / "good.npz").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        broken(tmp_path, whole[:length])
    broken(tmp_path, b"no archive")
    broken(tmp_path, {name: good[name] for name in ("p_codec", "s_codec", "matched")})
    broken(tmp_path, good | {"note_id": np.array(["n0"])})
    broken(tmp_path, good | {"p_codec": good["p_codec"][:, :4]})
    broken(tmp_path, good | {"p_codec": np.full((3, 5), np.nan, np.float32)})
    broken(tmp_path, good | {"matched": np.zeros(3, int)})
    assert "no note" in broken(tmp_path, vars(codec_of(0))).reason


def test_pickles_and_bombs_are_refused_unread(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}] * 3, object)
    broken(tmp_path, pickle.dumps(objects))
    broken(tmp_path, vars(codec_of()) | {"note_id": objects})
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("p_codec.npy", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    assert "unpacks to more" in broken(tmp_path, bomb.getvalue()).reason


@pytest.mark.parametrize("length", [1 << 50, 1 << 62, 1 << 70, -1])
def test_headers_that_claim_more_than_any_memory_are_refused(tmp_path: Path, length: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, archive.open("p_codec.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (length, 5)})
    broken(tmp_path, packed.getvalue())


def test_damaged_and_odd_archives_are_refused(tmp_path: Path) -> None:
    save_codec(tmp_path / "good.npz", codec_of())
    whole = bytearray((tmp_path / "good.npz").read_bytes())
    start, directory = whole.index(b"p_codec.npy") + 60, whole.index(b"PK\x01\x02")
    broken(tmp_path, bytes(whole[:start] + b"\xff" * 9 + whole[start + 9 :]))
    whole[directory + 8] |= 1  # encrypted
    broken(tmp_path, bytes(whole))


def test_midi_reads_back_within_half_a_tick_with_equal_bytes(tmp_path: Path) -> None:
    notes = ((0.0123456, 0.5, 60), (0.0123456, 1.0, 64), (0.7654321, 0.075, 62), (470.1234567, 2.0, 61))
    performance = performance_of(*notes, pedal=((1.5, 127), (0.5, 30)))
    again = read_back(performance, tmp_path)
    first = (tmp_path / "a.mid").read_bytes()
    write_performance_midi(performance, tmp_path / "a.mid")
    assert (tmp_path / "a.mid").read_bytes() == first
    float32 = 1.6e-5  # half a step of float32 at 470 s
    np.testing.assert_allclose(again.notes["onset_sec"], performance.notes["onset_sec"], atol=HALF_A_TICK + float32)
    np.testing.assert_allclose(again.notes["keydown_sec"], performance.notes["keydown_sec"], atol=3 * HALF_A_TICK)
    assert again.notes["velocity"].tolist() == performance.notes["velocity"].tolist()
    assert again.notes["pitch"].tolist() == performance.notes["pitch"].tolist()
    np.testing.assert_allclose(again.pedal, [[0.5, 30], [1.5, 127], [472.1234567, 0]], atol=2 * HALF_A_TICK)


def test_other_readers_read_the_same(tmp_path: Path) -> None:
    performance = performance_of((0.1, 0.5, 60), (0.4, 1.0, 60), (0.4, 1.0, 64), pedal=((0.1, 5), (0.4, 90)))
    write_performance_midi(performance, tmp_path / "a.mid")
    piano = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments[0]
    keys = sorted((note.start, note.end, note.pitch, note.velocity) for note in piano.notes)
    np.testing.assert_allclose(keys, [(0.1, 0.4, 60, 1), (0.4, 1.4, 60, 2), (0.4, 1.4, 64, 3)], atol=2 * HALF_A_TICK)
    pedal = [(change.number, change.value, change.time) for change in piano.control_changes]
    np.testing.assert_allclose(pedal, [(64, 5, 0.1), (64, 90, 0.4), (64, 0, 1.4)], atol=HALF_A_TICK)


def test_a_note_never_swallows_the_next_of_its_pitch(tmp_path: Path) -> None:
    unisons = performance_of((0, 1, 60), (0, 2, 60), (0, 1, 60), (0.00001, 1, 60), (0.5, 1, 60), (0, 1, 61))
    again = read_back(unisons, tmp_path)
    of_60 = again.notes[again.notes["pitch"] == 60]
    assert len(again.notes) == 6
    assert of_60["velocity"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(of_60["onset_sec"], [0, 0.00005, 0.0001, 0.00015, 0.5], atol=1e-9)
    np.testing.assert_allclose(of_60["onset_sec"][:-1] + of_60["keydown_sec"][:-1], of_60["onset_sec"][1:], atol=1e-7)


@pytest.mark.parametrize("minutes", [7, 9, 20, 70])
def test_long_performances_stay_readable_at_a_coarser_resolution(tmp_path: Path, minutes: int) -> None:
    write_performance_midi(performance_of((0, 1, 60), (60 * minutes, 1, 60)), tmp_path / "a.mid")
    piano = pretty_midi.PrettyMIDI(str(tmp_path / "a.mid"))
    assert piano.instruments[0].notes[1].start == pytest.approx(60 * minutes, abs=minutes * HALF_A_TICK / 4)


def test_times_no_file_can_hold_are_cut(tmp_path: Path) -> None:
    write_performance_midi(performance_of((-1, 1, 60), (0, np.inf, 61), (1e30, 1, 62)), tmp_path / "a.mid")
    assert len(pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).instruments[0].notes) == 3


NOTE = st.tuples(st.floats(0, 2), st.floats(0, 1), st.integers(60, 62))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NOTE, min_size=1, max_size=40))
def test_every_note_reads_back(tmp_path: Path, notes: list[tuple[float, float, int]]) -> None:
    performance = performance_of(*notes)
    again = read_back(performance, tmp_path)
    assert sorted(again.notes["velocity"].tolist()) == sorted(performance.notes["velocity"].tolist())
    order, back = (np.lexsort((p.notes["onset_sec"], p.notes["pitch"])) for p in (performance, again))
    slack = HALF_A_TICK + 2 * HALF_A_TICK * len(notes)  # notes in one tick are set apart
    onsets = performance.notes["onset_sec"][order]
    np.testing.assert_allclose(again.notes["onset_sec"][back], onsets, rtol=0, atol=slack + 1e-6)
    assert (again.notes["keydown_sec"] > 0).all()
