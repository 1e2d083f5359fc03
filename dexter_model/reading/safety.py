"""What an untrusted score file must pass before a parser sees it: size, container, prolog and span.

XML entities, zip archives and huge tick counts let a small file grow without bound while it is read. These checks cost
milliseconds and turn the known ways into a clear refusal; the sandbox's limits are there for the unknown ones. The
bytes that were checked are the bytes that are parsed. Nothing is ever fetched: a DOCTYPE that names a public DTD, as
nearly every MusicXML file's does, is allowed and its DTD is not read.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import ExpatError, ParserCreate

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from dexter_model.errors import InputError

if TYPE_CHECKING:
    from mido import MidiFile

MAX_BYTES = 64 << 20  # of a file, and of an archive's unpacked contents; the largest score of ASAP has 6 MB
MAX_MEMBERS = 1000
MAX_RATIO = 200  # deflated MusicXML reaches about 40
MAX_QUARTERS = 20_000  # a MIDI file's span; the longest movements have a few thousand
MAX_BEAT_TYPE = 64  # partitura lays out every bar of a MIDI file's span

EXPORT_AGAIN = "Export the score again, as MusicXML"
DISTRUST = "Do not use this file, or export the score again from its source"


def unreadable(path: object, reason: str, remedy: str = EXPORT_AGAIN) -> InputError:
    """An ``InputError`` with code ``score_unreadable``."""
    return InputError(path, reason, remedy, "score_unreadable")


def unsafe(path: object, reason: str) -> InputError:
    """An ``InputError`` with code ``score_unsafe``."""
    return InputError(path, reason, DISTRUST, "score_unsafe")


def empty(path: object) -> InputError:
    """An ``InputError`` with code ``score_empty``."""
    return InputError(path, "the score has no notes", "Give a score with at least one pitched note", "score_empty")


def check_file(path: Path) -> None:
    """Refuse what is no file, empty, or larger than any score.

    Raises:
        InputError: ``score_unreadable`` or ``score_unsafe``.
    """
    if path.is_dir():
        raise unreadable(path, "it is a folder, not a file", "Name a score file inside it")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise unreadable(path, error.strerror or str(error), "Check the path and its permissions") from None
    if not path.is_file():
        raise unreadable(path, "it is no regular file", "Name a score file")
    if size == 0:
        raise unreadable(path, "the file is empty", "Copy or download it again")
    if size > MAX_BYTES:
        raise unsafe(path, f"the file has {size >> 20} MiB, more than any score ({MAX_BYTES >> 20} MiB)")


def read_musicxml(path: Path) -> bytes:
    """The MusicXML document in a file, plain or zipped (told apart by content, not by name), checked.

    Raises:
        InputError: ``score_unreadable``, ``score_unsafe`` or ``score_empty``.
    """
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        data = _unpack(path, data)
    root = check_xml(path, data)
    if root == "score-timewise":
        raise unreadable(path, "it is a timewise MusicXML score", "Export it as partwise MusicXML")
    if root != "score-partwise":
        raise unreadable(path, f"it is no MusicXML score: its root element is <{root[:80]}>")
    if b"pitch" not in data.replace(b"\0", b""):  # zeros: UTF-16; told here, since partitura takes seconds to import
        raise empty(path)
    return data


def check_xml(path: Path, data: bytes) -> str:
    """Refuse XML that declares entities or is not well-formed; returns the root element's name, without namespace.

    Entities can be declared in the prolog only, so the guarded parser stops at the root element; expat alone, ten times
    faster than a parser that builds elements, goes through the rest (partitura's MEI reader mends what is broken).

    Raises:
        InputError: ``score_unreadable`` or ``score_unsafe``.
    """
    try:
        _event, root = next(iter(_elements(data)))
        ParserCreate().Parse(data, True)
    except DefusedXmlException:
        raise unsafe(path, "it declares XML entities, which can grow without bound or read other files") from None
    except (ParseError, ExpatError, StopIteration, ValueError, LookupError) as error:
        raise unreadable(path, f"it is not well-formed XML ({error})") from None
    return _name(root)


def _elements(data: bytes) -> Iterator[tuple[str, Element]]:
    elements: Iterator[tuple[str, Element]] = iterparse(
        io.BytesIO(data), ("start",), forbid_entities=True, forbid_external=True
    )
    return elements


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _unpack(path: Path, data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_members(path, archive.infolist())
            container = _member(archive, "META-INF/container.xml")
            check_xml(path, container)
            return _member(archive, _root_file(path, container))
    except KeyError as error:
        raise unreadable(path, f"the archive lacks a part it needs ({error.args[0]})") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise unreadable(path, f"the archive is damaged ({error})", "Copy or download it again") from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    # Asked for a size, zipfile unpacks no more; a wrong checksum is an error. So declared sizes can be trusted.
    declared = archive.getinfo(name)
    with archive.open(declared) as member:
        return member.read(declared.file_size + 1)


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise unsafe(path, f"the archive has {len(members):,} members")
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise unsafe(path, f"the archive unpacks to more than {MAX_BYTES >> 20} MiB")
    for member in members:
        if member.file_size > MAX_RATIO * max(member.compress_size, 1 << 10):
            raise unsafe(path, f"the archive's {member.filename[:80]!r} is packed more than {MAX_RATIO} to one")
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise unsafe(path, f"the archive names a file outside itself ({member.filename[:80]!r})")


def _root_file(path: Path, container: bytes) -> str:
    for _event, element in _elements(container):
        if _name(element) == "rootfile" and element.get("full-path"):
            return str(element.get("full-path"))
    raise unreadable(path, "the archive does not say which of its files is the score")


def read_score_midi(path: Path) -> MidiFile:
    """A MIDI file's messages, refused when it is damaged or spans more than any piece.

    Raises:
        InputError: ``score_unreadable`` or ``score_unsafe``.
    """
    import mido

    try:
        midi = mido.MidiFile(str(path))
    except Exception as error:  # mido raises whatever the bytes lead it to
        raise unreadable(path, f"it is no sound MIDI file ({error!r})", "Copy or export it again") from None
    ticks = max((sum(message.time for message in track) for track in midi.tracks), default=0)
    if midi.ticks_per_beat <= 0:
        raise unreadable(path, "its times are not counted in beats", "Give a MIDI file written by a score editor")
    if ticks > MAX_QUARTERS * midi.ticks_per_beat:
        raise unsafe(path, f"it spans {ticks // midi.ticks_per_beat:,} quarter notes")
    metres = [message for track in midi.tracks for message in track if message.type == "time_signature"]
    if any(metre.numerator < 1 or metre.denominator > MAX_BEAT_TYPE for metre in metres):
        raise unreadable(path, "it has a time signature of no music")
    if not any(message.type == "note_on" for track in midi.tracks for message in track):
        raise empty(path)
    return midi
