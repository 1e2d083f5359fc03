"""Windows cover pieces, and joining them gives the pieces back without seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dexter_model.diffusion.joining import Collage, fade_weights, window_starts


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


@given(st.lists(st.integers(1, 90), min_size=1, max_size=5), st.integers(1, 40), st.data())
def test_what_is_cut_from_pieces_joins_to_them_again(notes: list[int], length: int, data: st.DataObject) -> None:
    """Pieces lie end to end; no window sees two of them, and padding is 0 in and ignored out."""
    overlap = data.draw(st.integers(0, length - 1))
    collage = Collage.of(notes, length, overlap)
    piece = torch.repeat_interleave(torch.arange(len(notes)), torch.tensor(notes))
    pieces = torch.stack([torch.randn(len(piece)), piece + 1.0], dim=1)
    windows = collage.cut(pieces)
    assert windows.shape == (*collage.mask_WN.shape, 2)
    for window, mask in zip(windows, collage.mask_WN, strict=True):
        assert len(set(window[mask][:, 1].tolist())) == 1
        assert bool((window[~mask] == 0).all())
    windows[~collage.mask_WN] = torch.nan
    assert torch.allclose(collage.join(windows), pieces, atol=1e-5)


def test_a_piece_joins_to_the_same_bits_in_any_company() -> None:
    """With windows that overlap by more than half, so that some notes have three."""
    generator = torch.Generator().manual_seed(0)
    alone = Collage.of([71], 30, 20)
    windows = torch.randn(*alone.mask_WN.shape, 5, generator=generator)
    company = Collage.of([10, 71, 200], 30, 20)
    others = torch.randn(*company.mask_WN.shape, 5, generator=generator)
    others[1 : 1 + len(windows)] = windows
    assert torch.equal(company.join(others)[10:81], alone.join(windows))


def test_windows_that_disagree_fade_over_the_overlap_without_a_jump() -> None:
    collage = Collage.of([1000], 200, 10)
    windows = torch.arange(len(collage.mask_WN)).float()[:, None, None].expand(-1, 200, 1)
    steps = collage.join(windows)[:, 0].diff()
    assert int((steps > 1e-6).sum()) == pytest.approx(11 * (len(windows) - 1), abs=len(windows))
    assert float(steps.max()) <= 0.1 + 1e-5


def test_published_windows_of_two_hundred_notes() -> None:
    assert window_starts(580, 200, 10).tolist() == [0, 190, 380]
    assert window_starts(581, 200, 10).tolist() == [0, 127, 254, 381]
    assert window_starts(200, 200, 10).tolist() == [0]
    assert window_starts(3, 200, 10).tolist() == [0]


def test_an_overlap_as_long_as_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot overlap"):
        window_starts(10, 5, 5)
