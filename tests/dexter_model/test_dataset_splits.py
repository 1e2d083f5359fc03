from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dexter_model.dataset.splits import TEST_WORKS, split_of_works

works = st.sets(st.text(min_size=1, max_size=12), max_size=40)


@given(works)
def test_two_works_or_more_fill_both_sides(works: set[str]) -> None:
    splits = split_of_works(works)
    assert splits.keys() == works
    if len(works) > 1:
        assert {"train", "test"} <= set(splits.values())


@given(works, works)
def test_growth_moves_no_work_once_both_sides_are_filled(before: set[str], added: set[str]) -> None:
    fixed = {f"piece {i}" for i in range(30)}
    old, new = split_of_works(before | fixed), split_of_works(before | fixed | added)
    assert all(new[work] == split for work, split in old.items())


def test_shares() -> None:
    splits = list(split_of_works(f"composer/op-{i}" for i in range(2000)).values())
    assert 0.12 < splits.count("test") / 2000 < 0.18
    assert 0.03 < splits.count("validation") / 2000 < 0.07


def test_the_works_with_most_performers_are_tested_on() -> None:
    splits = split_of_works([*TEST_WORKS, "mozart/k-331/1", "chopin/op-10/3"])
    assert all(splits[work] == "test" for work in TEST_WORKS)
    assert "train" in splits.values()


def test_one_work_trains() -> None:
    assert split_of_works(["a", "a"]) == {"a": "train"}
    assert split_of_works([]) == {}
