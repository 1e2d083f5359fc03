"""Prefect when there is a server to talk to, plain functions when there is none.

With ``PREFECT_API_URL`` set, ``flow`` and ``task`` are Prefect's own decorators and every command is a run of that
server. Without it they leave a function as it is: nobody waits 15 s for an ephemeral server, and ``prefect`` is not
even imported. ``docs/decisions/0002-embedded-prefect.md`` has the measurements.
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


def inside_a_run() -> bool:
    """Whether a Prefect flow or task is running in this thread."""
    if not SERVED:
        return False
    from prefect.context import FlowRunContext, TaskRunContext

    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def publish_markdown(key: str, markdown: str, description: str = "") -> None:
    """Publish a text as a Prefect artifact of the current run; embedded, there is nowhere to publish to."""
    if inside_a_run():
        from prefect.artifacts import create_markdown_artifact

        create_markdown_artifact(markdown=markdown, key=key, description=description)


def publish_link(key: str, url: str, text: str) -> None:
    """Publish a link as a Prefect artifact of the current run."""
    if inside_a_run():
        from prefect.artifacts import create_link_artifact

        create_link_artifact(link=url, link_text=text, key=key)
