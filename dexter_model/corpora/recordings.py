"""Layouts of corpora of performances without scores: a piece is one file, or one record of a file of many.

Its key is the file's path inside the corpus, with ``#000123`` after it for a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dexter_model.corpora.atepp import NAMESAKES
from dexter_model.corpora.books import Row, read_table
from dexter_model.corpora.layouts import files_below, key_of, named_piece, place_of
from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.corpora.works import work_of
from dexter_model.errors import InputError
from dexter_model.places import RECORDS
from dexter_model.reading.note_sequences import index

MAESTRO_TABLE = "maestro-v*.csv"
SPLITS = ("train", "validation", "test")
_COLUMNS = ("canonical_composer", "canonical_title", "split", "midi_filename")
_MIDI = (".mid", ".midi")
_PLAYED = (*_MIDI, ".musicxml", ".mxl", ".xml")
_SONG, _MD5 = re.compile(r"TR[A-Z0-9]{16}"), re.compile(r"[0-9a-f]{32}")
_OF_RECORDS = re.compile(rf".+{RECORDS}", re.DOTALL)


def maestro(root: Path) -> list[PieceSource]:
    """MAESTRO: folders of years, and a table of composers, titles and splits, which are kept.

    Raises:
        InputError: ``corpus_unreadable`` when the table is missing or damaged.
    """
    rows = {row["midi_filename"]: row for row in maestro_listed(root)}
    found = {key_of(path, root): path for path in files_below(root) if path.suffix.lower() in _MIDI}
    return [_of_maestro(key, path, rows[key]) for key, path in found.items() if key in rows]  # no path is followed


def maestro_listed(root: Path) -> list[Row]:
    """The lines of MAESTRO's newest table.

    Raises:
        InputError: ``corpus_unreadable``.
    """
    tables = sorted(root.glob(MAESTRO_TABLE))
    if not tables:
        reason = "is missing: nothing else tells what is in MAESTRO and how it is split"
        raise InputError(root / "maestro-v3.0.0.csv", reason, "Get the corpus again", "corpus_unreadable")
    rows = read_table(tables[-1], _COLUMNS)
    unknown = sorted({row["split"] for row in rows} - {*SPLITS, ""})
    if unknown:
        reason = f"knows splits that are none of {', '.join(SPLITS)}: {', '.join(unknown)[:80]}"
        raise InputError(tables[-1], reason, "Get the corpus again", "corpus_unreadable")
    return rows


def _of_maestro(key: str, path: Path, row: Row) -> PieceSource:
    composer, title = row["canonical_composer"], row["canonical_title"]
    work = work_of("MAESTRO", key, NAMESAKES.get(composer, composer.split(" ")[-1]), title)
    return PieceSource("MAESTRO", key, work, composer, title, None, (_played(key, path),), row["split"])


def lakh(root: Path) -> list[PieceSource]:
    """Lakh: MIDI files at any depth; files of one song are one work.

    They are those in one folder of lmd_matched, named by the song's number in the Million Song Dataset; those named by
    one MD5, so that a file which is in two such folders unites them; and ``Artist/Song.1.mid``, ``Song.2.mid``.
    """
    found = {key_of(path, root): path for path in files_below(root) if path.suffix.lower() in _MIDI}
    works = _united({key: _songs(key) for key in found})
    return [
        PieceSource("LAKH", key, f"lakh/{works[key]}", "", path.stem.replace("_", " "), None, (_played(key, path),))
        for key, path in found.items()
    ]


def _songs(key: str) -> list[str]:
    """What a file of Lakh may have in common with others of its song."""
    *folders, name = key.split("/")
    stem = name.rpartition(".")[0]
    songs = [*filter(_SONG.fullmatch, folders), *([stem] if _MD5.fullmatch(stem) else [])]
    return songs or [re.sub(r"([.]\d+)?[.][^.]*$", "", key)]


def _united(names: Mapping[str, list[str]]) -> dict[str, str]:
    """One name a key, the same for keys that share a name, be it by way of others."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while name in above:
            name = above[name]
        return name

    for own in names.values():
        first, *others = sorted({top(name) for name in own})
        above.update(dict.fromkeys(others, first))
    return {key: top(own[0]) for key, own in names.items()}


def midi(root: Path) -> list[PieceSource]:
    """Any folder of MIDI and MusicXML files and of TFRecord files of NoteSequences, at any depth.

    Files named ``Composer_piece`` are works by the rule of ``works``; of others nothing is known, each is its own.
    """
    return [piece for path in files_below(root) for piece in in_file(path, key_of(path, root))]


def in_file(path: Path, key: str) -> list[PieceSource]:
    """What a file, whose key in its corpus is given, holds as ``midi`` sees it: none, one or many."""
    if _OF_RECORDS.fullmatch(path.name):
        return [_alone(f"{key}{record}", place_of(path) + record) for record in _records(path)]
    if path.suffix.lower() not in _PLAYED:
        return []
    if path.stem.partition("_")[0].isalpha() and "_" in path.stem:
        return [named_piece("MIDI", key, path.stem, None, [_played(key, path)])]
    return [_alone(key, place_of(path))]


def _records(path: Path) -> Iterator[str]:
    """What names a file's records; nothing for a file that is none as a whole, which reading it will tell."""
    try:
        yield from (f"#{number:06}" for number in range(len(index(path))))
    except InputError:
        yield ""


def _played(key: str, path: Path) -> PerformanceSource:
    return PerformanceSource(key, place_of(path), None, "")


def _alone(key: str, place: str) -> PieceSource:
    name = re.sub(r"[.][^.#/]*(?=#|$)", "", key)
    title = name.replace("/", " – ").replace("_", " ")
    return PieceSource("MIDI", key, f"midi/{name}", "", title, None, (PerformanceSource(key, place, None, ""),))
