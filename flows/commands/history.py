"""``dexter dataset log``, ``diff`` and ``rollback``: a data set's versions over time."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands import options

if TYPE_CHECKING:
    from dexter_model.dataset.history import Difference, LoggedVersion

_LISTED = 10  # of each kind; --json lists all


def log(
    url: options.Dataset,
    count: Annotated[int, typer.Option("-n", min=1, help="Only so many, the newest.")] = 20,
    as_json: options.Json = False,
) -> None:
    """List a data set's versions, newest first: when, after which, what each holds, and the change in pieces.

    The current one, which readers get, is marked with *. A change is pieces added (+), removed (−), changed (~) and on
    another side of the splits. Example: dexter dataset log s3://lab/asap -n 5
    """
    from dexter_model.dataset import history

    versions = history.log(url, count)
    if as_json:
        print(json.dumps([asdict(each) for each in versions], indent=1, default=str))
        return
    from flows.commands.tables import print_aligned

    counts = ("pieces", "performances", "quarantined")
    heads = ("version", "published (UTC)", "follows", *counts, "change", "digest", "encoder")
    print_aligned(heads, [_logged(each) for each in versions], frozenset(counts))


def _logged(version: LoggedVersion) -> tuple[str, ...]:
    changes = {"+": version.added, "−": version.removed, "~": version.changed, "split ": version.resplit}
    return (
        f"{version.id}{' *' if version.current else ''}",
        f"{version.published:%Y-%m-%d %H:%M}",
        version.follows or "–",
        *(f"{each:,}" for each in (version.pieces, version.performances, version.quarantined)),
        " ".join(f"{sign}{number:,}" for sign, number in changes.items() if number) or "none",
        version.digest[:12],
        f"{version.encoder.get('name')} {version.encoder.get('version')}",
    )


def diff(
    url: options.Dataset,
    before: Annotated[str, typer.Argument(help="A version, such as v1.", show_default=False)],
    after: Annotated[str | None, typer.Argument(help="Another.", show_default="the current one")] = None,
    as_json: options.Json = False,
) -> None:
    """Tell what a version has otherwise than another: pieces, splits, performances, quarantine, encoding.

    Example: dexter dataset diff data v3 v4 --json
    """
    from dexter_model.dataset import history

    difference = history.diff(url, before, after)
    print(json.dumps(asdict(difference), indent=1) if as_json else "\n".join(told(difference)))


def rollback(
    url: options.Dataset,
    version: Annotated[str, typer.Argument(help="The version to go back to.", show_default=False)],
    dry_run: options.DryRun = False,
) -> None:
    """Make an earlier version the current one, at once; nothing is deleted, and the next build goes on from it.

    The version that was current stays under its name, so that you can come back to it in the same way. Runs that name
    a version are not affected. Example: dexter dataset rollback data v3 --dry-run
    """
    from dexter_model.dataset import history

    changes = history.rollback(url, version, dry_run=dry_run)
    if changes.before == changes.after:
        print(f"{url}: {version} is the current version already")
        return
    print("\n".join(told(changes)))
    print(f"{url}: {version} {'would be' if dry_run else 'is'} the current version; {changes.before} stays as it is")


def told(difference: Difference) -> list[str]:
    """A difference in lines for a person: counts, and the first few of every kind."""
    kinds: dict[str, list[Any]] = {
        "pieces added": difference.added,
        "pieces removed": difference.removed,
        "pieces changed": difference.changed,
        "pieces in another split": difference.resplit,
        "performances added": difference.performances_added,
        "performances removed": difference.performances_removed,
        "quarantined": difference.quarantined,
        "not quarantined any more": difference.released,
    }
    lines = [f"{difference.before} -> {difference.after}"]
    lines += [f"encoder {name}: {before} became {after}" for name, (before, after) in difference.encoder.items()]
    for kind, items in kinds.items():
        lines += [f"{len(items):,} {kind}"] if items else []
        lines += [f"  {item[0]} {item[1]}" + _rest(item[2:]) for item in items[:_LISTED]]
        lines += [f"  ... and {len(items) - _LISTED:,} more" if len(items) > _LISTED else ""][: len(items) > _LISTED]
    return lines if len(lines) > 1 else [f"{lines[0]}: the same content"]


def _rest(values: tuple[str, ...]) -> str:
    return f": {' -> '.join(values)}" if values else ""
