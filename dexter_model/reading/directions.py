"""What a MusicXML document says to performers, read from the document itself, beside partitura.

partitura keeps neither the text of ``<other-dynamics>`` (most of ASAP's "cresc.") nor the staff of wedges and words,
nor metronome marks or arpeggios, and takes milliseconds to parse a word's grammar. So directions are read here and
taken out of the document before partitura gets it; times are counted as partitura counts them, in divs from the start.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lxml import etree

from dexter_model.reading.words import Meaning, meaning

_UNITS = {"breve": 8, "whole": 4, "half": 2, "quarter": 1, "eighth": 0.5, "16th": 0.25, "32nd": 0.125}
SLOWEST, FASTEST = 5, 500  # quarter notes a minute; other tempi are no music's
NOTHING = Meaning()


class Direction(NamedTuple):
    """A direction at a time, in divs, under a staff (0: not said).

    ``kind`` is "words" (with a ``meaning``), "tempo" (``value``: quarter notes a minute), "dashes-stop", or
    "crescendo", "diminuendo" or "pedal" (``value``: the time where it ends, infinite where the document does not say).
    """

    time: int
    staff: int
    kind: str
    value: float = 0
    meaning: Meaning = NOTHING


@dataclass
class Markings:
    """A part's directions in score order, its bar lines, in divs, and the places of its arpeggiated notes among all."""

    directions: list[Direction] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)
    arpeggiated: set[int] = field(default_factory=set)


def take_directions(document: bytes) -> tuple[bytes, dict[str, Markings]]:
    """Read the directions of a partwise MusicXML document and take them out.

    Args:
        document: one that ``safety.read_musicxml`` has let pass.

    Returns:
        The document without what it says (repeats and jumps stay), and each part's markings, by its id.

    Raises:
        lxml.etree.XMLSyntaxError: the document is not well-formed.
    """
    root = etree.fromstring(
        document, etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    )
    markings: dict[str, Markings] = {}
    for part in root.findall("part"):
        _read_part(part, markings.setdefault(part.get("id", "P1"), Markings()))
    for direction_type in root.findall("part/measure/direction/direction-type"):
        direction_type.getparent().remove(direction_type)
    for sound in root.iter("sound"):
        sound.attrib.pop("tempo", None)
        sound.attrib.pop("dynamics", None)
    return etree.tostring(root), markings


def _read_part(part: Any, markings: Markings) -> None:
    position = note_count = 0
    for measure in part.findall("measure"):
        start = furthest = position
        chord_end = None  # where the note ends that a chord joins
        markings.bars.append(start)
        for element in measure:
            tag = element.tag
            if tag == "note":
                duration, joins = _note(element, note_count, markings)
                note_count += 1
                position = chord_end if joins and chord_end is not None else position + duration
                chord_end = position
                furthest = max(furthest, position)
            elif tag == "backup":
                position = max(position - _integer(element.findtext("duration")), start)
            elif tag == "forward":
                position += _integer(element.findtext("duration"))
                furthest = max(furthest, position)
            elif tag in ("direction", "sound"):
                markings.directions += _direction(element, position)
        position = furthest
    markings.directions = _paired(markings.directions)


def _paired(directions: list[Direction]) -> list[Direction]:
    """In order of time, hairpins and pedals with their ends: of one number, and of one staff if possible."""
    started: dict[tuple[str, float], list[int]] = defaultdict(list)
    paired: list[Direction] = []
    for direction in sorted(directions, key=lambda direction: (direction.time, not direction.kind.endswith("-stop"))):
        family = "pedal" if direction.kind.startswith("pedal") else "wedge"
        if direction.kind in ("crescendo", "diminuendo", "pedal"):
            started[family, direction.value].append(len(paired))
            paired.append(direction._replace(value=math.inf))
        elif direction.kind in ("wedge-stop", "pedal-stop"):
            if open_ones := started[family, direction.value]:
                place = max(open_ones, key=lambda place: (paired[place].staff == direction.staff, place))
                open_ones.remove(place)
                paired[place] = paired[place]._replace(value=direction.time)
        else:
            paired.append(direction)
    return paired


def _note(element: Any, place: int, markings: Markings) -> tuple[int, bool]:
    """Duration, and whether the note belongs to the chord of the one before."""
    duration, joins = 0, False
    for child in element:
        tag = child.tag
        if tag == "duration":
            duration = _integer(child.text)
        elif tag == "chord":
            joins = True
        elif tag == "notations" and child.find("arpeggiate") is not None:
            markings.arpeggiated.add(place)
    return duration, joins


def _direction(element: Any, position: int) -> list[Direction]:
    time = position + _integer(element.findtext("offset"))
    staff = _integer(element.findtext("staff"))
    found = [
        direction
        for direction_type in element.findall("direction-type")
        for direction in _contents(direction_type, time, staff)
    ]
    tempo = element.get("tempo") if element.tag == "sound" else next(iter(element.xpath("sound/@tempo")), None)
    # What is printed goes before what is played.
    if tempo is not None and not any(direction.kind == "tempo" for direction in found):
        found += _tempo(tempo, 1, time, staff)
    return found


def _contents(direction_type: Any, time: int, staff: int) -> list[Direction]:
    words, found = [], []
    for child in direction_type:
        kind = child.get("type")
        if child.tag == "words":
            words.append(child.text or "")
        elif child.tag == "dynamics":
            words += [(level.text or "") if level.tag == "other-dynamics" else str(level.tag) for level in child]
        elif child.tag == "metronome":
            dots = len(child.findall("beat-unit-dot"))
            unit = _UNITS.get(child.findtext("beat-unit", "").strip(), 0) * (2 - 0.5 ** min(dots, 3))
            found += _tempo(child.findtext("per-minute", ""), unit, time, staff)
        elif (name := _SPANS.get((child.tag, kind))) is not None:
            found.append(Direction(time, staff, name, _integer(child.get("number")) or 1))
    if words and (said := meaning(" ".join(words))) != NOTHING:
        found.append(Direction(time, staff, "words", meaning=said))
    return found


_SPANS = {
    ("wedge", "crescendo"): "crescendo",
    ("wedge", "diminuendo"): "diminuendo",
    ("wedge", "stop"): "wedge-stop",
    ("dashes", "stop"): "dashes-stop",
    ("pedal", "start"): "pedal",
    ("pedal", "stop"): "pedal-stop",
}


def _tempo(text: str, unit: float, time: int, staff: int) -> list[Direction]:
    quarters = math.nan
    with contextlib.suppress(ValueError):
        quarters = float(text.strip().lower().removeprefix("ca.").removeprefix("c.")) * unit
    return [Direction(time, staff, "tempo", quarters)] if SLOWEST <= quarters <= FASTEST else []


def _integer(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0
