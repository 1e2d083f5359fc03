"""``dexter store``: what the administrator of a bucket does."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from dexter_model.errors import InputError
from flows.commands import options

app = typer.Typer(help="Buckets: make one fit for data sets, collect garbage, size and cost.", no_args_is_help=True)
Place = Annotated[str, typer.Argument(help="A folder or s3://bucket/prefix.", show_default=False)]


@app.command()
def init(
    place: Annotated[str, typer.Argument(help="s3://bucket, or s3://bucket/prefix.", show_default=False)],
    dry_run: options.DryRun = False,
) -> None:
    """Make a bucket fit for data sets: create it, let given-up uploads expire, try conditional writes.

    Does only what is not done yet; other rules of the bucket stay. Example: dexter store init s3://lab
    """
    from tasks import bucket

    done = bucket.init(place, dry_run=dry_run)
    print("\n".join(f"{'would be done: ' if dry_run else ''}{each}" for each in done) or "nothing to do")


@app.command()
def gc(
    place: Annotated[str, typer.Argument(help="A data set: a folder or s3://bucket/prefix.", show_default=False)],
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Leave what is younger, such as 12h or 30d; at least 1h.")
    ] = "7d",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Delete what no version of a data set refers to any more, and uploads that were given up.

    Every version stays, and what an interrupted build has finished. A build that runs for longer than AGE would be
    harmed. Example: dexter store gc s3://lab/asap --dry-run
    """
    from tasks import bucket

    found = bucket.collect_garbage(place, age(older_than), dry_run=dry_run)
    if as_json:
        print(json.dumps(asdict(found), indent=1))
        return
    objects = ", ".join(f"{count:,} {kind}" for kind, count in found.objects.items()) or "nothing"
    print(f"{'would delete' if dry_run else 'deleted'} {objects} ({size(found.bytes)}); {found.uploads} uploads")


@app.command()
def usage(place: Place, as_json: options.Json = False) -> None:
    """Show what a place holds, by storage class and kind of object, and what it costs a month.

    Prices are those of configs/prices.yaml, or of the file that DEXTER_PRICES names. Example: dexter store usage s3://lab
    """
    from flows.commands.tables import print_aligned
    from tasks import bucket

    found = bucket.usage(place)
    if as_json:
        print(json.dumps(asdict(found), indent=1))
        return
    money = f"{found.currency} a month"
    classes = [
        (name, f"{held['objects']:,.0f}", size(held["bytes"]), f"{held['month']:,.4f}")
        for name, held in found.by_class.items()
    ]
    print_aligned(("class", "objects", "size", money), classes, frozenset({"objects", "size", money}))
    print()
    kinds = [(name, f"{held['objects']:,}", size(held["bytes"])) for name, held in found.by_kind.items()]
    print_aligned(("kind", "objects", "size"), kinds, frozenset({"objects", "size"}))
    old = found.noncurrent
    print(
        f"\n{found.currency} {found.month:,.4f} a month; writing all of it once costs {found.write:,.4f} in requests, "
        f"reading all once {found.read:,.4f}\n{old['objects']:,} noncurrent versions ({size(old['bytes'])}), "
        f"{found.uploads:,} uploads that nobody finished"
    )


def age(text: str) -> timedelta:
    """What 30m, 12h, 7d or 2w says.

    Raises:
        InputError: it is none of these, or less than an hour.
    """
    from tasks.bucket import YOUNGEST

    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    told = re.fullmatch(r"(\d{1,4})([mhdw])", text)
    found = timedelta(**{units[told[2]]: int(told[1])}) if told else None
    if found is None or found < YOUNGEST:
        raise InputError(f"--older-than {text}", "is no age of at least 1h", "Write it as 12h, 7d or 4w", "bad_age")
    return found


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
