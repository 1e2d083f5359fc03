"""The extended score condition: finite, of unit size, the same whatever the divisions of the file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dexter_model.expression.score_rows import EXTENDED_ROWS, extended_rows
from dexter_model.notes import ARTICULATIONS, SCORE_NOTE


def score(onsets: list[float], pitches: list[int], durations: list[float]) -> np.ndarray:
    """Notes in 4/4, 12 divisions a beat."""
    notes = np.zeros(len(onsets), SCORE_NOTE)
    notes["onset_beat"], notes["pitch"], notes["duration_beat"] = onsets, pitches, durations
    notes["onset_div"], notes["duration_div"] = notes["onset_beat"] * 12, notes["duration_beat"] * 12
    notes["beats"], notes["beat_type"], notes["voice"], notes["staff"] = 4, 4, 1, 1
    notes["metrical_position"] = notes["onset_beat"] % 4
    return notes


def row(notes: np.ndarray, name: str) -> list[float]:
    return [float(value) for value in extended_rows(notes)[:, EXTENDED_ROWS.index(name)]]


def test_chords_lines_and_intervals_by_hand() -> None:
    notes = score([0, 0, 1, 2, 2], [48, 60, 64, 50, 72], [1, 1, 0.5, 2, 2])
    assert row(notes, "is_top") == [0, 1, 1, 0, 1]
    assert row(notes, "below_top") == pytest.approx([1, 0, 0, 22 / 12, 0])
    assert row(notes, "top_step_before") == pytest.approx([0, 0, 4 / 12, 8 / 12, 8 / 12])
    assert row(notes, "rest_after") == pytest.approx([0, 0, 0.5, 0, 0])
    assert row(notes, "log_interval") == pytest.approx([0, 0, 0, 0.5, 0.5])  # the last lasts two beats
    assert row(notes, "place") == pytest.approx([-1, -1, 0, 1, 1])
    assert row(notes, "downbeat") == [1, 1, 0, 0, 0]
    assert row(notes, "middle_of_bar") == [0, 0, 0, 1, 1]


def test_markings_are_rows_of_their_own() -> None:
    notes = score([0, 1, 2, 3], [60] * 4, [1] * 4)
    notes["dynamic"] = [3, 3, 6, 6]  # p, then f
    notes["articulation"][1] = 1 << ARTICULATIONS.index("accent")
    notes["ramp"][3] = -1
    assert row(notes, "dynamic") == pytest.approx([-0.75, -0.75, 0.75, 0.75])
    assert row(notes, "dynamic_changed") == pytest.approx([0, 0, 0.75, 0.75 * np.exp(-1 / 8)])
    assert row(notes, "accent") == [0, 1, 0, 0]
    assert row(notes, "ramp") == [0, 0, 0, -1]
    notes["tempo"] = [0, 120, 120, 60]  # unknown, then half a second a beat, then a second
    notes["tempo_ramp"][2] = -1
    assert row(notes, "tempo") == pytest.approx([0, np.log2(1.2), np.log2(1.2), np.log2(0.6)])
    assert row(notes, "tempo_known") == [0, 1, 1, 1]
    assert row(notes, "tempo_of_piece") == pytest.approx([0, 0, 0, -3])
    assert row(notes, "tempo_ramp") == [0, 0, -1, 0]


def test_a_file_with_other_divisions_says_the_same() -> None:
    notes = score([0, 0.5, 1.5, 2], [60, 62, 64, 65], [0.5, 1, 0.5, 2])
    finer = notes.copy()
    finer["onset_div"] *= 40
    finer["duration_div"] *= 40
    assert np.array_equal(extended_rows(notes), extended_rows(finer))


@given(
    st.lists(
        st.tuples(
            st.floats(-4, 1e5, width=32), st.integers(0, 127), st.floats(0, 1e4, width=32), st.integers(0, 2**15 - 1)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_rows_of_any_score_are_numbers_of_reasonable_size(made: list[tuple[float, int, float, int]]) -> None:
    made.sort()
    notes = score([m[0] for m in made], [m[1] for m in made], [m[2] for m in made])
    notes["articulation"] = [m[3] for m in made]
    rows = extended_rows(notes)
    assert rows.shape == (len(made), len(EXTENDED_ROWS))
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() < 40


def test_no_notes_no_rows() -> None:
    assert extended_rows(np.zeros(0, SCORE_NOTE)).shape == (0, len(EXTENDED_ROWS))
