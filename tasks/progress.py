"""Progress a person sees: a bar in the terminal and, in a Prefect run, a progress artifact."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tasks.orchestration import inside_a_run

Item = TypeVar("Item")
Advance = Callable[[float], None]
_ARTIFACT_SECONDS = 2.0  # a progress artifact is an HTTP request: no more often than this


def console() -> Console:
    """Where messages to a person go: standard error, so that standard output stays for results."""
    return Console(stderr=True, highlight=False, force_jupyter=False)


@contextmanager
def bar(description: str, total: float | None) -> Iterator[Advance]:
    """A progress bar; yields a function that sets how much is done so far.

    On a pipe (no terminal) the bar is drawn once, at the end.
    """
    publish = _artifact(description, total)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(), disable=total == 0) as progress:
        row = progress.add_task(description, total=total)

        def advance_to(done: float) -> None:
            progress.update(row, completed=done)
            publish(done)

        yield advance_to


def track(iterable: Iterable[Item], total: float | None, description: str) -> Iterator[Item]:
    """Iterate with a progress bar that moves one step an item."""
    with bar(description, total) as advance_to:
        for done, item in enumerate(iterable, start=1):
            yield item
            advance_to(done)


def _artifact(description: str, total: float | None) -> Callable[[float], None]:
    """A function that publishes progress to Prefect, in per cent; it does nothing outside a run."""
    if not total or not inside_a_run():
        return lambda done: None
    from uuid import UUID

    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    artifact = cast(UUID, create_progress_artifact(progress=0.0, key="progress", description=description))
    last = time.monotonic()

    def publish(done: float) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last > _ARTIFACT_SECONDS:
            last = time.monotonic()
            update_progress_artifact(artifact, 100 * done / total)

    return publish


def say(message: str) -> None:
    """One line to the person at the terminal (standard error)."""
    console().print(message, markup=False, soft_wrap=not sys.stderr.isatty())
