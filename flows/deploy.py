"""What a Prefect server needs to run the lab: a work pool, where results go, automations, and the deployments.

One command applies all of it and can be repeated: what is there already stays or is brought up to date. Nothing here
knows what kind of work pool it is; deployments name it, and what differs (an image) is the pool's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import UUID

import yaml

from dexter_model import places
from dexter_model.errors import InputError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.actions import ActionTypes
    from prefect.events.schemas.automations import EventTrigger

PoolType = Literal["process", "docker", "kubernetes"]
BLOCK = "dexter-results"
NOTIFY = "dexter"
ZOMBIES, FAILURES = "dexter: crash runs without a heartbeat", "dexter: tell of failed runs"
FLOWS = ("build-dataset", "encode", "evaluate", "main-job", "nightly", "render", "report", "sweep", "train")
OVER = ("Completed", "Failed", "TimedOut", "Cancelled", "Crashed")


@dataclass(frozen=True)
class Lab:
    """Where a lab's runs work and what they share.

    Attributes:
        pool: name of the work pool.
        pool_type: what it starts for a run; of a pool that exists it is not changed.
        image: of the containers of a new docker or kubernetes pool.
        at_once: runs of a new pool at the same time.
        out: folder or ``s3://bucket/prefix`` that all workers reach; deployments and results live below it.
        work_dir: the folder runs begin in, on workers or in the image.
        crash_after: seconds without a heartbeat (they come every 30) after which a run is called crashed.
        notify: URL that gets ``{"text": ...}`` when a run fails, as chat systems' incoming webhooks take it.
    """

    pool: str = "dexter"
    pool_type: PoolType = "process"
    image: str | None = None
    at_once: int = 4
    out: str = "dexter-out"
    work_dir: str = "."
    crash_after: int = 90
    notify: str | None = None

    @property
    def shared(self) -> str:
        """``out`` as every worker understands it."""
        return self.out.rstrip("/") if places.is_url(self.out) else str(Path(self.work_dir, self.out))


def deploy(lab: Lab, file: Path, *, dry_run: bool = False) -> list[str]:
    """Apply all of it to the server at ``PREFECT_API_URL``; with ``dry_run`` only look.

    Args:
        lab: where runs work.
        file: the ``prefect.yaml``.
        dry_run: change nothing.

    Returns:
        A line a thing that was done, or would be.

    Raises:
        InputError: no server is named or reached (``no_server``), the file is none, or Prefect refuses it
            (``deploy_failed``).
    """
    deployments = _deployments(file)
    with _server() as client:
        lines = [
            _work_pool(client, lab, dry_run),
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


def _work_pool(client: SyncPrefectClient, lab: Lab, dry_run: bool) -> str:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        pool = client.read_work_pool(lab.pool)
        return f"work pool {pool.name}: there, of type {pool.type}"
    except ObjectNotFound:
        if not dry_run:
            made = WorkPoolCreate(
                name=lab.pool,
                type=lab.pool_type,
                base_job_template=_job_template(lab),
                concurrency_limit=lab.at_once,
            )
            client.create_work_pool(made)
        return f"work pool {lab.pool}: new, of type {lab.pool_type}, {lab.at_once} runs at a time"


def _job_template(lab: Lab) -> dict[str, Any]:
    """Prefect's own for the pool's type, with our image where containers are started."""
    from prefect.utilities.asyncutils import run_coro_as_sync
    from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type as default_template

    template: dict[str, Any] = run_coro_as_sync(default_template(lab.pool_type)) or {}
    image = template.get("variables", {}).get("properties", {}).get("image")
    if image is not None and lab.image:
        image["default"] = lab.image
    return template


def _result_storage(lab: Lab, dry_run: bool) -> str:
    from prefect.filesystems import LocalFileSystem, RemoteFileSystem

    place = places.join(lab.shared, "results")
    block = RemoteFileSystem(basepath=place) if places.is_url(place) else LocalFileSystem(basepath=place)
    if not dry_run:
        block.save(BLOCK, overwrite=True)
    return f"results: {place} (block {_block_slug(lab)})"


def _block_slug(lab: Lab) -> str:
    return f"{'remote' if places.is_url(lab.shared) else 'local'}-file-system/{BLOCK}"


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
        return f"automation “{FAILURES}”: none, as DEXTER_NOTIFY_URL is not set"
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
        "DEXTER_OUT": lab.shared,
        "DEXTER_WORK_DIR": lab.work_dir,
        "DEXTER_RESULTS_BLOCK": _block_slug(lab),
    }
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
        raise InputError(file, f"Prefect refused it ({last})", "Correct the file", "deploy_failed")
