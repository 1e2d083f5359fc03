"""Windows cover a piece, and joining them gives it back without seams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dexter_model.diffusion.joining import fade_weights, join_windows, window_starts


@st.composite
def windowings(draw: st.DrawFn) -> tuple[int, int, int]:
    """Notes of a piece, length of a window, overlap."""
    length = draw(st.integers(1, 40))
    return draw(st.integers(1, 400)), length, draw(st.integers(0, length - 1))


@given(windowings())
def test_windows_are_full_and_share_at_least_the_overlap(windowing: tuple[int, int, int]) -> None:
    notes, length, overlap = windowing
    starts = window_starts(*windowing)
    assert starts[0] == 0
    assert starts[-1] == max(0, notes - length)
    assert (np.diff(starts) > 0).all()
    assert (starts[:-1] + length - starts[1:] >= overlap).all()


@given(windowings())
def test_weights_sum_to_one_at_every_note(windowing: tuple[int, int, int]) -> None:
    notes, length, overlap = windowing
    starts = window_starts(*windowing)
    weights = fade_weights(starts, notes, length, overlap)
    assert (weights >= 0).all()
    total = np.zeros(max(notes, length))
    np.add.at(total, starts[:, None] + np.arange(length), weights)
    np.testing.assert_allclose(total, 1, atol=1e-12)


@given(windowings(), st.integers(0, 2**32 - 1))
def test_windows_that_agree_join_to_the_piece_itself(windowing: tuple[int, int, int], seed: int) -> None:
    notes, length, overlap = windowing
    piece = np.random.default_rng(seed).normal(size=(max(notes, length), 5))
    starts = window_starts(*windowing)
    windows = piece[starts[:, None] + np.arange(length)]
    np.testing.assert_allclose(join_windows(windows, starts, notes, overlap), piece[:notes], atol=1e-12)


def test_windows_that_disagree_fade_over_the_overlap_without_a_jump() -> None:
    starts = window_starts(1000, 200, 10)
    windows = np.broadcast_to(np.arange(len(starts), dtype=float)[:, None, None], (len(starts), 200, 1))
    steps = np.diff(join_windows(windows, starts, 1000, 10)[:, 0])
    assert (steps > 0).sum() == pytest.approx(11 * (len(starts) - 1), abs=len(starts))
    assert steps.max() <= 0.1 + 1e-12


def test_published_windows_of_two_hundred_notes() -> None:
    assert window_starts(580, 200, 10).tolist() == [0, 190, 380]
    assert window_starts(581, 200, 10).tolist() == [0, 127, 254, 381]
    assert window_starts(200, 200, 10).tolist() == [0]
    assert window_starts(3, 200, 10).tolist() == [0]


def test_an_overlap_as_long_as_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot overlap"):
        window_starts(10, 5, 5)
