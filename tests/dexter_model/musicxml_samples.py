"""Small MusicXML documents for tests, and where installed packages keep real ones."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

CONTAINER = '<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>'


def package_folder(package: str) -> Path:
    """Where a package is installed, found without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


MUSIC21 = package_folder("music21") / "corpus"
PARTITURA = package_folder("partitura") / "assets"


def note(step: str, octave: int, duration: int, extra: str = "", *, name: str = "", tie: str = "") -> str:
    identity = f' id="{name}"' if name else ""
    grace, length = ("<grace/>", "") if duration == 0 else ("", f"<duration>{duration}</duration>")
    pitch = f"<pitch><step>{step}</step><octave>{octave}</octave></pitch>"
    tied = f'<tie type="{tie}"/>' if tie else ""
    notations = f"<notations>{extra}</notations>" if extra else ""
    return f"<note{identity}>{grace}{pitch}{length}{tied}<voice>1</voice>{notations}</note>"


def direction(content: str) -> str:
    return f"<direction><direction-type>{content}</direction-type></direction>"


def attributes(divisions: int, beats: int = 4, beat_type: int = 4) -> str:
    time = f"<time><beats>{beats}</beats><beat-type>{beat_type}</beat-type></time>"
    return f"<attributes><divisions>{divisions}</divisions>{time}</attributes>"


def musicxml(*parts: list[str], prolog: str = "") -> str:
    """A partwise document: each part a list of measures' contents."""
    names = "".join(
        f'<score-part id="P{index}"><part-name>Piano</part-name></score-part>' for index in range(len(parts))
    )
    bodies = "".join(
        f'<part id="P{index}">'
        + "".join(f'<measure number="{number}">{content}</measure>' for number, content in enumerate(part, 1))
        + "</part>"
        for index, part in enumerate(parts)
    )
    document = f'<score-partwise version="3.1"><part-list>{names}</part-list>{bodies}</score-partwise>'
    return f'<?xml version="1.0" encoding="UTF-8"?>{prolog}{document}'


def scale(divisions: int = 2) -> str:
    """Two bars of four quarter notes."""
    bars = ["".join(note(step, 4, divisions) for step in steps) for steps in ("CDEF", "GABC")]
    return musicxml([attributes(divisions) + bars[0], bars[1]])


def zipped(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path
