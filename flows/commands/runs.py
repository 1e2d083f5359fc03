"""``dexter runs``: what ran, with what, for how long, at which cost, and how two runs differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from dexter_model.places import name_of
from flows.commands import options

app = typer.Typer(help="Runs: list what ran at a place, show one, compare two.", no_args_is_help=True)
Run = Annotated[
    str,
    typer.Argument(help="A file of `dexter runs list`, or a folder whose latest run is meant.", show_default=False),
]
MISSING = "–"


@app.command("list")
def list_(
    place: Annotated[
        str, typer.Argument(help="A folder or s3://bucket/prefix that flows wrote to.", show_default="dexter-out")
    ] = "dexter-out",
    count: Annotated[int, typer.Option("-n", min=1, help="Only so many, the latest.")] = 20,
    as_json: options.Json = False,
) -> None:
    """List the runs recorded at a place and in the folders right in it, newest first.

    Every build, train, render, evaluate, sweep, run and nightly leaves a file in runs/ of the place it writes to. What
    says that it runs and was not heard of for three minutes is lost. Example: dexter runs list s3://lab/nightly -n 7
    """
    from tasks.runs import list_runs

    records = list_runs(place, count)
    if as_json:
        print(json.dumps(records, indent=1))
        return
    if not records:
        print(f"no run is recorded at {place}, nor in the folders in it")
        return
    from flows.commands.tables import print_aligned

    heads = ("began (UTC)", "flow", "outcome", "verdict", "time", "cost", "quarantined", "file")
    print_aligned(heads, [_listed(record) for record in records], frozenset({"time", "cost", "quarantined"}))


def _listed(record: dict[str, Any]) -> tuple[str, ...]:
    from dexter_model.report.html import duration
    from tasks.runs import state

    return (
        record["began"][:16].replace("T", " "),
        record["flow"],
        state(record),
        record["verdict"] or MISSING,
        duration(record["spent"]["seconds"]),
        _money(record["spent"]["cost"], record["currency"]),
        f"{record['quarantined']:,}",
        record["file"],
    )


@app.command()
def show(run: Run, as_json: options.Json = False) -> None:
    """Show a run: parameters, stages with their digests, what it took, what came of it.

    Costs are estimates by configs/prices.yaml. Example: dexter runs show dexter-out
    """
    from dexter_model.report.html import duration
    from tasks.runs import read_run, state

    record = read_run(run)
    if as_json:
        print(json.dumps(record, indent=1))
        return
    spent = record["spent"]
    lines = {
        "run": record["id"],
        "outcome": " ".join(filter(None, [state(record), record["verdict"], record["error"]])),
        "began": f"{record['began']}, {duration(spent['seconds'])}",
        "cost": f"{_money(spent['cost'], record['currency'])}, estimated: {spent['cpu_seconds']:,.0f} CPU seconds, "
        f"{spent['gpu_seconds']:,.0f} GPU seconds",
        "where": f"{record['host']}, Ray at {record['cluster']}",
        "Prefect": (record["prefect"] or {}).get("name", MISSING),
        "code": record["code_version"],
        "quarantined": f"{record['quarantined']:,}",
    }
    for name, value in lines.items():
        print(f"{name:13}{value}")
    print("\nstages")
    for row in record["stages"]:
        print(f"  {row['name']}: {duration(row['seconds'])}, {_money(row['cost'], record['currency'])}")
        for name, value in facts_of(row).items():
            print(f"    {name}: {value}")
    print("\nparameters")
    for name, value in flat(record["parameters"]).items():
        print(f"  {name}: {value}")


@app.command()
def compare(
    before: Run,
    after: Run,
    as_json: options.Json = False,
) -> None:
    """Tell how two runs differ: parameters, code, digests, main figures of their evaluations, times and costs.

    Example: dexter runs compare s3://lab/nightly/runs/A.json s3://lab/nightly/runs/B.json
    """
    from tasks.runs import read_run

    difference = compared(read_run(before), read_run(after))
    if as_json:
        print(json.dumps(difference, indent=1))
        return
    from flows.commands.tables import print_aligned

    rows = [
        (f"{kind} {name}", *(_shown(value) for value in values), _change(*values))
        for kind, differing in difference.items()
        for name, values in differing.items()
    ]
    print_aligned(("", "before", "after", "change"), rows, frozenset({"change"}))


def compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """What differs between two records, before and after; None for what one of them lacks.

    Figures of systems and what stages took are told where they are equal too, the references' figures only if not.
    """
    both = (before, after)
    about = [{name: r[name] for name in ("flow", "began", "outcome", "verdict", "code_version")} for r in both]
    spent = [_by_stage(r, _took) | {f"in all {name}": value for name, value in _took(r["spent"]).items()} for r in both]
    return {
        "run": _differing(*about),
        "parameter": _differing(*(flat(r["parameters"]) for r in both)),
        "stage": _differing(*(_by_stage(r, lambda row: facts_of(row, "place", "headline", "verdict")) for r in both)),
        "figure": _differing(*(_figures(r, references=False) for r in both), equal_too=True)
        | _differing(*(_figures(r, references=True) for r in both)),
        "took": _differing(*spent, equal_too=True),
    }


TOOK = ("seconds", "cpu_seconds", "gpu_seconds", "cost")


def _took(spent: dict[str, Any]) -> dict[str, Any]:
    """What was spent, without what was not, such as GPU seconds."""
    return {name: spent[name] for name in TOOK if name == "seconds" or spent.get(name)}


def _by_stage(record: dict[str, Any], tell: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """What is told of every stage, by its name, and by the end of its place where several have that name."""
    names = [row["name"] for row in record["stages"]]
    found: dict[str, Any] = {}
    for row in record["stages"]:
        alone = names.count(row["name"]) == 1 or "place" not in row
        stage = row["name"] if alone else f"{row['name']} {name_of(row['place'])}"
        found |= {f"{stage} {name}": value for name, value in tell(row).items()}
    return found


def _figures(record: dict[str, Any], *, references: bool) -> dict[str, float]:
    from dexter_model.metrics.contests import REFERENCES

    of = {system: named for system, named in record["figures"].items() if (system in REFERENCES) == references}
    return {f"{system}: {name}": value for system, named in of.items() for name, value in named.items()}


def _differing(before: dict[str, Any], after: dict[str, Any], *, equal_too: bool = False) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*before, *after])
    pairs = {name: (before.get(name), after.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if equal_too or pair[0] != pair[1]}


def facts_of(row: dict[str, Any], *without: str) -> dict[str, Any]:
    """What a stage tells beside what it took, its inputs among it."""
    facts = {name: value for name, value in row.items() if name not in ("name", "figures", "inputs", *TOOK, *without)}
    return facts | {f"input {name}": value for name, value in row.get("inputs", {}).items()}


def flat(values: dict[str, Any], parent: str = "") -> dict[str, Any]:
    """Parameters by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{parent}{name}.") if isinstance(value, dict) and value else {f"{parent}{name}": value}
    return found


def _shown(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    text = str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def _change(before: Any, after: Any) -> str:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    return f"{after - before:+.4g}" if numbers else ""


def _money(amount: float, currency: str) -> str:
    return f"{amount:,.4f} {currency}" if amount < 1 else f"{amount:,.2f} {currency}"
