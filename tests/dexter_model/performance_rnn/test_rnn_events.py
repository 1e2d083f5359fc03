"""Events of the specification's examples to the last one, and what holds for any performance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden_pieces import CHORDS, PIECE, columns

from dexter_model.errors import InputError
from dexter_model.performance_rnn.events import (
    events_of_notes,
    notes_of_events,
    quantised,
    step_notes,
    with_length,
)
from dexter_model.performance_rnn.vocabulary import (
    bin_velocity,
    classes,
    event_kind,
    event_steps,
    velocity_bin,
)
from dexter_model.reading.sustain import sustained_ends

PEDALLED = [(60, 80, 0, 0.5), (64, 80, 0.6, 0.8), (60, 80, 1, 1.2)]
GOLDEN: dict[str, Any] = {  # notes, pedal, bins, events
    "G1": (CHORDS, None, 32, [380, 60, 64, 355, 387, 67, 355, 195, 355, 192, 355, 188]),
    "G1 without velocity": (CHORDS, None, 0, [60, 64, 355, 67, 355, 195, 355, 192, 355, 188]),
    "G2": ([(60, 64, 2.5, 2.75)], None, 32, [355, 355, 305, 371, 60, 280, 188]),
    "G2'": ([(60, 64, 3, 4)], None, 32, [355, 355, 355, 371, 60, 355, 188]),
    "G3": ([(60, 80, 0, 0.5), (60, 80, 0.5, 1)], None, 32, [375, 60, 305, 188, 60, 305, 188]),
    "G4": (
        [(72, 50, 0, 0.5), (48, 50, 0, 0.5), (60, 90, 0.25, 0.5)],
        None,
        32,
        [368, 48, 72, 280, 378, 60, 280, 176, 200, 188],
    ),
    "G5": (
        [(60, 64, 0.004, 0.006), (62, 64, 0.005, 0.0149), (64, 64, 0.0151, 0.025)],
        None,
        32,
        [371, 60, 256, 188, 62, 256, 190, 64, 256, 192],
    ),
    "G6 raw": (PEDALLED, None, 32, [375, 60, 305, 188, 265, 64, 275, 192, 275, 60, 275, 188]),
    "G6 sustained": (PEDALLED, [(0.1, 127), (1.5, 0)], 32, [375, 60, 315, 64, 295, 188, 60, 305, 192, 188]),
    "G7": ([(60, 80, 0, 0.5)], [(0.1, 64), (0.7, 63)], 32, [375, 60, 325, 188]),
    "nothing": ([], None, 32, []),
}
DECODED: dict[str, Any] = {  # events, notes (pitch, velocity, start, end in steps)
    "D1": ([60, 188, 256], []),
    "D2": ([188, 371, 60, 188, 64, *[355] * 6, 192, 67, 355], [(64, 61, 0, 500), (67, 61, 600, 700)]),
    "D3": ([60, 355, 188], [(60, 100, 0, 100)]),
    "D4": ([380, 60, 265, 360, 60, 275, 188, 285, 188], [(60, 97, 0, 30), (60, 17, 10, 60)]),
    "nothing": ([], []),
}


def random_notes(generator: np.random.Generator, *, overlaps: bool) -> np.ndarray:
    n = int(generator.integers(1, 60))
    onset = np.round(generator.uniform(0, 8, n), 3)
    notes = step_notes(
        onset, onset + generator.uniform(0.001, 2, n), generator.integers(50, 70, n), generator.integers(1, 128, n)
    )
    if overlaps:
        return notes
    kept, free = [], np.zeros(128, int)
    for index, note in enumerate(notes):
        if note["onset"] >= free[note["pitch"]]:
            kept.append(index)
            free[note["pitch"]] = note["offset"]
    return notes[kept]


def played_by_queues(events: np.ndarray) -> list[tuple[int, ...]]:
    """The decoder's rules told event by event."""
    queues: dict[int, list[tuple[int, int]]] = {}
    clock, velocity, notes = 0, 100, []
    for event in events.tolist():
        if event < 128:
            queues.setdefault(event, []).append((clock, velocity))
        elif event < 256:
            if queues.get(event - 128):
                onset, loud = queues[event - 128].pop(0)
                notes.append((onset, clock, event - 128, loud))
        elif event < 356:
            clock += event - 255
        else:
            velocity = 1 + 4 * (event - 356)
    for pitch, queue in queues.items():
        notes += [(onset, clock, pitch, loud) for onset, loud in queue]
    return sorted(note for note in notes if note[0] < note[1])


