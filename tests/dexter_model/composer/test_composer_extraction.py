"""The original's extraction, example by example, and the corrected one beside it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dexter_model.composer.config import REFERENCE, DataConfig
from dexter_model.composer.extraction import load_reference, segments
from dexter_model.composer.scale import FREQUENCIES
from dexter_model.errors import InputError
from dexter_model.notes import RECORDED_NOTE
from dexter_model.reading.recording import load_recording

Message = tuple[str, int, int]
FIXED = DataConfig(clock="beats", ends="key", shortest=0.0, notes=8)


def program(number: int) -> Message:
    return "program_change", number, 0


def on(pitch: int, delta: int) -> Message:
    return "note_on", pitch, delta


def off(pitch: int, delta: int) -> Message:
    return "note_off", pitch, delta


def pedal(delta: int) -> Message:
    return "control_change", 64, delta


def write(path: Path, *tracks: list[Message], channel: int = 0) -> Path:
    """A file of 480 ticks a quarter note; messages with their own delta times."""
    file = mido.MidiFile(ticks_per_beat=480)
    for messages in tracks:
        track = mido.MidiTrack()
        for kind, value, delta in messages:
            what: dict[str, Any] = {
                "program_change": {"program": value},
                "control_change": {"control": value, "value": 100},
            }.get(kind, {"note": value, "velocity": 0 if kind == "silent" else 64})
            name = "note_on" if kind == "silent" else kind
            track.append(mido.Message(name, time=delta, channel=channel, **what))
        file.tracks.append(track)
    file.save(path)
    return path


def triples(notes: np.ndarray) -> list[tuple[float, int, int]]:
    """Hz, duration and delta in ticks of a reference extraction."""
    ticks = np.stack([notes["onset_beat"], notes["offset_beat"]]) * 960
    np.testing.assert_allclose(ticks, np.rint(ticks), rtol=0, atol=1e-9)
    ticks = np.rint(ticks)
    deltas = np.diff(ticks[0], prepend=0.0)
    lasting = ticks[1] - ticks[0]
    return [(float(FREQUENCIES[n["pitch"]]), int(d), int(x)) for n, d, x in zip(notes, lasting, deltas, strict=True)]


PIANO = program(0)
OTHER = [program(40), *[pedal(1)] * 50]
LONGEST = [program(1), on(70, 10), off(70, 10), pedal(0), pedal(0)]
GOLDEN = {
    "plain": (
        [[PIANO, on(60, 0), on(64, 120), off(60, 120), off(64, 240), on(67, 480), off(67, 240)]],
        [(261.626, 240, 0), (329.628, 360, 120), (391.995, 240, 840)],
    ),
    "lost time of the pedal": (
        [[PIANO, on(60, 0), pedal(120), on(64, 0), pedal(60), off(60, 60), off(64, 240)]],
        [(261.626, 60, 0), (329.628, 300, 0)],
    ),
    "struck again": (
        [[PIANO, on(60, 0), on(60, 100), on(62, 50), off(60, 50), off(62, 100), off(60, 10)]],
        [(261.626, 200, 0), (293.665, 150, 150)],
    ),
    "longest track": ([[PIANO, on(50, 0), off(50, 9)], LONGEST, OTHER], [(466.164, 10, 10)]),
    "velocity 0": (
        [[PIANO, on(60, 0), ("silent", 64, 0), ("silent", 60, 100)]],
        [(261.626, 100, 0)],
    ),
}


@pytest.mark.parametrize(("tracks", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_reference_extraction_gives_the_golden_notes(
    tracks: list[list[Message]], expected: list[tuple[float, int, int]], tmp_path: Path
) -> None:
    assert triples(load_reference(write(tmp_path / "a.mid", *tracks))) == expected


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([on(60, 0), off(60, 100)], "no_piano_track"),
        ([program(24), on(60, 0), off(60, 100)], "no_piano_track"),
        ([PIANO, program(40), on(60, 0), off(60, 100)], "no_piano_track"),
        ([PIANO, on(60, 0), off(60, 100), on(62, 100)], "hanging_note"),
        ([PIANO, on(60, 0), off(60, 2049)], "over_long"),
        ([PIANO, on(60, 2049), off(60, 10)], "over_long"),
    ],
)
def test_reference_extraction_refuses_whole_files(messages: list[Message], code: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        load_reference(write(tmp_path / "a.mid", messages))
    assert refused.value.code == code


def test_what_is_just_not_too_long_and_a_track_without_notes_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mid", [PIANO, on(60, 2048), off(60, 2048)])
    assert triples(load_reference(path)) == [(261.626, 2048, 2048)]
    assert len(load_reference(write(tmp_path / "b.mid", [PIANO]))) == 0
    drums = write(tmp_path / "c.mid", [PIANO, on(60, 0), off(60, 10)], channel=9)
    assert len(load_reference(drums)) == 1  # the original takes drums for a piano


def original(events: list[tuple[str, int, int]]) -> list[tuple[int, int | None, int]]:
    """The original's state machine, as it is described: pitch, duration, delta."""
    found: list[list[Any]] = []
    sounding: dict[int, list[Any]] = {}
    waited = 0
    for kind, pitch, delta in events:
        if kind == "control_change":
            continue
        waited += delta
        for note in sounding.values():
            note[3] += delta
        if kind == "note_on" and pitch not in sounding:
            sounding[pitch] = [pitch, None, waited, 0]
            found.append(sounding[pitch])
            waited = 0
        elif kind != "note_on" and pitch in sounding:
            note = sounding.pop(pitch)
            note[1] = note[3]
    return [(pitch, duration, delta) for pitch, duration, delta, _ in found]


