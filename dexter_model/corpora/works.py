"""Which work a piece is, so that a work is on one side of every split whatever the corpus, edition or repeats.

``works.csv`` names the work of every piece of the corpora that were looked at: corpus, key (``*`` stands for anything),
composer, catalogue number, movement (several where a piece holds several) and the work's id. A prelude and its fugue
share a BWV number and so stay together; a piece in two forms of repeats is one work.

A piece that is not in the table gets its id by rule: composer, then the first catalogue number in its name and up to
two numbers after it (number in the opus, movement); without a catalogue number, the name itself. When the table knows
a work by that catalogue number, the piece is that work: so ATEPP's op. 22 is (n)ASAP's Sonata 11.
"""

from __future__ import annotations

import csv
import re
from fnmatch import fnmatchcase
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("works.csv")
_FORM_OF_REPEATS = re.compile(r"_(?:(?:no|no_first|no_2|extra)_)?repeat$|_no_trio$")  # ASAP's twins of one piece
# Hoboken counts keyboard sonatas in his group XVI. One-letter catalogues of L. and M. need their dot.
_CATALOGUE = re.compile(r"(?<![a-z])(opus|op|bwv|woo|hob|wq|kv|k|d|s|h|[lm](?=\.))(?:[ ._]*xvi[:/_]?)?[ ._]*(\d+)")
_SAME_CATALOGUE = {"opus": "op", "kv": "k"}

# How an id that the rule makes begins, and how the work's id begins: what has two catalogue numbers, or goes by a name.
ALIASES = {
    "chopin/ballades/1": "chopin/op-23",
    "chopin/ballades/2": "chopin/op-38",
    "chopin/ballades/3": "chopin/op-47",
    "chopin/ballades/4": "chopin/op-52",
    "chopin/polonaises/": "chopin/op-",
    "chopin/scherzos/": "chopin/op-",
    "mozart/fantasie-475": "mozart/k-475",
    "mozart/piano-sonatas/8-": "mozart/k-310/",
    "mozart/piano-sonatas/11-": "mozart/k-331/",
    "mozart/piano-sonatas/12-": "mozart/k-332/",
    "schubert/d-899": "schubert/op-90",
    "schubert/d-935": "schubert/op-142",
    "schubert/op-15": "schubert/d-760",
    "schubert/op-33": "schubert/d-783",
    "schubert/op-94": "schubert/d-780",
    "schubert/op-120": "schubert/d-664",
    "schubert/piano-sonatas/664-": "schubert/d-664/",
    "schubert/piano-sonatas/894-": "schubert/d-894/",
    "schumann/dichterliebe-no2": "schumann/op-48/2",
}


class Work(NamedTuple):
    """A line of the table: a piece of a corpus, or pieces, and the work."""

    corpus: str
    key: str
    composer: str
    catalogue: str
    movement: str
    work: str


@cache
def table() -> tuple[Work, ...]:
    """The lines of ``works.csv``."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(Work(**line) for line in csv.DictReader(file))


def work_of(corpus: str, key: str, composer: str, name: str) -> str:
    """The work of a piece: what the table says of it, or else what the rule makes of its name.

    Args:
        corpus: the corpus.
        key: the piece's key there.
        composer, name: as ``work_id`` takes them.
    """
    pieces, patterns = _of_corpus(corpus)
    listed = pieces.get(key) or next((line.work for line in patterns if fnmatchcase(key, line.key)), None)
    return listed or _by_catalogue(work_id(composer, name))


def work_id(composer: str, name: str) -> str:
    """The id that the rule makes, e.g. ``chopin/op-10/3`` for ``Etudes_op_10/3`` as for ``op10_no3``.

    Args:
        composer: the composer as the corpus calls them; ``""`` when unknown.
        name: the piece's name in its corpus, composer excluded; folders separated by ``/``.
    """
    name = _FORM_OF_REPEATS.sub("", name).lower()
    catalogue = _CATALOGUE.search(name)
    if catalogue:
        kind, number = catalogue.groups()
        after = re.findall(r"\d+", _CATALOGUE.sub(" ", name[catalogue.end() :]))[:2]
        parts = [f"{_SAME_CATALOGUE.get(kind, kind)}-{number}", *(str(int(n)) for n in after)]
    else:
        parts = [_slug(part) for part in name.split("/")]
    work = "/".join(part for part in [_slug(composer), *parts] if part)
    alias = next((name for name in ALIASES if _begins(work, name)), "")
    return ALIASES[alias] + work.removeprefix(alias) if alias else work


@cache
def _of_corpus(corpus: str) -> tuple[dict[str, str], list[Work]]:
    """Works by key, and the lines whose key is a pattern."""
    lines = [line for line in table() if line.corpus == corpus]
    return {line.key: line.work for line in lines if "*" not in line.key}, [line for line in lines if "*" in line.key]


@cache
def _catalogued() -> tuple[dict[str, str], dict[str, str]]:
    """Works by the id that the rule makes of their catalogue number: single ones, and whole ones without movements."""
    single, whole = {}, {}
    for line in table():
        for movement in line.movement.split() if line.catalogue else ():
            single[work_id(line.composer, f"{line.catalogue} / {movement}")] = line.work
        if line.catalogue and not line.movement:
            whole[work_id(line.composer, line.catalogue)] = line.work
    return single, whole


def _by_catalogue(work: str) -> str:
    """The table's id of a work that it knows by catalogue number; of a whole work also for a part of it."""
    single, whole = _catalogued()
    beginnings = accumulate(work.split("/"), "{}/{}".format)
    return single.get(work) or next((whole[part] for part in beginnings if part in whole), work)


def _begins(work: str, beginning: str) -> bool:
    """Whether an id begins so, numbers taken whole: ``op-1`` does not begin ``op-15``."""
    cut = beginning[-1].isdigit() and work[len(beginning) : len(beginning) + 1].isdigit()
    return work.startswith(beginning) and not cut


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+|_+", "-", text.lower()).strip("-")
