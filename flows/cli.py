"""The command ``dexter``: every stage of the platform, on a laptop or as runs of a Prefect server.

Commands import what they use when they run, so that ``--help`` is immediate.
"""

from __future__ import annotations

import os
import sys

import typer

from dexter_model.errors import InputError, RegressionError
from flows.commands import codec, corpora, dataset, deploy, generate, job, model, nightly, runs, status, store, sweep
from tasks.telemetry import start_logging

app = typer.Typer(
    name="dexter",
    help="The batch platform for expressive piano performance: aligned corpora in, trained models and evaluated "
    "renders out.\n\nStart with `dexter run configs/demo.yaml`. Every path may be s3://bucket/prefix. With "
    "PREFECT_API_URL set, dataset build, train, render, generate, evaluate, sweep, run and nightly are runs of that "
    "server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(corpora.app, name="corpora")
app.add_typer(dataset.app, name="dataset")
app.add_typer(generate.app, name="generate")
app.add_typer(runs.app, name="runs")
app.add_typer(store.app, name="store")
for command in (
    codec.encode,
    codec.decode,
    model.train,
    model.render,
    model.evaluate,
    sweep.sweep,
    model.report,
    job.run,
    nightly.nightly,
    deploy.deploy,
    status.status,
):
    app.command(rich_help_panel="Commands")(command)


def main() -> None:
    """Run the command; bad input is one sentence on standard error and exit code 2, a regression 3, interrupted 130."""
    start_logging()
    try:
        app()
    except InputError as error:
        print(f"dexter: {error}", file=sys.stderr)
        sys.exit(2)
    except RegressionError as error:
        print(f"dexter: {error}", file=sys.stderr)
        sys.exit(3)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"dexter: {error.filename}: {error.strerror}. Check the path and its permissions.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("dexter: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
