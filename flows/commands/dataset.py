"""``dexter dataset``: build versions of a data set, look at them, see what was refused."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands import options

app = typer.Typer(help="Data sets: build, inspect, list the quarantine.", no_args_is_help=True)
Url = Annotated[str, typer.Argument(help="Data set: a folder or s3://bucket/prefix.", show_default=False)]
Version = Annotated[str | None, typer.Option(help="A version's name.", show_default="the newest")]


@app.command()
def build(
    config: options.Config = None,
    corpus: Annotated[list[str] | None, typer.Option(help="Corpus to include; repeatable.", show_default="DEMO")] = None,
    datasets_root: options.DatasetsRoot = None,
    data_root: options.DataRoot = None,
    store: Annotated[str | None, typer.Option(help="Where the data set is: a folder or s3://bucket/prefix.")] = None,
    workers: options.Workers = None,
    retry_quarantined: Annotated[bool | None, typer.Option("--retry-quarantined", help="Try refused pieces again.")] = None,
    overrides: options.Overrides = None,
    dry_run: options.DryRun = False,
) -> None:
    """Build a new version of a data set from corpora; unchanged pieces are not computed again.

    A build that was interrupted goes on where it stopped. What cannot be encoded is quarantined with its reason.
    """
    from flows.build import build_dataset, describe_plan, plan_build
    from flows.configuration import load
    from flows.parameters import BuildParameters

    given = {
        "corpora": corpus,
        "datasets_root": datasets_root,
        "data_root": data_root,
        "store": store,
        "workers": workers,
        "retry_quarantined": retry_quarantined,
    }
    parameters = load(BuildParameters, config, overrides or (), given)
    if dry_run:
        print(describe_plan(plan_build(parameters)))
    else:
        build_dataset(parameters)


@app.command()
def info(url: Url, version: Version = None, as_json: options.Json = False) -> None:
    """Show a data set version: pieces, performances, notes, splits, quarantine, digest."""
    from tasks.describe import describe_version, version_facts

    print(version_facts(url, version) if as_json else describe_version(url, version))


@app.command()
def quarantine(
    url: Url,
    version: Version = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where each one failed.")] = False,
    as_json: options.Json = False,
) -> None:
    """List what a build refused: file, digest, reason and remedy."""
    from tasks.describe import describe_quarantine, quarantine_json

    print(quarantine_json(url, version) if as_json else describe_quarantine(url, version, traceback=traceback))
