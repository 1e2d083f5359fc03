"""What the platform does now and next: of a Prefect server, of a Ray cluster, of the records of runs at places.

Each part is looked at by itself, and one that is out of reach is told as such beside the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dexter_model.errors import InputError
from tasks.runs import COMPLETED, LOST, REGRESSION, RUNNING, list_runs, state

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

NIGHTLY = "nightly"  # the flow's name in records, and the key of its artifact
LATE = timedelta(seconds=60)  # after its hour a run that has not begun is late
SOON = 10  # scheduled runs told
RUNS_SEEN = 100  # records looked through for the last night
PATIENCE = 10.0  # seconds that the server is given for an answer

Part = dict[str, Any]


def prefect_status() -> Part:
    """What runs, what comes next, deployments, workers, and how the last nights went, by the server at PREFECT_API_URL.

    Raises:
        InputError: it does not answer (``prefect_unreachable``).
    """
    url = os.environ["PREFECT_API_URL"]
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    # Who asks for the status does not wait for a server that is away; one that is busy (503) is asked again once.
    hasty = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_API_REQUEST_TIMEOUT: PATIENCE})
    try:
        with hasty, get_client(sync_client=True) as client:
            return {"url": url, **_flow_runs(client), **_deployments(client), **_last_nights(client)}
    except (httpx.HTTPError, PrefectException, OSError, RuntimeError) as error:
        remedy = "Start it, or correct PREFECT_API_URL"
        raise InputError(url, f"no Prefect server answers ({error})", remedy, "prefect_unreachable") from error


def _flow_runs(client: SyncPrefectClient) -> Part:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    def of(*types: StateType) -> FlowRunFilter:
        return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))))

    under_way = of(StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
    running = client.read_flow_runs(flow_run_filter=under_way, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=50)
    coming = client.read_flow_runs(
        flow_run_filter=of(StateType.SCHEDULED), sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=SOON
    )
    now = datetime.now(UTC)
    return {
        "running": [
            {"name": run.name, "state": run.state_name, "since": _time(run.start_time), "tags": run.tags}
            for run in running
            if run.parent_task_run_id is None
        ],
        "scheduled": [
            {
                "name": run.name,
                "at": _time(run.expected_start_time),
                "late": run.expected_start_time is not None and run.expected_start_time < now - LATE,
                "tags": run.tags,
            }
            for run in coming
        ],
    }


def _deployments(client: SyncPrefectClient) -> Part:
    from prefect.client.schemas.objects import WorkerStatus

    flows = {flow.id: flow.name for flow in client.read_flows()}
    workers: dict[str, int] = {}
    for pool in client.read_work_pools():
        there = client.read_workers_for_work_pool(pool.name)
        workers[pool.name] = sum(worker.status == WorkerStatus.ONLINE for worker in there)
    return {
        "workers": workers,
        "deployments": [
            {
                "name": f"{flows.get(each.flow_id)}/{each.name}",
                "paused": each.paused,
                "schedules": [_schedule(schedule.schedule) for schedule in each.schedules if schedule.active],
            }
            for each in client.read_deployments()
        ],
    }


def _schedule(schedule: Any) -> str:
    return str(getattr(schedule, "cron", None) or getattr(schedule, "interval", None) or schedule)


def _last_nights(client: SyncPrefectClient) -> Part:
    """Of each place that nights go to, the newest run of the nightly flow that is over.

    Nights that a deployment's limit cancelled before they began, as another was at work, are none.
    """
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import TERMINAL_STATES, StateType
    from prefect.client.schemas.sorting import FlowRunSort

    types = filters.FlowRunFilterStateType(any_=list(TERMINAL_STATES))
    over = client.read_flow_runs(
        flow_filter=filters.FlowFilter(name=filters.FlowFilterName(any_=[NIGHTLY])),
        flow_run_filter=filters.FlowRunFilter(state=filters.FlowRunFilterState(type=types)),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=RUNS_SEEN,
    )
    nights = [run for run in over if run.run_count or run.state_type != StateType.CANCELLED]
    newest = {_place(run.parameters): run for run in reversed(nights)}
    return {"nights": [_night(client, run, place) for place, run in newest.items()]}


def _place(parameters: Mapping[str, Any]) -> str:
    """Where a run of a flow was to write to; '' where that was not said."""
    given = parameters.get("parameters")
    return str(given.get("out", "")) if isinstance(given, Mapping) else ""


def _night(client: SyncPrefectClient, night: FlowRun, of: str) -> Part:
    """A night, its verdict and headline by the first line of its artifact."""
    from prefect.client.schemas import filters

    mine = filters.ArtifactFilter(
        key=filters.ArtifactFilterKey(any_=[NIGHTLY]), flow_run_id=filters.ArtifactFilterFlowRunId(any_=[night.id])
    )
    found = client.read_artifacts(artifact_filter=mine, limit=1)
    told = re.match(r"\*\*(\w+)\*\*: (.*)", str(found[0].data)) if found else None
    verdict, headline = told.groups() if told else (None, (night.state.message if night.state else None) or "")
    outcome = str(night.state_name).lower()
    return {"of": of, "outcome": outcome, "verdict": verdict, "headline": headline, "at": _time(night.end_time)}


def _time(when: datetime | None) -> str | None:
    return when.astimezone(UTC).isoformat(timespec="seconds") if when else None


def records_status(places: Sequence[str]) -> Part:
    """What runs, was lost, and how the last night at each place went, by the records of runs.

    Raises:
        InputError: a place cannot be read.
    """
    records = [record for place in places for record in list_runs(place, RUNS_SEEN)]
    records.sort(key=lambda record: record["began"], reverse=True)
    nights = [record for record in records if record["flow"] == NIGHTLY and state(record) != RUNNING]
    newest = {record["place"]: record for record in reversed(nights)}
    return {
        "places": list(places),
        "running": [_of(record) for record in records if state(record) == RUNNING],
        "lost": [_of(record) for record in records if state(record) == LOST],
        "last": [_of(record) for record in records[:SOON]],
        "nights": [_of(record) | {"of": place, "headline": _headline(record)} for place, record in newest.items()],
    }


def _of(record: Part) -> Part:
    told = {name: record[name] for name in ("flow", "began", "updated", "verdict", "error", "file")}
    return told | {"outcome": state(record), "seconds": record["spent"]["seconds"], "cost": record["spent"]["cost"]}


def _headline(record: Part) -> str:
    if state(record) == LOST:
        return f"not heard of since {record['updated']}"
    told = [row["headline"] for row in record["stages"] if "headline" in row]
    return told[-1] if told and record["outcome"] in (COMPLETED, REGRESSION) else record["error"] or ""


def ray_status() -> Part:
    """Nodes, what they have and what of it is free, of the cluster at RAY_ADDRESS.

    Raises:
        InputError: it cannot be joined (``ray_unreachable``).
    """
    from tasks.cluster import ray_session

    address = os.environ["RAY_ADDRESS"]
    try:
        ray = ray_session()
        nodes, free = ray.nodes(), ray.available_resources()
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = f"no Ray cluster can be joined ({' '.join(str(error).split())})"
        raise InputError(address, reason, "Start it, or correct RAY_ADDRESS", "ray_unreachable") from error
    kinds = ("CPU", "GPU", "memory", "object_store_memory")
    return {
        "address": address,
        "nodes": [
            {
                "id": node["NodeID"][:12],
                "host": node["NodeManagerHostname"],
                "alive": node["Alive"],
                **{kind: node["Resources"][kind] for kind in kinds if kind in node["Resources"]},
            }
            for node in nodes
        ],
        "free": {kind: free.get(kind, 0.0) for kind in kinds if any(kind in node["Resources"] for node in nodes)},
    }


def store_status(url: str) -> Part:
    """The current version of a data set.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from dexter_model.dataset.history import published
    from dexter_model.dataset.store import open_version

    current = open_version(url)
    return {
        "url": url,
        "version": current.id,
        "digest": current.digest,
        "published": _time(published(url)),
        "pieces": current.catalogue.height,
        "performances": current.performances.height,
        "quarantined": current.quarantine.height,
    }
