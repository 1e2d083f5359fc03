"""What this process did, counted: refusals, requests, bytes. Whoever watches takes the counts away.

Nothing here knows of a cluster or a monitoring system; ``tasks.telemetry`` hands the counts on to Ray's metrics. Events
that an operator wants to find are log records of the standard library, with what they are about as ``extra``.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.client import BaseClient

Counted = tuple[str, tuple[tuple[str, str], ...]]  # what, and its labels

_lock = threading.Lock()
_counts: Counter[Counted] = Counter()

log = logging.getLogger(__name__)


def count(what: str, amount: float = 1, **labels: str) -> None:
    """Count something; safe in threads. ``tasks.telemetry.COUNTERS`` lists what is counted, with which labels."""
    with _lock:
        _counts[what, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]


def take() -> dict[Counted, float]:
    """What was counted since the last call."""
    with _lock:
        taken: dict[Counted, float] = dict(_counts)
        _counts.clear()
    return taken


def watch_s3(client: BaseClient) -> None:
    """Count a boto3 client's requests, each attempt, and the bytes of their bodies; log the attempts that failed."""
    events = client.meta.events
    events.register("before-send.s3", _sent)
    events.register("response-received.s3", _received)
    events.register("needs-retry.s3", _failed)


def _sent(request: Any, **_: Any) -> None:
    count("s3_bytes", int(request.headers.get("Content-Length") or 0), direction="sent")


def _received(event_name: str, response_dict: Any = None, **_: Any) -> None:
    answer, operation = response_dict or {}, event_name.rpartition(".")[2]
    count("s3_requests", operation=operation, status=str(answer.get("status_code", "none")))
    length = answer.get("headers", {}).get("content-length") if operation != "HeadObject" else None
    count("s3_bytes", int(length or 0), direction="received")


def _failed(event_name: str, attempts: int = 1, response: Any = None, caught_exception: Any = None, **_: Any) -> None:
    status = response[0].status_code if response is not None else None
    if caught_exception is not None or (status is not None and (status >= 500 or status == 429)):
        told = {"operation": event_name.rpartition(".")[2], "attempt": attempts, "status": status}
        log.info("storage request failed", extra={**told, "error": repr(caught_exception)})
