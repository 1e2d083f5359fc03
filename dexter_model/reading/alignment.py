"""Alignments between a score's notes and a performance's: the note_alignment.tsv files of (n)ASAP."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dexter_model.errors import InputError
from dexter_model.notes import Alignment, Score

REPEAT_SUFFIX = re.compile(r".+-[1-9][0-9]?")
MAX_BYTES = 64 << 20


def load_alignment(path: str | Path) -> Alignment:
    """Read a note_alignment.tsv: columns ``xml_id`` and ``midi_id``, a pair of notes a line, in the file's order.

    ``deletion`` in midi_id marks a score note that was not played, ``insertion`` in xml_id a played note that the score
    lacks; both become ''. Other columns are not needed. Repeated lines stay: where it matters, the first holds.

    Raises:
        InputError: ``alignment_unreadable`` when it is no such table.
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ValueError("the file is too large for an alignment")
        with Path(path).open(encoding="utf-8", newline="") as file:
            score_id, performance_id = _columns(file.read())
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "Give a tab-separated table with the columns xml_id and midi_id"
        raise InputError(path, reason, remedy, "alignment_unreadable") from error
    return Alignment(
        np.where(score_id == "insertion", "", score_id), np.where(performance_id == "deletion", "", performance_id)
    )


def _columns(text: str) -> tuple[np.ndarray, np.ndarray]:
    lines = csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(lines, [])
    if "xml_id" not in header or "midi_id" not in header:
        raise ValueError("its first line does not name the columns xml_id and midi_id")
    rows = [row for row in lines if row]
    score, performance = header.index("xml_id"), header.index("midi_id")
    if not rows or min(map(len, rows)) <= max(score, performance):  # lines of deletions end after midi_id
        raise ValueError("a line lacks its ids" if rows else "it holds no line")
    return np.array([row[score] for row in rows]), np.array([row[performance] for row in rows])


def needs_unfolding(alignment: Alignment) -> bool:
    """Whether most score ids look as if they carried a repeat suffix (n12-1, n12-2); ids of a score's own may too."""
    ids = alignment.score_id[alignment.score_id != ""].tolist()
    return 2 * sum(REPEAT_SUFFIX.fullmatch(score_id) is not None for score_id in ids) > len(ids)


def score_as_aligned(alignment: Alignment, load: Callable[[bool], Score]) -> Score:
    """The score in the form, folded or unfolded, whose note ids the alignment uses.

    Args:
        alignment: its score ids tell which form to try first.
        load: gives the score, unfolded when its argument is true. The folded one is asked for after the unfolded one
            only where the score's own ids end like a repeat suffix (Mozart K. 331 in Vienna 4x22).
    """
    if needs_unfolding(alignment):
        score = load(True)
        if np.isin(alignment.score_id, score.note_id).any():
            return score
    return load(False)
