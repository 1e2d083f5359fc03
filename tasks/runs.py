"""A record of every run of a flow: what ran with which parameters, in which stages, what it took and what came of it.

A run writes one JSON file, ``runs/ID.json`` in the place that it writes to, some seconds after it began, after every
stage, every minute, and when it ends; what is refused at once for bad input leaves none. Times and costs are there and
nowhere else: whatever is digested or compared byte for byte is written by others. A flow inside another is a stage.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from logging import getLogger
from typing import Any, TypeVar

from pydantic import BaseModel

from dexter_model import places
from dexter_model.digests import code_version
from dexter_model.errors import InputError, RegressionError
from dexter_model.prices import currency
from tasks import telemetry
from tasks.meter import LOOK_SECONDS, Meter, Spent
from tasks.orchestration import SERVED

FORMAT = "dexter-run-1"
FOLDER = "runs"
RUNNING, COMPLETED, FAILED, INTERRUPTED = "running", "completed", "failed", "interrupted"
LOST = "lost"  # what a run is that says it is running and was not heard of for three beats
FIRST, PASSED = "first", "passed"  # verdicts
REGRESSION = "regression"  # an outcome and a verdict
_AT_ONCE = 16
BEAT_SECONDS = 60.0  # a record that says it is running is written anew so often

log = getLogger(__name__)
Result = TypeVar("Result")
Facts = Callable[[Any], dict[str, Any]]


class Run:
    """A run under way. ``stages`` are rows of name, seconds, CPU- and GPU-seconds, cost and what was made."""

    def __init__(self, flow: str, place: str, parameters: BaseModel) -> None:
        self.began = datetime.now(UTC)
        when = f"{self.began:%Y%m%dT%H%M%S}.{self.began.microsecond // 1000:03d}Z"
        self.id = f"{when}-{flow}-{secrets.token_hex(2)}"
        self.file = places.join(place, FOLDER, f"{self.id}.json")
        self.meter = Meter()
        self.stages: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {
            "format": FORMAT,
            "id": self.id,
            "flow": flow,
            "place": str(place),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "cluster": os.environ.get("RAY_ADDRESS", "this machine"),
            "prefect": _flow_run(),
            "code_version": code_version(),
            "parameters": parameters.model_dump(mode="json"),
            "began": _iso(self.began),
        }
        self.told = False  # whether anybody can know of this run
        self._over = threading.Event()
        currency()  # prices that are none are told now

    def write(self, outcome: str, error: str | None = None) -> None:
        """Write the record. A place that cannot be written to is told, and stops nobody."""
        self.told, now = True, datetime.now(UTC)
        content = self.about | {"outcome": outcome, "error": error, "updated": _iso(now), **summary(self.stages)}
        content |= {"spent": self.meter.read().since(Spent()), "currency": currency(), "stages": self.stages}
        try:
            places.write(self.file, (json.dumps(content, indent=1) + "\n").encode())
        except (OSError, InputError) as failure:
            log.warning("the record of this run cannot be written: %s", failure)

    def beat(self) -> None:
        """Look at the cluster every few seconds, and write the record now and every minute, until the run is over."""
        left = 0.0
        while not self._over.wait(LOOK_SECONDS):
            self.meter.read()
            left -= LOOK_SECONDS
            if left < 0:
                left = BEAT_SECONDS
                with suppress(RuntimeError):  # a row changed while it was written: the next beat tells
                    self.write(RUNNING)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """While the run runs; its outcome is written whatever happens."""
        before = os.environ.get(telemetry.RUN)
        os.environ[telemetry.RUN] = self.id  # workers tell it in what they log
        beating = threading.Thread(target=self.beat, daemon=True)
        beating.start()
        outcome, told, worth = COMPLETED, None, True
        try:
            yield
        except BaseException as error:
            outcome, told = _outcome(error), " ".join(str(error).split()) or type(error).__name__
            worth = self.told or not isinstance(error, InputError)
            raise
        finally:
            self._over.set()
            beating.join()
            if worth:
                self.write(outcome, told)
            telemetry.export()
            log.info("run over", extra={"outcome": outcome, **self.meter.read().since(Spent())})
            os.environ.pop(telemetry.RUN)
            os.environ.update({telemetry.RUN: before} if before else {})


_run: ContextVar[Run | None] = ContextVar("run", default=None)
_row: ContextVar[dict[str, Any] | None] = ContextVar("row", default=None)


def recorded(
    flow: str, place: Callable[[Any], str], facts: Facts | None = None
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Decorate a flow, a function of parameters, so that each of its runs is recorded.

    Args:
        flow: what it is called.
        place: where it writes to, by its parameters.
        facts: what is worth keeping of its result: ``digest``, ``inputs``, ``quarantined``, ``verdict``, ``figures``.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(function)
        def wrapped(parameters: Any, *more: Any, **named: Any) -> Result:
            if _run.get() is not None:
                with stage(flow) as row:
                    row["place"] = place(parameters)
                    return _told(row, facts, lambda: function(parameters, *more, **named))
            run = Run(flow, place(parameters), parameters)
            token = _run.set(run)
            try:
                with run.under_way():
                    return _alone(run, flow, facts, lambda: function(parameters, *more, **named))
            finally:
                _run.reset(token)

        # Prefect looks annotations up in the wrapper's module, which does not have them: here they are resolved.
        wrapped.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
        return wrapped

    return decorate


def _alone(run: Run, flow: str, facts: Facts | None, work: Callable[[], Result]) -> Result:
    """Do the work of a flow that nobody called; it is its own only stage unless it has stages."""
    row: dict[str, Any] = {}
    try:
        return _told(row, facts, work)
    finally:
        if not run.stages:
            place = run.about["place"]
            run.stages.append({"name": flow, "place": place, **run.meter.read().since(Spent()), **row})


def _told(row: dict[str, Any], facts: Facts | None, work: Callable[[], Result]) -> Result:
    """Do a flow's work and note the facts of its result, also of one that is worse than its baseline."""
    tell: Facts = facts or (lambda _: {})
    try:
        result = work()
    except RegressionError as error:
        row |= tell(error.result)
        raise
    row |= tell(result)
    return result


