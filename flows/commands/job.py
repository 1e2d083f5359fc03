"""``dexter run``: the main job."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands import options


def run(
    config: options.Config = None,
    out: Annotated[
        str | None, typer.Option(help="Folder of everything the job writes.", show_default="dexter-out")
    ] = None,
    overrides: options.Overrides = None,
    dry_run: options.DryRun = False,
) -> None:
    """Run the main job: build, train, render, evaluate, report. What is done already is kept.

    Unless render.checkpoint names another, it renders with the best checkpoint of the training by validation.

    Example: dexter run configs/demo.yaml -s train.training.steps=500
    """
    from flows.configuration import load
    from flows.parameters import JobParameters

    parameters = load(JobParameters, config, overrides or (), {"out": out})
    if dry_run:
        print(parameters.model_dump_json(indent=1))
        return
    from flows.job import run as flow

    print(flow(parameters))
