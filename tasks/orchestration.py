"""Prefect when there is a server to talk to, plain functions when there is none.

With ``PREFECT_API_URL`` set, ``flow`` and ``task`` are Prefect's own decorators and every command is a run of that server.
Without it they leave a function as it is: nothing waits 15 s for an ephemeral server, and ``prefect`` is not even
imported. ``docs/decisions/0002-embedded-prefect.md`` has the measurements.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

SERVED = bool(os.environ.get("PREFECT_API_URL"))

flow: Callable[..., Any]
task: Callable[..., Any]

if SERVED:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    from prefect import flow, task
else:

    def _undecorated(function: Callable[..., Any] | None = None, **_options: Any) -> Callable[..., Any]:
        return function if function is not None else lambda decorated: decorated

    flow = task = _undecorated
