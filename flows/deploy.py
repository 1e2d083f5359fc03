"""What a Prefect server needs to run the lab: a work pool, where results go, automations, and the deployments.

One command applies all of it and can be repeated: what is there already stays or is brought up to date. What differs
between kinds of work pools is in the pool's template (``infra/prefect``), but for one thing: containers share no folder
with who deploys.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import yaml

from dexter_model import places
from dexter_model.errors import InputError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import WorkPool
    from prefect.events.actions import ActionTypes
    from prefect.events.schemas.automations import EventTrigger

IMAGE_DIR = "/app"  # where docker/Dockerfile has the project
BLOCK = "dexter-results"
NOTIFY = "dexter"
ZOMBIES, FAILURES = "dexter: crash runs without a heartbeat", "dexter: tell of failed runs"
FLOWS = ("build-dataset", "encode", "evaluate", "generate", "main-job", "nightly", "render", "report", "sweep", "train")
OVER = ("Completed", "Failed", "TimedOut", "Cancelled", "Crashed")


@dataclass(frozen=True)
class Lab:
    """Where a lab's runs work and what they share.

    Attributes:
        pool: name of the work pool.
        pool_type: what it starts for a run: process, docker or kubernetes; of a pool that exists it is not changed.
        image: of the containers of a new docker or kubernetes pool.
        at_once: runs of a new pool at the same time.
        out: folder or ``s3://bucket/prefix`` that all workers reach; deployments and results live below it.
        work_dir: the folder runs begin in, on workers or in the image; by default this folder, or the image's.
        crash_after: seconds without a heartbeat (they come every 30) after which a run is called crashed.
        notify: URL that gets ``{"text": ...}`` when a run fails, as chat systems' incoming webhooks take it;
            an empty one takes back what was told before, None leaves it.
    """

    pool: str = "dexter"
    pool_type: str = "process"
    image: str | None = None
    at_once: int = 4
    out: str = "dexter-out"
    work_dir: str = ""
    crash_after: int = 90
    notify: str | None = None


def deploy(lab: Lab, file: Path, *, dry_run: bool = False) -> list[str]:
    """Apply all of it to the server at ``PREFECT_API_URL``; with ``dry_run`` only look.

    Args:
        lab: where runs work.
        file: the ``prefect.yaml``.
        dry_run: change nothing.

    Returns:
        A line a thing that was done, or would be.

    Raises:
        InputError: no server is named or reached (``no_server``), the file or a pool's template beside it is none, or
            Prefect refuses it (``deploy_failed``), or workers do not share ``out`` (``not_shared``).
    """
    deployments = _deployments(file)
    with _server() as client:
        pool = _known_pool(client, lab)
        lab = _settled(lab, pool)
        lines = [
            f"work pool {lab.pool}: there, of type {lab.pool_type}" if pool else _new_pool(client, lab, file, dry_run),
            _result_storage(lab, dry_run),
            _zombies(client, lab, dry_run),
            _failures(client, lab, dry_run),
        ]
    if not dry_run:
        _prefect_deploy(lab, file)
    return [*lines, *deployments]


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    url = os.environ.get("PREFECT_API_URL")
    remedy = "Start one with `prefect server start` and export PREFECT_API_URL=http://127.0.0.1:4200/api"
    if not url:
        raise InputError("PREFECT_API_URL", "is not set, so there is no server to deploy to", remedy, "no_server")
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as error:
        raise InputError(url, f"no Prefect server answers ({type(error).__name__})", remedy, "no_server") from error


def _known_pool(client: SyncPrefectClient, lab: Lab) -> WorkPool | None:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_work_pool(lab.pool)
    except ObjectNotFound:
        return None


def _settled(lab: Lab, pool: WorkPool | None) -> Lab:
    """With the type of the pool that is there, and its places as every worker understands them."""
    kind = pool.type if pool else lab.pool_type
    work_dir = lab.work_dir or (os.getcwd() if kind == "process" else IMAGE_DIR)
    if places.is_url(lab.out):
        out = lab.out.rstrip("/")
    elif kind == "process":
        out = str(Path(work_dir, lab.out))
    else:
        reason = f"is a folder, which the containers of a {kind} pool do not share"
        raise InputError(lab.out, reason, "Name a place that all reach: --out s3://bucket/prefix", "not_shared")
    return replace(lab, pool_type=kind, work_dir=work_dir, out=out)


def _new_pool(client: SyncPrefectClient, lab: Lab, file: Path, dry_run: bool) -> str:
    from prefect.client.schemas.actions import WorkPoolCreate

    template = _template(lab, file)
    if not dry_run:
        made = WorkPoolCreate(
            name=lab.pool, type=lab.pool_type, base_job_template=template, concurrency_limit=lab.at_once
        )
        client.create_work_pool(made)
    return f"work pool {lab.pool}: new, of type {lab.pool_type}, {lab.at_once} runs at a time"


def _template(lab: Lab, file: Path) -> dict[str, Any]:
    """How a run is started: for a container the project's template, with our image; for a process Prefect's."""
    if lab.pool_type == "process":
        from prefect.workers.process import ProcessWorker

        return ProcessWorker.get_default_base_job_template()
    path = file.parent / "infra" / "prefect" / f"{lab.pool_type}-job.json"
    try:
        template: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = f"is no template of a work pool ({type(error).__name__})"
        remedy = "Run in the project's folder, or make the pool first: `prefect work-pool create`"
        raise InputError(path, reason, remedy, "deploy_failed") from None
    if lab.image:
        template["variables"]["properties"]["image"]["default"] = lab.image
    return template


def _result_storage(lab: Lab, dry_run: bool) -> str:
    from prefect.filesystems import LocalFileSystem, RemoteFileSystem

    place = places.join(lab.out, "results")
    block = RemoteFileSystem(basepath=place) if places.is_url(place) else LocalFileSystem(basepath=place)
    if not dry_run:
        block.save(BLOCK, overwrite=True)
    return f"results: {place} (block {_block_slug(lab)})"


def _block_slug(lab: Lab) -> str:
    return f"{'remote' if places.is_url(lab.out) else 'local'}-file-system/{BLOCK}"


def _zombies(client: SyncPrefectClient, lab: Lab, dry_run: bool) -> str:
    """A run whose process was killed tells nobody, but its heartbeats stop, and those of the runs inside it."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    beat = "prefect.flow-run.heartbeat"
    trigger = EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)},
        for_each={"prefect.resource.id"},
        after={beat},
        expect={beat, *(f"prefect.flow-run.{state}" for state in OVER)},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=lab.crash_after),
    )
    message = f"No heartbeat for {lab.crash_after} s: its process, machine or network is gone. Run it again to go on."
    crash = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=message, force=False)
    if not dry_run:
        _automation(client, ZOMBIES, trigger, crash)
    return f"automation “{ZOMBIES}”: after {lab.crash_after} s"