MESSAGES = st.tuples(
    st.sampled_from(["note_on", "note_off", "silent", "control_change"]), st.integers(60, 64), st.integers(0, 200)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(MESSAGES, max_size=40))
def test_reference_extraction_is_the_originals_state_machine(
    tmp_path_factory: pytest.TempPathFactory, messages: list[Message]
) -> None:
    path = write(tmp_path_factory.mktemp("random") / "a.mid", [PIANO, *messages])
    expected = original(messages)
    if any(duration is None or max(duration, delta) > 2048 for _, duration, delta in expected):
        with pytest.raises(InputError, match=r"never end|more than 2048"):
            load_reference(path)
        return
    notes = load_reference(path)
    found = zip(notes["pitch"].tolist(), triples(notes), strict=True)
    assert [(pitch, duration, delta) for pitch, (_, duration, delta) in found] == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_broken_files_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    path = write(tmp_path_factory.mktemp("broken") / "a.mid", *GOLDEN["plain"][0])
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        cut = segments(load_reference(path), replace(REFERENCE.data, notes=8))
        assert np.isfinite(cut.values).all()


def recorded(*notes: tuple[int, float, float], channel: int = 0, number: int = 0, track: int = 0) -> np.ndarray:
    """Pitch, onset and end in s, a beat a second."""
    made = np.zeros(len(notes), RECORDED_NOTE)
    for row, (pitch, begin, end) in zip(made, notes, strict=True):
        row["pitch"], row["onset_sec"], row["offset_sec"], row["sustained_sec"] = pitch, begin, end, end + 0.5
        row["onset_beat"], row["offset_beat"] = begin, end
    made["channel"], made["program"], made["track"], made["velocity"] = channel, number, track, 64
    return made


def scale(count: int, begin: float = 0.0) -> np.ndarray:
    return recorded(*((60 + i % 12, begin + i / 4, begin + i / 4 + 0.2) for i in range(count)))


def test_the_corrected_extraction_keeps_the_time_of_the_pedal_and_notes_struck_again(tmp_path: Path) -> None:
    (tracks, _) = GOLDEN["lost time of the pedal"]
    filler = [message for i in range(8) for message in (on(80 + i, 48), off(80 + i, 48))]
    path = write(tmp_path / "a.mid", [*tracks[0], *filler])
    values = segments(load_recording(path), FIXED).values[0, 0]
    np.testing.assert_allclose(values[:2, 0], [60, 64])
    np.testing.assert_allclose(values[:2, 1:] * 480, [[240, 0], [360, 120]], atol=1e-3)  # of the file's own beats
    no_program = write(tmp_path / "b.mid", filler)
    assert len(segments(load_recording(no_program), FIXED).values) == 1  # taken for a piano
    again = segments(load_recording(write(tmp_path / "c.mid", [*GOLDEN["struck again"][0][0], *filler])), FIXED)
    assert again.values[0, 0, :3, 0].tolist() == [60, 60, 62]


def test_segments_of_the_reference_are_its_ticks_cut_side_by_side(tmp_path: Path) -> None:
    messages = [message for i in range(9) for message in (on(60 + i, 7 * i), off(60 + i, 13))]
    notes = load_reference(write(tmp_path / "a.mid", [PIANO, *messages]))
    cut = segments(notes, replace(REFERENCE.data, notes=8))
    assert cut.values.shape == (1, 1, 8, 3)
    ticks = [[60 + i, 13 / 960, (7 * i + 13 * (i > 0)) / 960] for i in range(8)]
    np.testing.assert_array_equal(cut.values[0, 0], np.array(ticks, np.float32))
    assert cut.left_out["left_over"] == 1
    for limit, pieces in ((13, 1), (12, 0)):  # ticks of a duration
        lower = segments(notes, replace(REFERENCE.data, notes=8, longest_note=limit / 960))
        assert len(lower.values) == pieces
        assert lower.left_out["over_long"] == (9 if not pieces else 0)


