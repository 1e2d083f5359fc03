"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import polars as pl


def print_table(frame: pl.DataFrame) -> None:
    """Print a table on standard output; text that came from files is not taken for markup."""
    table = Table(box=None, header_style="bold")
    for name, kind in frame.schema.items():
        table.add_column(name, justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    Console(markup=False).print(table)


def print_aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[str] = frozenset()) -> None:
    """Print columns of plain text, whole whatever the width, as an operator wants them in a terminal and in a pipe.

    Args:
        heads: names of the columns.
        rows: texts.
        numbers: columns to align at the right.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = zip(heads, row, widths, strict=True)
        line = "  ".join(cell.rjust(width) if head in numbers else cell.ljust(width) for head, cell, width in cells)
        print(line.rstrip())
