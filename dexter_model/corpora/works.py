"""Which work a piece is, so that a work is on one side of every split whatever the corpus, edition or repeats.

The rule: composer, then the first catalogue number in the piece's name and up to two numbers after it (number in the
opus, movement); without a catalogue number, the name itself. A prelude and its fugue share a BWV number and so stay
together. What the rule cannot know (that Ballade 2 is op. 38) is in ``ALIASES``.
"""

from __future__ import annotations

import re

_FORM_OF_REPEATS = re.compile(r"_(?:(?:no|no_first|no_2|extra)_)?repeat$|_no_trio$")  # ASAP's twins of one piece
_CATALOGUE = re.compile(r"(?<![a-z])(opus|op|bwv|woo|hob|wq|kv|k|d|s|h)[ ._]*(\d+)")
_SAME_CATALOGUE = {"opus": "op", "kv": "k"}

# How an id that the rule makes begins, and how the work's id begins.
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
    "schubert/piano-sonatas/664-": "schubert/d-664/",
    "schubert/piano-sonatas/894-": "schubert/d-894/",
    "schumann/dichterliebe-no2": "schumann/op-48/2",
}


def work_id(composer: str, name: str) -> str:
    """The work's id, e.g. ``chopin/op-10/3`` for ``Etudes_op_10/3`` as for ``op10_no3``.

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
    alias = next((name for name in ALIASES if work.startswith(name)), "")
    return ALIASES[alias] + work.removeprefix(alias) if alias else work


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+|_+", "-", text.lower()).strip("-")
