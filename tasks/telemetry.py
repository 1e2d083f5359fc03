"""What an operator sees of work under way: log records as JSON lines, and metrics at Ray's Prometheus endpoints.

With ``DEXTER_LOG=json`` every process of a run, Ray's workers among them, writes one JSON object a line on standard
error: when, what, and the ids of run, node, actor and piece. Without it a person sees what ``progress`` says, and
warnings.

Metrics are exported while Ray runs and do nothing otherwise. What is counted where is in ``COUNTERS`` and ``GAUGES``;
Ray calls them ``ray_dexter_..._total`` and ``ray_dexter_...``. A process hands its counts over every few seconds, so a
worker that is killed loses the last ones: the driver counts whatever must add up.
"""

from __future__ import annotations

import contextvars
import functools
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from dexter_model.tally import take

LOG = "DEXTER_LOG"  # json, or nothing
RUN = "DEXTER_RUN"  # id of the run that this process works for; Ray's workers get it with our other variables
FLOORS = ("dexter_model", "tasks", "flows")

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pieces_done": ("Pieces encoded or evaluated, and performances rendered, by kind of work", ("work",)),
    "quarantined": ("What could not be used, by reason code", ("work", "code")),
    "jobs_redone": ("Jobs that run again since their worker or node was lost, by cause", ("cause",)),
    "s3_requests": ("Requests to S3, each attempt, Icechunk's aside", ("operation", "status")),
    "s3_bytes": ("Bytes of bodies to and from S3, Icechunk's aside", ("direction",)),
    "store_retries": ("What was done again in data sets at S3, after storage had failed in passing", ()),
    "store_bytes": ("Bytes of arrays written to and read from data sets, before compression", ("direction",)),
}
GAUGES: dict[str, str] = {
    "jobs_waiting": "Jobs of a fan-out that no worker has yet",
    "jobs_running": "Jobs that workers have",
    "actors": "Workers that are ready",
}

_ids: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar("ids", default=None)
_process: dict[str, str] = {}  # ids that hold for all of this process
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


@contextmanager
def bound(**ids: Any) -> Iterator[None]:
    """Ids that every log record inside has, such as ``corpus`` and ``piece``."""
    token = _ids.set({**(_ids.get() or {}), **ids})
    try:
        yield
    finally:
        _ids.reset(token)


class JsonLines(logging.Formatter):
    """A log record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (UTC), level, logger, event, the ids that are bound, and what the record tells besides."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **({"run": os.environ[RUN]} if RUN in os.environ else {}),
            **_process,
            **(_ids.get() or {}),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"},
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def start_logging() -> None:
    """Write log records of ours as ``DEXTER_LOG`` says; further calls in a process change nothing."""
    if os.environ.get(LOG) != "json":
        return
    for floor in FLOORS:
        logger = logging.getLogger(floor)
        if not logger.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(JsonLines())
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False


def start_in_actor() -> None:
    """Log from a Ray actor, with its id and its node's."""
    import ray

    context = ray.get_runtime_context()
    _process.update(node=context.get_node_id(), actor=context.get_actor_id() or "")
    start_logging()


def export() -> None:
    """Hand what was counted to Ray's metrics, if Ray runs here."""
    if _ray_runs():
        for (name, labels), amount in take().items():
            if amount > 0:  # Ray refuses to count nothing
                _metric(name).inc(amount, dict(labels))


def show(**gauges: float) -> None:
    """Set gauges of ``GAUGES``, if Ray runs here; and hand over what was counted."""
    if _ray_runs():
        for name, value in gauges.items():
            _metric(name).set(value)
        export()


def _ray_runs() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@functools.cache
def _metric(name: str) -> Any:
    from ray.util.metrics import Counter, Gauge

    if name in GAUGES:
        return Gauge(f"dexter_{name}", description=GAUGES[name])
    description, labels = COUNTERS[name]
    return Counter(f"dexter_{name}", description=description, tag_keys=labels)
