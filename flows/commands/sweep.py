"""``dexter sweep``: many ways to render beside each other."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands import options


def sweep(
    config: options.Config = None,
    store: Annotated[str | None, typer.Option(help="The data set whose split is rendered.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder of everything the sweep writes.", show_default="dexter-out/sweep")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Ray actors of rendering and of evaluation.", show_default="by the work")
    ] = None,
    overrides: options.Overrides = None,
    dry_run: options.DryRun = False,
) -> None:
    """Render a data set's split with every setting of a grid, evaluate all, and tell which is worth its cost.

    Any parameter of rendering can be swept (steps, guidance, sampler, checkpoint, ...). Writes renders/SETTING/,
    evaluation/, sweep.json and report.html; renders that are there already are kept. Settings and renders that cannot
    be compared are told and the exit code is 4. Example: dexter sweep configs/sweep.yaml -s grid.steps=[5,20]
    """
    from flows.configuration import load
    from flows.parameters import SweepParameters

    given = {"render.store": store, "out": out, "workers": workers, "render.workers": workers}
    parameters = load(SweepParameters, config, overrides or (), given)
    from flows import sweep as flow

    if dry_run:
        for line in flow.dry_run(parameters):
            print(line)
        return
    if not flow.sweep(parameters).whole:
        raise typer.Exit(4)
