"""``dexter status``: what runs, what comes next, how the last nights went."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dexter_model.errors import InputError
from flows.commands import options

PLACE = "dexter-out"


def status(
    place: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders or s3:// places that flows wrote to.", show_default="dexter-out, where there is one"
        ),
    ] = None,
    store: Annotated[str | None, typer.Option(help="A data set whose current version is told.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show what runs, what is scheduled, and how the last nights went.

    By the Prefect server where PREFECT_API_URL is set, the records of runs at places (`dexter runs list`), and the Ray
    cluster at RAY_ADDRESS. Exit code 3 when the last night of any was worse than what it was held against, failed
    or was lost, 4 when something was out of reach. Example: dexter status s3://lab/nightly --store s3://lab/dataset
    """
    from tasks import status as looks

    here = place or ([PLACE] if Path(PLACE).is_dir() else [])
    wanted: dict[str, tuple[bool, Callable[[], dict[str, Any]]]] = {
        "prefect": (bool(os.environ.get("PREFECT_API_URL")), looks.prefect_status),
        "records": (bool(here), lambda: looks.records_status(here)),
        "ray": (bool(os.environ.get("RAY_ADDRESS")), looks.ray_status),
        "store": (store is not None, lambda: looks.store_status(str(store))),
    }
    found = {name: _looked(look) for name, (asked, look) in wanted.items() if asked}
    if as_json:
        print(json.dumps(found, indent=1))
    elif not found:
        print("Nothing to look at: name a place, or set PREFECT_API_URL or RAY_ADDRESS")
    else:
        print("\n\n".join("\n".join(_told(name, part)) for name, part in found.items()))
    raise typer.Exit(exit_code(found))


def _looked(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return look()
    except InputError as error:
        return {"unreachable": str(error)}


def exit_code(found: dict[str, dict[str, Any]]) -> int:
    """3 unless all last nights went well, 4 for what is out of reach, else 0. A server knows more than records do."""
    from tasks.runs import COMPLETED, REGRESSION

    nights: list[dict[str, Any]] = next((part["nights"] for part in found.values() if part.get("nights")), [])
    if any(night["outcome"] != COMPLETED or night["verdict"] == REGRESSION for night in nights):
        return 3
    return 4 if any("unreachable" in part for part in found.values()) else 0


def _prefect(part: dict[str, Any]) -> list[str]:
    return [
        f"Prefect server {part['url']}",
        *_listed("runs now", [f"{run['name']} ({run['state']}) since {run['since']}" for run in part["running"]]),
        *_listed(
            "comes next", [f"{run['at']}  {run['name']}{' (late)' if run['late'] else ''}" for run in part["scheduled"]]
        ),
        *_listed(
            "deployments",
            [
                f"{each['name']}  {', '.join(each['schedules']) or 'on demand'}{' (paused)' if each['paused'] else ''}"
                for each in part["deployments"]
            ],
        ),
        *_listed("workers", [f"{pool}: {online} online" for pool, online in part["workers"].items()]),
        *_nights(part["nights"], "at"),
    ]


def _records(part: dict[str, Any]) -> list[str]:
    return [
        f"Runs at {', '.join(part['places'])}",
        *_listed(
            "runs now", [f"{run['flow']} since {run['began']}, heard of {run['updated']}" for run in part["running"]]
        ),
        *(
            _listed("lost", [f"{run['flow']} since {run['began']}: {run['file']}" for run in part["lost"]])
            if part["lost"]
            else []
        ),
        *_listed(
            "last",
            [f"{run['began']}  {run['flow']}  {run['outcome']}  {run['error'] or ''}".rstrip() for run in part["last"]],
        ),
        *_nights(part["nights"], "began"),
    ]


def _ray(part: dict[str, Any]) -> list[str]:
    nodes = [
        f"{node['id']}  {node['host']}  {'alive' if node['alive'] else 'dead'}  {node.get('CPU', 0):g} CPU, "
        f"{node.get('GPU', 0):g} GPU, {node.get('memory', 0) / 2**30:.1f} GiB"
        for node in part["nodes"]
    ]
    free = ", ".join(
        f"{amount / 2**30:.1f} GiB {kind}" if "memory" in kind else f"{amount:g} {kind}"
        for kind, amount in part["free"].items()
    )
    return [f"Ray cluster {part['address']}", *_listed("nodes", nodes), f"  free: {free}"]


def _store(part: dict[str, Any]) -> list[str]:
    counts = f"{part['pieces']:,} pieces, {part['performances']:,} performances, {part['quarantined']:,} quarantined"
    return [f"Data set {part['url']}: {part['version']} of {part['published']}, {counts}, digest {part['digest'][:12]}"]


def _told(name: str, part: dict[str, Any]) -> list[str]:
    tell = {"prefect": _prefect, "records": _records, "ray": _ray, "store": _store}[name]
    return [part["unreachable"]] if "unreachable" in part else tell(part)


def _listed(heading: str, lines: list[str]) -> list[str]:
    return [f"  {heading}:", *(f"    {line}" for line in lines)] if lines else [f"  {heading}: nothing"]


def _nights(nights: list[dict[str, Any]], when: str) -> list[str]:
    """A line a last night; where there are several, whose it was."""
    from tasks.runs import COMPLETED

    lines = []
    for night in nights:
        words = [word for word in dict.fromkeys((night["outcome"], night["verdict"])) if word and word != COMPLETED]
        of = f" ({night['of']})" if len(nights) > 1 else ""
        lines.append(f"  last night{of}: {', '.join(words) or COMPLETED}, {night[when]}: {night['headline']}")
    return lines or ["  last night: none yet"]
