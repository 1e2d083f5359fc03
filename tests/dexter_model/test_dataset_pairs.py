from __future__ import annotations

from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_renders import made_up_piece, publish

from dexter_model.dataset.pairs import PAIRED, UNPAIRED, alone, mixup, pair_index, pair_tables, write_pairs
from dexter_model.dataset.store import open_version
from dexter_model.dataset.windows import cut, window_count

corpora = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 25), st.lists(st.booleans(), min_size=0, max_size=5)), max_size=6
)


def by_hand(pieces: list[tuple[int, int, list[bool]]], window: int, hop: int) -> list[list[tuple[int, int]]]:
    """Of each piece and window, the performances there: as the loops that index arithmetic stands for."""
    found, number = [], 0
    for _, notes, real in pieces:
        players = [number + i for i, is_real in enumerate(real) if is_real]
        number += len(real)
        starts = [start for start in range(0, notes, hop) if start == 0 or start + window - hop < notes]
        found += [[(player, start) for player in players] for start in starts]
    return found


@given(corpora, st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_pairs_are_those_of_the_loops(
    pieces: list[tuple[int, int, list[bool]]], window: int, hop: int, ordered: bool
) -> None:
    hop = min(hop, window)  # else notes would be left out
    piece = np.array([i for i, (_, _, real) in enumerate(pieces) for _ in real], int)
    length = np.array([notes for _, notes, real in pieces for _ in real], int)
    among = np.array([flag for _, _, real in pieces for flag in real], bool)
    windows = by_hand(pieces, window, hop)
    choose = permutations if ordered else combinations
    expected = [(a[0], b[0], a[1]) for players in windows for a, b in choose(players, 2)]
    index = pair_index(piece, length, window, hop=hop, among=among, ordered=ordered)
    pairs = index.all()
    assert len(index) == len(expected)
    found = list(zip(*(column.tolist() for column in pairs), strict=True))
    assert sorted(found) == sorted(expected)
    lonely = [players[0] for players in windows if len(players) == 1]
    single = zip(*(c.tolist() for c in alone(piece, length, window, hop=hop, among=among)), strict=True)
    assert sorted(single) == sorted(lonely)


@given(st.integers(0, 60), st.integers(0, 5))
def test_pairs_drawn_are_different_and_the_same_for_a_seed(count: int, seed: int) -> None:
    index = pair_index(np.array([7, 3, 7, 3, 7]), np.array([30, 10, 30, 10, 30]), 10)
    assert len(index) == 6 * 3 + 2
    drawn = index.draw(count, seed)
    rows = set(zip(*(column.tolist() for column in drawn), strict=True))
    assert len(rows) == len(drawn.a) == min(count, 20)
    assert rows <= set(zip(*(column.tolist() for column in index.all()), strict=True))
    for one, other in zip(drawn, index.draw(count, seed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all({a, b} <= {0, 2, 4} or {a, b} <= {1, 3} for a, b, _ in rows)


def test_nobody_to_pair_is_no_trouble() -> None:
    nobody = pair_index(np.zeros(0, int), np.zeros(0, int), 200)
    assert (len(nobody), len(nobody.all().a), len(nobody.draw(5, 0).start)) == (0, 0, 0)
    assert len(pair_index(np.array([0, 1]), np.array([3, 3]), 200)) == 0


def test_windows_cover_every_note_whatever_their_length() -> None:
    codec = np.arange(1, 24, dtype=np.float32).reshape(1, 23, 1)
    for window, hop, starts in ((5, None, [0, 5, 10, 15, 20]), (10, 5, [0, 5, 10, 15]), (40, None, [0]), (23, 1, [0])):
        windows = cut(codec, window, hop)
        assert windows.shape == (1, len(starts), window, 1)
        assert window_count(23, window, hop) == len(starts)
        for start, rows in zip(starts, windows[0, :, :, 0], strict=True):
            real = codec[0, start : start + window, 0]
            np.testing.assert_array_equal(rows, [*real, *[0] * (window - len(real))])
    assert cut(np.ones((2, 7), bool), 4).sum() == 14


def test_a_mixup_is_the_mean_and_unknown_where_either_is() -> None:
    block = np.array([[[1.0]], [[3.0]], [[np.nan]]], np.float32)
    mixed = mixup(block, np.array([0, 0]), np.array([1, 2]))
    assert mixed.dtype == np.float32
    assert mixed[0, 0, 0] == 2
    assert np.isnan(mixed[1, 0, 0])
    assert mixup(np.array([[True, True], [True, False]]), np.array([0]), np.array([1])).tolist() == [[True, False]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    pieces = [made_up_piece(f"piece {i}", performers=1 + i % 3, seed=i) for i in range(9)]
    synthetic = made_up_piece("virtual", performers=3, synthetic=[True, False, False])
    publish(str(tmp_path / "store"), [*pieces, synthetic])
    return str(tmp_path / "store")


def test_tables_name_pairs_and_the_rows_they_are_of(url: str, tmp_path: Path) -> None:
    version = open_version(url)
    paired, unpaired = pair_tables(version, 20, mixups=True)
    told = version.performances
    assert not told["synthetic"].gather(paired["a"]).any()
    for side in "ab":
        assert told["key"].gather(paired[side]).to_list() == paired[f"performance_{side}"].cast(str).to_list()
        assert told["piece"].gather(paired[side]).to_list() == paired["piece"].cast(str).to_list()
    assert (paired["a"] != paired["b"]).all()
    assert paired.select("a", "b", "start").is_unique().all()
    notes = {row["key"]: row["notes"] for row in version.catalogue.iter_rows(named=True)}
    players = told.filter(~pl.col("synthetic")).group_by("piece").len().rows()
    windows = {key: -(-length // 20) for key, length in notes.items()}
    assert paired.height == sum(m * (m - 1) * windows[piece] for piece, m in players)
    single = unpaired.filter(pl.col("b").is_null())
    assert single.height == sum(windows[piece] for piece, m in players if m == 1)
    mixed = unpaired.filter(pl.col("b").is_not_null())
    assert set(mixed["split"].cast(str)) == {"train"}  # never tested with
    train = set(version.catalogue.filter(pl.col("split") == "train")["key"])
    assert mixed.height == sum(m * (m - 1) // 2 * windows[piece] for piece, m in players if piece in train)
    write_pairs(tmp_path / "pairs", paired, unpaired, {"digest": version.digest})
    assert pl.read_parquet(tmp_path / "pairs" / PAIRED).equals(paired)
    assert pl.read_parquet(tmp_path / "pairs" / UNPAIRED).equals(unpaired)
    assert pl.read_parquet_metadata(tmp_path / "pairs" / PAIRED)["digest"] == version.digest


def test_tables_of_a_split_and_of_a_draw(url: str) -> None:
    version = open_version(url)
    everything, _ = pair_tables(version, 20)
    parts = [pair_tables(version, 20, split=split)[0] for split in ("train", "validation", "test")]
    assert sum(part.height for part in parts) == everything.height
    drawn, _ = pair_tables(version, 20, count=7, seed=1)
    assert drawn.height == 7
    assert drawn.join(everything, on=["a", "b", "start"], how="semi").height == 7
    assert not drawn.equals(pair_tables(version, 20, count=7, seed=2)[0])
