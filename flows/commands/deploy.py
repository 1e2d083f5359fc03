"""``dexter deploy``: make a Prefect server run the lab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.commands import options

PoolType = Literal["process", "docker", "kubernetes"]


def deploy(
    file: Annotated[Path, typer.Option(help="The deployments.")] = Path("prefect.yaml"),
    pool: Annotated[str, typer.Option(envvar="DEXTER_WORK_POOL", help="Work pool.")] = "dexter",
    pool_type: Annotated[
        PoolType, typer.Option(envvar="DEXTER_WORK_POOL_TYPE", help="What a new pool starts for a run.")
    ] = "process",
    image: Annotated[
        str | None, typer.Option(envvar="DEXTER_IMAGE", help="Image that a new docker or kubernetes pool starts.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Runs of a new pool at the same time.")] = 4,
    out: Annotated[
        str, typer.Option(envvar="DEXTER_OUT", help="Folder or s3://bucket/prefix that every worker reaches.")
    ] = "dexter-out",
    work_dir: Annotated[
        str,
        typer.Option(
            envvar="DEXTER_WORK_DIR", help="Folder that runs begin in.", show_default="this folder; in containers /app"
        ),
    ] = "",
    crash_after: Annotated[
        int, typer.Option(min=35, help="Seconds without a heartbeat, one every 30, until a run is called crashed.")
    ] = 90,
    dry_run: options.DryRun = False,
) -> None:
    """Make the Prefect server at PREFECT_API_URL run the lab: work pool, result storage, automations, deployments.

    Can be repeated. Runs whose process is gone are marked crashed when their heartbeats stop. DEXTER_NOTIFY_URL is an
    incoming webhook (Slack, Mattermost) that is told of failed runs; an empty one ends that. Then: prefect worker start
    --pool dexter
    """
    from flows.deploy import Lab
    from flows.deploy import deploy as apply

    lab = Lab(pool, pool_type, image, at_once, out, work_dir, crash_after, os.environ.get("DEXTER_NOTIFY_URL"))
    for line in apply(lab, file, dry_run=dry_run):
        print(line)
