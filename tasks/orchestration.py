"""Prefect when there is a server to talk to, plain functions when there is none.

With ``PREFECT_API_URL`` set, ``flow`` and ``task`` are Prefect's own decorators and every command is a run of that
server. Without it they leave a function as it is: nobody waits 15 s for an ephemeral server, and ``prefect`` is not
even imported. ``docs/decisions/0002-embedded-prefect.md`` has the measurements.

A flow's result is kept as JSON, never as a pickle; a task, which is one unit of work, is tried again when storage
failed and for no other reason. Stages find by themselves what is done already, so Prefect caches nothing.

A server that is away costs no work. Prefect's own questions, at the beginning and the end of each flow, are asked for
some four minutes; whatever else merely tells the server something may fail, and that is logged (``told``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from logging import getLogger
from threading import Event
from typing import Any

from dexter_model import places, s3
from dexter_model.digests import code_version, sha256_bytes
from dexter_model.errors import storage_trouble

SERVED = bool(os.environ.get("PREFECT_API_URL"))
RETRIES = 3  # after some 10, 20 and 40 s, jittered; whatever speaks to S3 has tried more often by then
HOUR = 3600.0  # seconds
DAY = 24 * HOUR
LEASE_SECONDS = 60  # after which a place is free again whose writer was killed; the server takes no less
_LINK_SECONDS = 7 * 24 * 3600  # the longest that S3 lets a signed link live

_held: list[str] = []  # places that runs of this process are the only writers of
_away = Event()  # set while the server does not answer, so that each outage is logged once

log = getLogger(__name__)

flow: Callable[..., Any]
task: Callable[..., Any]


def storage_failed(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task failed as storage did, so that trying again may help (a retry condition)."""
    return storage_trouble(state.result(raise_on_failure=False))


if SERVED:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # Too late where Prefect imported this module, in a worker: prefect.yaml has these two as well.
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")  # seconds; of runs that stop, see flows/deploy.py
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "7")  # after 2, 4, ... 128 s
    import prefect
    from prefect.cache_policies import NO_CACHE
    from prefect.tasks import exponential_backoff

    flow = partial(prefect.flow, persist_result=True, result_serializer="json")
    task = partial(
        prefect.task,
        persist_result=False,
        cache_policy=NO_CACHE,
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(backoff_factor=10),
        retry_jitter_factor=1.0,
        retry_condition_fn=storage_failed,
    )
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


@contextmanager
def told(what: str, *, at_once: bool = False) -> Iterator[None]:
    """Tell the server something that no work depends on: if it cannot be told, that is logged, once an outage.

    Args:
        what: what it is not told then.
        at_once: try once, instead of waiting for the server as long as Prefect's own questions do.
    """
    import httpx
    from prefect.exceptions import PrefectException
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0} if at_once else {}):
            yield
        _away.clear()
    except (httpx.HTTPError, PrefectException) as error:
        if not _away.is_set():
            log.warning("the Prefect server is not told %s: %s", what, error or type(error).__name__)
        _away.set()


@contextmanager
def only_writer(place: str, *, shared: bool = False) -> Iterator[None]:
    """Wait until no other run of the server writes to a place, and keep them out meanwhile.

    A data set, a folder of renders and one of checkpoints are each read again by who writes them, to go on from there:
    two writers would do the same work twice, and the later would forget what the earlier did. Who holds a place holds
    all inside it, and may ask for it twice. What is ``shared`` is held by itself all the same: other runs write to a
    data set that know nothing of the folder which a job has around it.

    The limit is leased and the lease renewed, so that a killed writer keeps others out for ``LEASE_SECONDS`` and no
    longer, where the server keeps leases in files (``docker/compose.yaml``). A server that is away for a while stops
    nobody: data sets have a guard of their own beneath this one (``store_busy``).
    """
    where = places.absolute(place)
    inside = not shared and any(where.startswith(f"{held}/") for held in _held)
    if not inside_a_run() or inside or where in _held:
        yield
        return
    from prefect.concurrency.sync import concurrency

    name = _limit(where)
    lease = ExitStack()
    lease.enter_context(
        concurrency(name, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False)
    )
    _held.append(where)
    try:
        yield
    finally:
        _held.remove(where)
        with told(f"that {where} is free again"):
            lease.close()


def _limit(where: str) -> str:
    """The global concurrency limit of an absolute place, one at a time, made when there is none; its name."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectAlreadyExists

    word = re.sub(r"[^\w.-]+", "-", places.name_of(where))
    name = f"writer-of-{word}-{sha256_bytes(where.encode())[:12]}"
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):  # made by another run meanwhile
        client.upsert_global_concurrency_limit_by_name(name, limit=1)
    return name


def tag_run(**what: str | None) -> None:
    """Tag the current run with what it works on and the code it runs, as ``name:value``."""
    if not inside_a_run():
        return
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    known = {"code": code_version(), **what}
    run = context.flow_run
    run.tags = sorted({*run.tags, *(f"{name}:{value}" for name, value in known.items() if value)})
    with told("the run's tags"), get_client(sync_client=True) as client:
        client.update_flow_run(run.id, tags=run.tags)


def publish_markdown(key: str, markdown: str, description: str = "") -> None:
    """Publish a text as a Prefect artifact of the current run; embedded, there is nowhere to publish to."""
    if inside_a_run():
        from prefect.artifacts import create_markdown_artifact

        with told(f"of {key}"):
            create_markdown_artifact(markdown=markdown, key=key, description=description)


def publish_link(key: str, place: str, text: str) -> None:
    """Publish a link to a file as a Prefect artifact of the current run, beside the file's place, which stays."""
    if inside_a_run():
        from prefect.artifacts import create_link_artifact

        with told(f"of {key}"):
            create_link_artifact(link=link_to(place), link_text=text, key=key, description=f"`{place}`")


def link_to(place: str) -> str:
    """What a browser opens: ``file://``, or a signed link of S3 that whoever has it can follow.

    It ends after a week, or with the credentials that signed it: those of a role last for hours.
    """
    if not places.is_url(place):
        return places.local(place).resolve().as_uri()
    bucket, _, key = place.removeprefix("s3://").partition("/")
    asked = {"Bucket": bucket, "Key": key, "ResponseContentType": "text/html"}
    return s3.client().generate_presigned_url("get_object", Params=asked, ExpiresIn=_LINK_SECONDS)
