"""What the ranks of a training do together. By itself a process is the only rank, and all of this does nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, distributed

from dexter_model.errors import InputError


def average_over_ranks(value: Tensor) -> None:
    """Replace what each rank has by the mean of all; every rank calls it."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(value)
        value /= distributed.get_world_size()


@contextlib.contextmanager
def failing_together(device: torch.device) -> Iterator[None]:
    """A block that ends in an ``InputError`` on every rank when it does so on one; every rank enters it.

    The others would wait for the one that failed in their next exchange, for half an hour or for ever. Nothing in the
    block may exchange anything itself.

    Raises:
        InputError: the rank's own, or that another one failed (``other_rank_failed``).
    """
    own = None
    try:
        yield
    except InputError as error:
        own = error
    failed = torch.tensor(float(own is not None), device=device)
    average_over_ranks(failed)
    if own is not None:
        raise own
    if failed:
        raise InputError("training", "ended on another worker", "See what that one says", "other_rank_failed")
