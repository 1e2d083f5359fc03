"""Which works are for training, validation and testing: by a hash of the work, so that growth moves no work.

All pieces of a work, in whichever corpus and whoever plays (virtual pianists included), are on one side. But a corpus
whose own books tell a split keeps it (MAESTRO): beside others of the same works it puts some on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "validation", "test"]
# Shares of the hash's range: below 0.18 lie 15 % of the works of Vienna 4x22 and (n)ASAP.
TEST_SHARE = 0.18
VALIDATION_SHARE = 0.05
TEST_WORKS = frozenset({"chopin/op-38", "schubert/d-783/15"})  # both have 22 aligned performances to compare with


def split_of_works(works: Iterable[str]) -> dict[str, Split]:
    """The split of each work.

    Args:
        works: work ids, repetitions allowed.

    Returns:
        A split a work: what its hash says, whichever works there are besides, and test for ``TEST_WORKS``; among two
        works or more at least one is test and one is train. A single work is train.
    """
    ranked = sorted(set(works), key=_position)
    splits: dict[str, Split] = {work: _split(work) for work in ranked}
    if len(ranked) > 1 and "test" not in splits.values():
        splits[ranked[0]] = "test"
    if ranked and "train" not in splits.values():
        splits[ranked[-1]] = "train"
    return splits


def _position(work: str) -> float:
    """A number in [0, 1) that only the work's id decides."""
    return int.from_bytes(hashlib.sha256(work.encode()).digest()[:6]) / 2**48


def _split(work: str) -> Split:
    position = _position(work)
    if work in TEST_WORKS or position < TEST_SHARE:
        return "test"
    return "validation" if position < TEST_SHARE + VALIDATION_SHARE else "train"