def test_only_pianos_are_read_and_what_is_left_out_is_counted() -> None:
    notes = np.concatenate([scale(9), recorded((40, 0.1, 0.2), channel=9), recorded((41, 0.1, 0.2), number=40)])
    cut = segments(notes, FIXED)
    assert cut.values[0, 0, :, 0].tolist() == [60, 61, 62, 63, 64, 65, 66, 67]
    assert +cut.left_out == {"other_instruments": 2, "left_over": 1}
    organ = recorded(*((60, i, i + 0.5) for i in range(8)), number=19)
    assert len(segments(organ, FIXED).values) == 0
    keyboard = segments(organ, replace(FIXED, programs="keyboard"))
    assert keyboard.program.tolist() == [[19]]


def test_a_long_rest_or_note_ends_a_segment_and_nothing_else() -> None:
    notes = np.concatenate([scale(10), scale(10, begin=100.0)])
    cut = segments(notes, FIXED)
    assert len(cut.values) == 2
    assert cut.values[:, 0, 0, 2].tolist() == [0.0, 0.0]
    assert +cut.left_out == {"long_rests": 1, "left_over": 4}
    notes = scale(17)
    notes["offset_beat"][8] = 60.0
    cut = segments(notes, FIXED)
    assert cut.values[:, 0, :, 0].tolist() == [[60, 61, 62, 63, 64, 65, 66, 67], [69, 70, 71, 60, 61, 62, 63, 64]]
    assert +cut.left_out == {"long_notes": 1}


def test_durations_by_the_pedal_and_the_shortest_of_them() -> None:
    notes = scale(9)
    notes["offset_sec"][0] = notes["onset_sec"][0]
    notes["sustained_sec"][1] = np.nan
    by_key = segments(notes, replace(FIXED, clock="seconds", shortest=0.05)).values[0, 0, :, 1]
    np.testing.assert_allclose(by_key, [0.05, *[0.2] * 7])
    by_pedal = segments(notes, DataConfig(notes=8))
    np.testing.assert_allclose(by_pedal.values[0, 0, :, 1], 0.7)
    assert +by_pedal.left_out == {"unsustained": 1}


def test_rows_are_instruments_with_clocks_that_start_together() -> None:
    piano = scale(24)  # 4 a second
    cello = recorded(*((40 + i, i / 2 + 0.125, i / 2 + 0.25) for i in range(12)), number=42, track=1, channel=1)
    flute = recorded((90, 0.0, 1.0), number=73, track=2)
    cut = segments(np.concatenate([piano, cello, flute]), replace(FIXED, programs="all", rows=3))
    assert cut.program[0].tolist() == [0, 42, 73]
    assert cut.active.tolist() == [[True, True, False], [True, True, False], [True, False, False]]
    assert cut.values[0, 1, :, 0].tolist() == [40, 41, 42, 43, 44, 45, 46, 47]
    # The piano's eighth note begins at 1.75 s; from there the cello's next is that of 2.125 s.
    assert cut.values[1, 1, 0].tolist() == [44, 0.125, 0.375]
    assert cut.values[1, 0, 0].tolist() == [68, pytest.approx(0.2), 0.25]
    assert not cut.values[0, 2].any()
    alone = segments(scale(24), replace(FIXED, programs="all", rows=3))
    assert alone.active.sum(axis=1).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(alone.values[:, :1], segments(scale(24), FIXED).values)
    assert segments(scale(0), replace(FIXED, programs="all", rows=3)).values.shape == (0, 3, 8, 3)


def test_notes_of_a_sparse_row_are_in_two_segments_at_most_and_long_ones_do_not_silence_it() -> None:
    piano = recorded(*((60 + i % 12, i / 10, i / 10 + 0.05) for i in range(400)))
    bass = recorded(*((30 + i, i * 1.0, i + 0.9) for i in range(40)), number=32, track=1, channel=1)
    bass["offset_beat"][4::8] += 10.0  # held, while others go on
    cut = segments(np.concatenate([piano, bass]), replace(FIXED, programs="all", rows=2))
    awake = cut.active[:, 1]
    assert len(cut.values) == 50
    assert 8 <= awake.sum() <= 10  # 40 notes, and each of them twice at most
    _, often = np.unique(cut.values[awake, 1, :, 0], return_counts=True)
    assert often.max() == 2
    assert cut.values[awake, 1, :, 1].max() == FIXED.longest_note
    assert cut.left_out["long_notes"] == 5
    assert cut.active[:, 0].all()
