"""Progress a person sees: a bar in the terminal and, in a Prefect run, a progress artifact.

The artifact is brought up to date by a thread: work does not wait for a server that is slow or away.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar, cast
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tasks.orchestration import inside_a_run, told

Item = TypeVar("Item")
Advance = Callable[[float], None]
_ARTIFACT_SECONDS = 2.0  # a progress artifact is an HTTP request: no more often than this
_LAST_SECONDS = 5.0  # that work waits at its end, so that the whole of it is shown


def console() -> Console:
    """Where messages to a person go: standard error, so that standard output stays for results."""
    return Console(stderr=True, highlight=False, force_jupyter=False)


@contextmanager
def bar(description: str, total: float | None) -> Iterator[Advance]:
    """A progress bar; yields a function that sets how much is done so far.

    On a pipe (no terminal) the bar is drawn once, at the end.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with (
        _artifact(description, total) as publish,
        Progress(*columns, console=console(), disable=total == 0) as progress,
    ):
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


@contextmanager
def _artifact(description: str, total: float | None) -> Iterator[Advance]:
    """Yields a function that has progress published to Prefect, in per cent; it does nothing outside a run."""
    if not total or not inside_a_run():
        yield lambda done: None
        return
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    per_cent, over = 0.0, threading.Event()

    def advance_to(done: float) -> None:
        nonlocal per_cent
        per_cent = 100 * done / total

    def publish() -> None:
        artifact: UUID | None = None
        shown, ended = None, False
        while not ended:
            ended = over.wait(_ARTIFACT_SECONDS)
            newest = per_cent
            if newest == shown:
                continue
            with told("how far it is", at_once=True):
                if artifact is None:
                    artifact = cast(UUID, create_progress_artifact(newest, key="progress", description=description))
                else:
                    update_progress_artifact(artifact, newest)
                shown = newest

    publisher = threading.Thread(target=copy_context().run, args=(publish,), daemon=True)
    publisher.start()
    try:
        yield advance_to
    finally:
        over.set()
        publisher.join(_LAST_SECONDS)


def say(message: str) -> None:
    """One line to the person at the terminal (standard error)."""
    console().print(message, markup=False, soft_wrap=not sys.stderr.isatty())