def _failures(client: SyncPrefectClient, lab: Lab, dry_run: bool) -> str:
    """Runs of deployments only, so that a failed stage inside a failed job tells once."""
    if not lab.notify:
        return _no_news(client, lab, dry_run)
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.types import SecretDict

    trigger = EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=[
            {"prefect.resource.id": "prefect.tag.dexter", "prefect.resource.role": "tag"},
            {"prefect.resource.role": "deployment"},
        ],
        expect={f"prefect.flow-run.{state}" for state in ("Failed", "TimedOut", "Crashed")},
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
    if not dry_run:
        hook = CustomWebhookNotificationBlock(
            name=NOTIFY,
            url="{{url}}",
            json_data={"text": "{{subject}}\n{{body}}"},
            headers=None,
            cookies=None,
            secrets=SecretDict({"url": lab.notify}),
        )
        tell = SendNotification(
            block_document_id=cast(UUID, hook.save(NOTIFY, overwrite=True)),
            subject="dexter: {{ flow.name }} {{ flow_run.state.name }}",
            body="{{ flow_run.name }}: {{ flow_run.state.message }}\n{{ flow_run|ui_url }}",
        )
        _automation(client, FAILURES, trigger, tell)
    return f"automation “{FAILURES}”: by webhook"


def _no_news(client: SyncPrefectClient, lab: Lab, dry_run: bool) -> str:
    """Whoever deploys from a shell that has no URL does not mean to silence what tells already; an empty one does."""
    known = client.read_automations_by_name(FAILURES)
    if known and lab.notify is None:
        return f"automation “{FAILURES}”: stays, though DEXTER_NOTIFY_URL is not set; empty, it ends it"
    if not dry_run:
        for each in known:
            client.delete_automation(each.id)
    return f"automation “{FAILURES}”: none, as DEXTER_NOTIFY_URL is {'not set' if lab.notify is None else 'empty'}"


def _automation(client: SyncPrefectClient, name: str, trigger: EventTrigger, action: ActionTypes) -> None:
    """Make it what it should be; one that is so is left alone, or runs that it waits for would be forgotten."""
    from prefect.events.schemas.automations import AutomationCore

    wanted = AutomationCore(name=name, trigger=trigger, actions=[action], enabled=True)
    known = client.read_automations_by_name(name)
    if known and (known[0].trigger, known[0].actions, known[0].enabled) == (wanted.trigger, wanted.actions, True):
        return
    if known:
        client.update_automation(known[0].id, wanted)
    else:
        client.create_automation(wanted)


def _deployments(file: Path) -> list[str]:
    """A line a deployment of the file: what it runs, and when."""
    try:
        rows = yaml.safe_load(file.read_text())["deployments"]
        return [f"deployment {row['name']}: {row['entrypoint']}{_when(row.get('schedules'))}" for row in rows]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        remedy = "Run in the project's folder, or name the file with --file"
        raise InputError(file, f"tells of no deployments ({type(error).__name__})", remedy, "deploy_failed") from None


def _when(schedules: list[dict[str, Any]] | None) -> str:
    return "".join(f", at {each.get('cron') or each}" for each in schedules or ())


def _prefect_deploy(lab: Lab, file: Path) -> None:
    """``prefect deploy --all`` with what the file takes from the environment."""
    environment = {
        **os.environ,
        "DEXTER_WORK_POOL": lab.pool,
        "DEXTER_OUT": lab.out,
        "DEXTER_WORK_DIR": lab.work_dir,
        "DEXTER_RESULTS_BLOCK": _block_slug(lab),
    }
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
        raise InputError(file, f"Prefect refused it ({last})", "Correct the file", "deploy_failed")
