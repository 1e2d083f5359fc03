"""``dexter nightly``: the evaluation of every night."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands import options


def nightly(
    config: options.Config = None,
    store: Annotated[str | None, typer.Option(help="The data set.", show_default="dexter-out/dataset")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="The checkpoint to render or generate with.", show_default="the model that ships")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the nights.", show_default="dexter-out/nightly")] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Make the latest night what later ones are held against; run nothing.")
    ] = False,
    overrides: options.Overrides = None,
    dry_run: options.DryRun = False,
) -> None:
    """Bring the data set up to date, render its test split, and judge it beside the accepted night.

    With a generator's settings under `generate` it makes pieces instead, and holds them against the data set's held-out
    music: dexter nightly configs/nightly_generator.yaml.

    Every night goes to nights/DATE_COMMIT with its renders, evaluation and report.html; nights.json tells of all. The
    first is accepted. A night that is worse than the accepted one by more than its tolerances is a regression: exit
    code 3, and a failed run where there is a Prefect server. Example: dexter nightly configs/nightly.yaml --dry-run
    """
    from flows.configuration import load
    from flows.parameters import NightlyParameters

    parameters = load(NightlyParameters, config, overrides or (), {"build.store": store, "out": out})
    if checkpoint is not None:
        (parameters.generate or parameters.render).checkpoint = checkpoint
    from flows import nightly as flow

    if accept:
        print(flow.accept(parameters.out))
    elif dry_run:
        for line in flow.dry_run(parameters):
            print(line)
    else:
        print(flow.nightly(parameters).report)
