"""Ends under the pedal: the specified cases, and the rule told event by event on random performances."""

from __future__ import annotations

import numpy as np
import pytest

from dexter_model.reading.sustain import sustained_ends

CASES = {  # notes (pitch, onset, offset), pedal (time, value), their ends
    "released as the pedal goes down": ([(60, 0, 1)], [(1, 127), (2, 0)], [2]),
    "struck again while held": ([(60, 0, 2), (60, 1, 1.5)], [(0.5, 127), (3, 0)], [1, 3]),
    "overlap without pedal": ([(60, 0, 2), (60, 1, 1.5)], [], [2, 1.5]),
    "released as the pedal goes up": ([(60, 0, 1)], [(0.5, 127), (1, 0)], [1]),
    "two that begin together": ([(60, 0, 1), (60, 0, 2)], [(0, 127), (3, 0)], [np.nan, 3]),
    "pedal never up": ([(60, 0, 1), (64, 0.5, 0.7)], [(0.2, 127)], [1, 1]),
    "half pedal": ([(60, 0, 0.5)], [(0.1, 64), (0.7, 63)], [0.7]),
    "nothing": ([], [(0, 127)], []),
}


def by_events(notes: np.ndarray, pedal: np.ndarray) -> np.ndarray:
    """The same told as a walk through time, with the notes that are active in a list."""
    events = [(time, 0 if value >= 64 else 1, -1) for time, value in pedal]
    events += [(note[1], 2, index) for index, note in enumerate(notes)]
    events += [(note[2], 3, index) for index, note in enumerate(notes)]
    ends, down, time = notes[:, 2].copy(), False, 0.0
    active: list[int] = []
    for time, kind, index in sorted(events, key=lambda event: event[:2]):
        if kind == 0:
            down = True
        elif kind == 1:
            down = False
            for each in [each for each in active if ends[each] < time]:
                ends[each] = time
                active.remove(each)
        elif kind == 2:
            for each in [each for each in active if down and notes[each, 0] == notes[index, 0]]:
                ends[each] = time if time > notes[each, 1] else np.nan
                active.remove(each)
            active.append(int(index))
        elif not down and index in active:
            active.remove(index)
    ends[active] = time
    return ends


@pytest.mark.parametrize("case", CASES)
def test_specified_cases(case: str) -> None:
    notes, pedal, ends = CASES[case]
    table, pedals = np.array(notes, float).reshape(-1, 3), np.array(pedal, float).reshape(-1, 2)
    found = sustained_ends(table[:, 1], table[:, 2], table[:, 0], pedals[:, 0], pedals[:, 1])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, ends)


def test_a_walk_through_time_says_the_same() -> None:
    generator = np.random.default_rng(1)
    for _ in range(300):
        n, k = generator.integers(1, 40), generator.integers(0, 12)
        onset = generator.integers(0, 30, n) / 4
        notes = np.column_stack([generator.integers(60, 64, n), onset, onset + generator.integers(1, 12, n) / 4])
        pedal = np.column_stack([generator.integers(0, 40, k) / 4, generator.integers(0, 128, k)])
        found = sustained_ends(notes[:, 1], notes[:, 2], notes[:, 0], pedal[:, 0], pedal[:, 1])
        np.testing.assert_array_equal(found, by_events(notes, pedal))


def test_the_pedal_holds_until_the_last_event_of_the_file() -> None:
    one, two = np.array([0.0]), np.array([1.0])
    np.testing.assert_array_equal(sustained_ends(one, two, np.array([60]), np.array([0.5]), np.array([127]), 9.0), [9])
