"""Scores of any common format as one table of notes; parsed ones are remembered.

partitura reads the formats; it takes seconds to import and about 0.2 ms a note, so a score that was read before comes
from the cache, by the digest of its bytes, without importing partitura.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dexter_model.digests import cache_dir, file_digest, json_digest, write_atomically
from dexter_model.notes import SCORE_NOTE, Score
from dexter_model.reading.safety import check_file, check_xml, empty, read_musicxml, read_score_midi, unreadable

# To be raised whenever the same file gives another table. Version 3 began without bounds of tempo (directions.SLOWEST
# and FASTEST); these did not raise it, as no score of the corpora comes near them: the fastest of Vienna 4x22 and ASAP
# asks for 480 quarter notes a minute.
READER_VERSION = 3

MUSICXML = (".musicxml", ".xml", ".mxl")
KERN = (".krn", ".kern")
MIDI = (".mid", ".midi")
SUFFIXES = (*MUSICXML, ".mei", *KERN, ".match", *MIDI)


def import_partitura() -> ModuleType:
    """partitura, without music21 and pandas: it imports them on sight, for readers not used here, in half its time."""
    hidden = [name for name in ("music21", "pandas") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import partitura
    finally:
        for name in hidden:
            del sys.modules[name]
    return partitura


def load_score(path: str | Path, unfold: bool = False) -> Score:
    """Read a score: MusicXML (plain or zipped), MEI, Kern, the score side of a match file, or a score-MIDI.

    Args:
        path: the file; its name tells the format.
        unfold: play all repeats; note ids then carry the repetition (``n12-1``, ``n12-2``), as ASAP's alignments do.

    Returns:
        All parts' notes, tied notes joined, sorted by onset (divs), then pitch.

    Raises:
        InputError: ``score_unreadable``, ``score_unsafe`` or ``score_empty``.
    """
    path = Path(path)
    check_file(path)
    score = cached_score(path, unfold)
    if score is None:
        score = _read(path, unfold)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the score
            write_atomically(_cache_file(path, unfold), _packed(score))
    return score


def cached_score(path: str | Path, unfold: bool = False) -> Score | None:
    """The score as it was read before, None when it was not, has changed since, or the cache file is damaged."""
    try:
        with np.load(_cache_file(Path(path), unfold), allow_pickle=False) as file:
            note_id, notes = file["note_id"], file["notes"]
    except Exception:  # a damaged archive raises all sorts of errors; the score is read again
        return None
    sound = notes.dtype == SCORE_NOTE and note_id.dtype.kind == "U" and len(note_id) == len(notes) > 0
    return Score(note_id, notes) if sound else None


def _cache_file(path: Path, unfold: bool) -> Path:
    key = json_digest([READER_VERSION, path.suffix.lower(), unfold, file_digest(path)])
    return cache_dir() / "scores" / f"{key}.npz"


def _packed(score: Score) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, note_id=score.note_id, notes=score.notes)
    return packed.getvalue()


def _read(path: Path, unfold: bool) -> Score:
    source = _checked(path)
    try:
        with _quietly():
            partitura = import_partitura()
            from dexter_model.reading.directions import Markings, take_directions
            from dexter_model.reading.score_notes import score_notes

            markings: dict[str, Markings] = {}
            if path.suffix.lower() in MUSICXML:
                source, markings = take_directions(source)
            score = score_notes(_parts(partitura, path.suffix.lower(), source), markings, unfold=unfold)
    except MemoryError:
        raise
    except Exception as error:  # partitura raises whatever the file leads it to
        what = "".join(filter(str.isprintable, str(error)))[:200] or type(error).__name__
        raise unreadable(path, f"it cannot be read as a score ({what})") from error
    if not len(score.notes):
        raise empty(path)
    return score


def _checked(path: Path) -> Any:
    """What partitura's reader of this format is given: a document, a MIDI file's messages, or the path."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        reason = f"scores in {suffix or 'files without a suffix'} are not read"
        raise unreadable(path, reason, f"Use one of {', '.join(SUFFIXES)}")
    if suffix in MUSICXML:
        return read_musicxml(path)
    if suffix in MIDI:
        return read_score_midi(path)
    if suffix == ".mei":
        check_xml(path, path.read_bytes())
    return str(path)


def _parts(partitura: ModuleType, suffix: str, source: Any) -> list[Any]:
    if suffix in MUSICXML:
        score = partitura.load_musicxml(io.BytesIO(source), force_note_ids="keep")
    elif suffix == ".mei":
        score = partitura.load_mei(source)
    elif suffix in KERN:
        score = partitura.load_kern(source, force_note_ids="keep")
    elif suffix == ".match":
        score = partitura.load_match(source, create_score=True)[2]
    else:
        score = partitura.load_score_midi(source)
    return list(score.parts)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """No warnings, and no garbage collection: what a parser makes stays alive until it is done (a tenth faster)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collecting:
                gc.enable()
