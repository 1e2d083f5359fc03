"""The tables in which a corpus lists itself: what belongs to it, who plays, how far its alignments can be trusted."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from dexter_model.errors import InputError

Row = dict[str, str]


def read_table(path: Path, columns: Collection[str], optional: Collection[str] = ()) -> list[Row]:
    """The named columns of a CSV table, a row a line; missing values are '', as are those of columns it need not have.

    Raises:
        InputError: ``corpus_unreadable`` when it is missing, damaged, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            lacking = sorted(set(columns) - set(lines.fieldnames or ()))
            if lacking:
                raise ValueError(f"it lacks the columns {', '.join(lacking)}")
            return [{name: (line.get(name) or "").strip() for name in (*columns, *optional)} for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(path, f"cannot be read ({reason})", "Get the corpus again", "corpus_unreadable") from None


def asap_listed(root: Path) -> list[str]:
    """Keys of the performances that (n)ASAP's metadata.csv lists; none when it is not there.

    Raises:
        InputError: ``corpus_unreadable``.
    """
    path = root / "metadata.csv"
    rows = read_table(path, ["midi_performance"]) if path.exists() else []
    return [row["midi_performance"] for row in rows if row["midi_performance"]]


def asap_robust(root: Path) -> set[str]:
    """Keys of the performances whose ``robust_note_alignment`` is 1: few notes are missing or too many.

    Raises:
        InputError: ``corpus_unreadable``.
    """
    rows = read_table(root / "metadata.csv", ["midi_performance", "robust_note_alignment"])
    return {row["midi_performance"] for row in rows if row["robust_note_alignment"] in ("1", "1.0")}
