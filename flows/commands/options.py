"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from dexter_model.errors import InputError

Config = Annotated[Path | None, typer.Argument(help="YAML file of parameters; see configs/.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Override a parameter, e.g. -s training.steps=100. Repeatable."
    ),
]
DatasetsRoot = Annotated[
    str | None,
    typer.Option(help="Folder that holds the corpora under their public names. Default: DEXTER_DATASETS_ROOT."),
]
DataRoot = Annotated[
    str | None, typer.Option(help="Your own folder, for the corpora FOLDER and MIDI. Default: DEXTER_DATA_ROOT.")
]
RobustOnly = Annotated[
    bool | None,
    typer.Option("--robust-alignments-only", help="Refuse alignments that ASAP's books do not call robust."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Ray actors to spread the work over; 0 works in this process.", show_default="by the work"
    ),
]
Dataset = Annotated[str, typer.Argument(help="Data set: a folder or s3://bucket/prefix.", show_default=False)]
Version = Annotated[str | None, typer.Option(help="A version's name.", show_default="the newest")]
Window = Annotated[int, typer.Option(min=1, help="Notes in a window.")]
PathRemap = Annotated[
    list[str] | None,
    typer.Option(metavar="OLD=NEW", help="Replace the beginning OLD of paths by NEW. Repeatable."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and why; change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def remap(given: Sequence[str] | None) -> dict[str, str]:
    """Old and new beginnings of paths from ``--path-remap``.

    Raises:
        InputError: one of them is no OLD=NEW.
    """
    parts = [text.partition("=") for text in given or ()]
    for old, equals, _ in parts:
        if not (old and equals):
            raise InputError(f"--path-remap {old}", "is no OLD=NEW", "Write --path-remap /old/place=/new", "no_remap")
    return {old: new for old, _, new in parts}
