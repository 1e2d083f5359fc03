"""TFRecord files of NoteSequences: what Magenta's own package wrote is read as it reads it; damage is told."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dexter_model.errors import InputError
from dexter_model.reading import note_sequences
from dexter_model.reading.note_sequences import index, read_sequence
from dexter_model.reading.recording import load_recording

FILES = Path(__file__).parent / "note_sequences"
RECORDS = FILES / "sequences.tfrecord"
PACKED = FILES / "sequences.tfrecord.gz"


def expected(number: int, which: str) -> np.ndarray:
    """Rows of start, end, pitch, velocity, instrument, program, drums; sorted."""
    return np.array(sorted(json.loads((FILES / "sequences.json").read_text())[number][which]))


def rows(notes: np.ndarray, end: str) -> np.ndarray:
    columns = [notes["onset_sec"], notes[end], *(notes[name] for name in ("pitch", "velocity", "track", "program"))]
    table = np.column_stack([*columns, notes["channel"] == 9])[~np.isnan(notes[end])]
    return np.array(sorted(table.tolist()))


def frame(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    checksums = [struct.pack("<I", note_sequences._masked_crc(data)) for data in (length, message)]
    return length + checksums[0] + message + checksums[1]


def message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content


def double(number: int, value: float) -> bytes:
    return bytes([number << 3 | 1]) + struct.pack("<d", value)


NOTE = bytes([1 << 3, 60, 2 << 3, 80]) + double(4, 1.0)  # from 0 to 1 s


@pytest.mark.parametrize("path", [RECORDS, PACKED], ids=["plain", "packed"])
def test_notes_and_pedal_are_as_magenta_has_them(path: Path) -> None:
    assert len(index(path)) == 3
    for number in (0, 1):
        notes = load_recording(f"{path}#{number}")
        np.testing.assert_allclose(rows(notes, "offset_sec"), expected(number, "played"), atol=1e-12)
        np.testing.assert_allclose(rows(notes, "sustained_sec"), expected(number, "sustained"), atol=1e-12)
    assert len(expected(0, "sustained")) < len(expected(0, "played")) == 120  # some are dropped
    assert len(read_sequence(path, 2)[0]) == 0
    with pytest.raises(InputError, match="no note"):
        load_recording(f"{path}#2")


def test_beats_follow_the_tempos() -> None:
    notes = load_recording(f"{RECORDS}#0")  # 90 a minute to 2.5 s, then 132.5
    expected_beats = np.where(
        notes["onset_sec"] < 2.5, notes["onset_sec"] * 1.5, 3.75 + (notes["onset_sec"] - 2.5) * 132.5 / 60
    )
    np.testing.assert_allclose(notes["onset_beat"], expected_beats)
    assert load_recording(f"{RECORDS}#1")["offset_beat"].tolist() == [1, 2, 3, 4]


def test_records_are_read_in_any_order_and_again_when_the_file_changed(tmp_path: Path) -> None:
    for path in (RECORDS, PACKED):
        assert [len(read_sequence(path, number)[0]) for number in (2, 0, 1, 0)] == [0, 120, 4, 120]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frame(message(8, NOTE)))
    assert len(load_recording(f"{path}#0")) == 1
    path.write_bytes(frame(message(8, NOTE) * 2) * 2)
    assert len(load_recording(f"{path}#1")) == 2


def test_a_note_without_velocity_has_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frame(message(8, NOTE[:2] + NOTE[4:])))
    assert load_recording(f"{path}#0")["velocity"].tolist() == [64]


def test_a_pedal_moves_for_its_instrument_only_however_high_its_number(tmp_path: Path) -> None:
    high = b"\x38\x80\x20"  # instrument 4096
    pedal = [
        message(11, double(1, time) + bytes([2 << 3, 64, 3 << 3, value])) for time, value in ((0.5, 64), (3.0, 63))
    ]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frame(message(8, NOTE) + message(8, NOTE + high) + b"".join(pedal)))
    notes = load_recording(f"{path}#0")
    assert notes["track"].tolist() == [0, 4096]
    assert notes["sustained_sec"].tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (message(8, NOTE)[:-1], "cut short|longer than the message"),
        (message(8, NOTE[:-1]), "does not end"),
        (message(8, b"\x08" + b"\xff" * 10), "more than 64 bits"),
        (b"\xff" * 11, "more than 64 bits"),
        (b"\x0b", "kind 3"),
        (message(8, b"\x0b"), "unknown kind"),
        (message(8, bytes([1 << 3, 128 | 1, 1]) + NOTE[2:]), "pitch is above 127"),
        (message(8, bytes([1 << 3, *[255] * 9, 1]) + NOTE[2:]), "pitch is above 127"),  # -1
        (message(8, NOTE + b"\x38\xff\xff\x7f"), "instrument is above"),
        (message(8, b"\x08\x3c" * 65), "does not end"),
        (message(8, NOTE) + message(7, double(2, 0.0)), "tempo of no music"),
        (message(8, NOTE) + message(7, double(2, float("nan"))), "tempo of no music"),
        (message(8, NOTE[:4] + double(4, float("inf"))), "leave the range"),
        (message(8, NOTE[:4] + double(4, float("nan"))), "leave the range"),
        (message(8, NOTE + double(3, 2.0)), "ends before it begins"),
        (message(8, NOTE[:4]), "lasts any time"),
        (message(8, NOTE) + message(11, double(1, float("nan")) + b"\x10\x40"), "pedal"),
        (message(8, NOTE) + message(7, double(2, 1e9)), "leave the range"),
        (message(8, NOTE) + b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "cut short|longer than the message"),
    ],
)
def test_damaged_or_absurd_messages_are_told(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frame(content) + frame(message(8, NOTE)))
    with pytest.raises(InputError, match=told) as caught:
        load_recording(f"{path}#0")
    assert caught.value.code == "performance_unreadable"
    assert len(load_recording(f"{path}#1")) == 1  # the next is sound


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("at", [2, 9, 60, -2])
def test_what_comes_before_the_damage_is_read(at: int, packed: bool, tmp_path: Path) -> None:
    record = frame(message(8, NOTE) * 4)
    data = bytearray(record * 3)
    data[at - len(record) if at > 0 else at] ^= 0x10
    path = tmp_path / "a.tfrecord"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert len(index(path)) == 3
    assert len(load_recording(f"{path}#1")) == 4
    with pytest.raises(InputError, match=r"checksum|length"):
        load_recording(f"{path}#2")


@pytest.mark.parametrize("path", [RECORDS, PACKED], ids=["plain", "packed"])
@pytest.mark.parametrize("left", [0.3, 0.5, 0.98])
def test_a_truncated_file_is_read_as_far_as_it_goes(path: Path, left: float, tmp_path: Path) -> None:
    data = path.read_bytes()
    cut = tmp_path / path.name
    cut.write_bytes(data[: int(left * len(data))])
    found = len(index(cut))
    assert 1 <= found <= 3
    with pytest.raises(InputError, match=r"cut short|damaged"):
        load_recording(f"{cut}#{found - 1}")


def test_too_many_records_and_none_of_such_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="it has 3 records"):
        load_recording(f"{RECORDS}#3")
    with pytest.raises(InputError, match="Name one as"):
        load_recording(RECORDS)
    monkeypatch.setattr(note_sequences, "MAX_RECORDS", 5)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(frame(b"") * 6)
    with pytest.raises(InputError) as caught:
        index(path)
    assert caught.value.code == "too_many_records"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_sequences_or_errors(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(message(8, NOTE) * 3 + message(7, double(2, 100.0)) + message(11, b"\x10\x40\x18\x7f"))
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    framed = bytearray(frame(bytes(content)) * 2)
    if data.draw(st.booleans()):
        framed[data.draw(st.integers(0, len(framed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.tfrecord"
    path.write_bytes(gzip.compress(framed) if data.draw(st.booleans()) else framed)
    for number in range(len(index(path))):
        with contextlib.suppress(InputError):
            notes = load_recording(f"{path}#{number}")
            assert len(notes)
            assert (notes["offset_sec"] >= notes["onset_sec"]).all()
            assert notes["pitch"].max() < 128