def test_velocities_fall_into_bins() -> None:
    assert velocity_bin(np.array([1, 4, 5, 64, 100, 124, 125, 127]), 32).tolist() == [1, 1, 2, 16, 25, 31, 32, 32]
    assert bin_velocity(np.array([1, 16, 25, 32]), 32).tolist() == [1, 61, 97, 125]
    assert velocity_bin(np.array([9, 127]), 16).tolist() == [2, 16]
    assert (velocity_bin(np.arange(1, 128), 127) == np.arange(1, 128)).all()
    assert (classes(0), classes(32)) == (356, 388)


def test_kinds_and_steps_of_events() -> None:
    events = np.array([0, 127, 128, 255, 256, 355, 356, 387])
    assert event_kind(events).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert event_steps(events).tolist() == [0, 0, 0, 0, 1, 100, 0, 0]


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_events(case: str) -> None:
    notes, pedal, bins, events = GOLDEN[case]
    onset, end, pitch, velocity = columns(notes)
    if pedal:
        end = sustained_ends(onset, end, pitch, *np.array(pedal, float).T)
    assert events_of_notes(step_notes(onset, end, pitch, velocity), bins).tolist() == events


def test_golden_piece() -> None:
    events = events_of_notes(step_notes(*columns(PIECE)), 32)
    assert (len(events), int(event_steps(events).sum())) == (66, 1800)
    begins = "380 36 355 355 164 265 369 40 355 305 375 44 355 295 168 172 265 367 41"
    assert events[:19].tolist() == [int(event) for event in begins.split()]
    assert events[-6:].tolist() == [182, 265, 380, 60, 345, 188]


@pytest.mark.parametrize("case", DECODED)
def test_golden_notes(case: str) -> None:
    events, expected = DECODED[case]
    notes = notes_of_events(np.array(events), 32, longest=500)
    assert [(n["pitch"], n["velocity"], n["onset"], n["offset"]) for n in notes] == expected


def test_any_stream_is_played_by_the_rules() -> None:
    generator = np.random.default_rng(3)
    for size in (1, 10, 400):
        for _ in range(30):
            kinds = [generator.integers(60, 64, size), generator.integers(188, 192, size)]
            kinds += [generator.integers(256, 356, size), generator.integers(356, 388, size)]
            events = np.choose(generator.integers(0, 4, size), kinds)
            notes = notes_of_events(events, 32)
            found = sorted((n["onset"], n["offset"], n["pitch"], n["velocity"]) for n in notes)
            assert found == played_by_queues(events)


def test_there_and_back_is_the_same_but_for_velocities() -> None:
    generator = np.random.default_rng(4)
    for _ in range(100):
        notes = random_notes(generator, overlaps=False)
        expected = notes.copy()
        expected["velocity"] = bin_velocity(velocity_bin(notes["velocity"], 32), 32)
        found = notes_of_events(events_of_notes(notes, 32), 32)
        order = np.lexsort((expected["pitch"], expected["onset"]))
        np.testing.assert_array_equal(found, expected[order])


def test_once_decoded_a_stream_stays_as_it_is() -> None:
    generator = np.random.default_rng(5)
    for _ in range(100):
        events = events_of_notes(random_notes(generator, overlaps=True), 32)
        once = events_of_notes(notes_of_events(events, 32), 32)
        np.testing.assert_array_equal(once, events_of_notes(notes_of_events(once, 32), 32))


def test_streams_are_cut_and_prolonged() -> None:
    empty = np.array([], np.uint16)
    assert event_steps(with_length(empty, 250)).tolist() == [100, 100, 50]
    assert event_steps(with_length(with_length(empty, 250), 120)).tolist() == [100, 20]
    assert event_steps(with_length(with_length(with_length(empty, 250), 120), 380)).tolist() == [100, 100, 100, 80]
    stream = np.array([380, 60, 355, 188, 64, 355])
    assert with_length(stream, 100).tolist() == [380, 60, 355, 188, 64]
    assert with_length(stream, 130).tolist() == [380, 60, 355, 188, 64, 285]
    assert with_length(stream, 0).tolist() == [380, 60]


def test_times_are_rounded_half_up_and_never_negative() -> None:
    assert quantised(np.array([0.0, 0.004, 0.005, 0.0149, 0.0151])).tolist() == [0, 0, 1, 1, 2]
    for wrong in (-0.1, np.nan, np.inf):
        with pytest.raises(InputError, match="negative or no number"):
            quantised(np.array([wrong]))


def test_pitches_and_velocities_out_of_range_are_refused() -> None:
    for pitch, velocity in ((128, 64), (-1, 64), (60, 0), (60, 128)):
        with pytest.raises(InputError, match="MIDI's"):
            step_notes(np.array([0.0]), np.array([1.0]), np.array([pitch]), np.array([velocity]))