def stages_done() -> list[dict[str, Any]]:
    """The rows of the stages that are done of the run under way."""
    run = _run.get()
    return list(run.stages) if run else []


@contextmanager
def stage(name: str) -> Iterator[dict[str, Any]]:
    """A stage of the run under way; yields its row, to note what it made. Inside another stage it is that one."""
    run, row = _run.get(), _row.get()
    if row is not None:
        yield row
        return
    meter = run.meter if run else Meter()
    before, row = meter.read(), {"name": name}
    token = _row.set(row)
    try:
        yield row
    finally:
        _row.reset(token)
        row |= {**meter.read().since(before), **row}
        if run:
            run.stages.append(row)
            run.write(RUNNING)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the stages say of the run as a whole."""
    last = {name: row[name] for row in rows for name in ("verdict", "figures") if name in row}
    refused = sum(row.get("quarantined", 0) for row in rows)
    return {"quarantined": refused, "verdict": last.get("verdict"), "figures": last.get("figures", {})}


def _outcome(error: BaseException) -> str:
    if isinstance(error, RegressionError):
        return REGRESSION
    return FAILED if isinstance(error, Exception) else INTERRUPTED


def _flow_run() -> dict[str, str] | None:
    """Which run of the Prefect server this is."""
    if not SERVED:
        return None
    from prefect.runtime import flow_run

    return {"id": str(flow_run.id), "name": str(flow_run.name)} if flow_run.id else None


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="seconds")


def find_runs(place: str) -> list[str]:
    """The files of the runs recorded at a place and in the folders in it, newest first."""
    files = [file for folder in (place, *places.folders(place)) for file in _files(places.join(folder, FOLDER))]
    return sorted(set(files), key=lambda file: file.rpartition("/")[2], reverse=True)


def _files(folder: str) -> list[str]:
    return [places.join(folder, name) for name in places.names(folder) if name.endswith(".json") and "/" not in name]


def read_run(place: str) -> dict[str, Any]:
    """A run, with ``file``, where it is recorded.

    Args:
        place: the file of a record, or a place whose latest run is meant.

    Raises:
        InputError: no run is recorded there (``no_runs``), or the file is no record (``record_unreadable``).
    """
    file = place
    if not place.endswith(".json"):
        found = find_runs(place)
        if not found:
            remedy = "Name the folder that a flow wrote to, or a file of `dexter runs list`"
            raise InputError(place, "no run is recorded here", remedy, "no_runs")
        file = found[0]
    try:
        record = json.loads(places.read(file))
        if record["format"] != FORMAT:
            raise ValueError(f"of the format {record['format']}")
        return record | {"file": file}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"is no record of a run ({type(error).__name__}: {error})"
        raise InputError(file, reason, "Name a file of `dexter runs list`", "record_unreadable") from error


def list_runs(place: str, limit: int | None = None) -> list[dict[str, Any]]:
    """The runs at a place and in the folders in it, newest first; files that are no records are left out."""

    def read(file: str) -> list[dict[str, Any]]:
        with suppress(InputError):
            return [read_run(file)]
        return []

    with ThreadPoolExecutor(_AT_ONCE) as threads:  # at S3 each costs a round trip
        return [record for found in threads.map(read, find_runs(place)[:limit]) for record in found]


def state(record: Mapping[str, Any], now: datetime | None = None) -> str:
    """The outcome of a run, or ``LOST``."""
    silent = ((now or datetime.now(UTC)) - datetime.fromisoformat(record["updated"])).total_seconds()
    return LOST if record["outcome"] == RUNNING and silent > 3 * BEAT_SECONDS else str(record["outcome"])
