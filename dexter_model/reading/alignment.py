"""Alignments between a score's notes and a performance's: (n)ASAP's note_alignment.tsv and parangonada's align.csv."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dexter_model.errors import InputError
from dexter_model.notes import Alignment, Score

REPEAT_SUFFIX = re.compile(r".+-[1-9][0-9]?")
MAX_BYTES = 64 << 20
MATCH, DELETION, INSERTION = "0", "1", "2"  # parangonada's match types


def load_alignment(path: str | Path) -> Alignment:
    """Read an alignment table, a pair of notes a line, in the file's order; its first line tells which kind it is.

    (n)ASAP's note_alignment.tsv has the columns ``xml_id`` and ``midi_id``: ``deletion`` in midi_id marks a score note
    that was not played, ``insertion`` in xml_id a played note that the score lacks. parangonada's align.csv (as ATEPP's
    alignments are) has ``matchtype`` (0 match, 1 deletion, 2 insertion), ``partid`` and ``ppartid``. What is missing
    becomes ''. Other columns are not needed. Repeated lines stay: where it matters, the first holds.

    Raises:
        InputError: ``alignment_unreadable`` when it is no such table.
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ValueError("the file is too large for an alignment")
        with Path(path).open(encoding="utf-8", newline="") as file:
            return _table(file.read())
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "Give a note_alignment.tsv (xml_id, midi_id) or an align.csv (matchtype, partid, ppartid)"
        raise InputError(path, reason, remedy, "alignment_unreadable") from error


def _table(text: str) -> Alignment:
    lines = text.splitlines()
    first = lines[0] if lines else ""
    if "matchtype" in first:
        return _parangonada(csv.reader(lines, skipinitialspace=True))
    score_id, performance_id = _columns(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), "xml_id", "midi_id")
    return Alignment(
        np.where(score_id == "insertion", "", score_id), np.where(performance_id == "deletion", "", performance_id)
    )


def _parangonada(lines: Iterator[list[str]]) -> Alignment:
    kind, score_id, performance_id = _columns(lines, "matchtype", "partid", "ppartid")
    if not np.isin(kind, [MATCH, DELETION, INSERTION]).all():
        raise ValueError("a matchtype is none of 0, 1 and 2")
    return Alignment(np.where(kind == INSERTION, "", score_id), np.where(kind == DELETION, "", performance_id))


def _columns(lines: Iterator[list[str]], *names: str) -> list[np.ndarray]:
    """The columns (n,) of these names, str."""
    header = next(lines, [])
    if not set(names) <= set(header):
        raise ValueError(f"its first line does not name the columns {', '.join(names[:-1])} and {names[-1]}")
    rows = [row for row in lines if row]
    places = [header.index(name) for name in names]
    if not rows or min(map(len, rows)) <= max(places):  # lines of deletions end after midi_id
        raise ValueError("a line lacks its ids" if rows else "it holds no line")
    return [np.array([row[place] for row in rows]) for place in places]


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
