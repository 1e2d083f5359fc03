"""ATEPP's layout: virtuosi's performances transcribed from recordings, in a folder a piece, listed in one table.

``ATEPP-metadata-1.x.csv`` beside (or above) the composers' folders lists the performances; a piece's folder holds
``<number>.mid``, ``<number>/align.csv`` (parangonada's table) and at most one score. The table only tells what belongs
to the corpus and who plays: files are found by looking into the folders, so whatever paths it holds, none is followed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from dexter_model.corpora.books import Row, read_table
from dexter_model.corpora.layouts import existing, files_below, key_of, place_of
from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.corpora.works import work_of
from dexter_model.errors import InputError

METADATA = "ATEPP-metadata*.csv"
COLUMNS = ("midi_path", "score_path", "artist")
QUALITY = "quality"  # from version 1.2 on: corrupted, low quality, background noise, applause, high quality
SCORE_SUFFIXES = (".musicxml", ".mxl", ".xml")
NAMESAKES = {"Carl Philipp Emanuel Bach": "C. P. E. Bach", "Clara Schumann": "Clara Schumann"}
_RANGE = re.compile(r"\d+-\d{3,}")  # BWV 870-893: a whole book
_CATALOGUED = re.compile(r"(?:Op|BWV)[._ ]*\d", re.IGNORECASE)
_MOVEMENT = re.compile(r"(?:\d+:_)?(?:No\.?_*)?(\d+|[IVX]+)(?:[._,:]|$)")  # 3._Presto, IV._Rondo, No.5, 48:_1._Andante
_ROMAN = {"I": 1, "V": 5, "X": 10}


def atepp(root: Path) -> list[PieceSource]:
    """The pieces of ATEPP under a folder: performances that its table lists and that are there.

    Raises:
        InputError: ``corpus_unreadable`` when its table is missing, damaged, or lacks a column.
    """
    base = folder_of_pieces(root)
    found = midi_files(base)
    pieces: dict[Path, dict[Path, Row]] = defaultdict(dict)
    for row in listed(root):
        path = found.get(row["midi_path"])
        if path:
            pieces[path.parent][path] = row
    return [_piece(folder, rows, base) for folder, rows in pieces.items()]


def listed(root: Path) -> list[Row]:
    """The lines of the metadata table that name a MIDI file, paths in ``normal`` form.

    Raises:
        InputError: ``corpus_unreadable``.
    """
    rows = read_table(_table(root), COLUMNS, (QUALITY,))
    return [row | {name: normal(row[name]) for name in ("midi_path", "score_path")} for row in rows if row["midi_path"]]


def midi_files(base: Path) -> dict[str, Path]:
    """The MIDI files under the folder of pieces, by normal path."""
    return {normal(key_of(path, base)): path for path in files_below(base) if path.suffix.lower() == ".mid"}


def folder_of_pieces(root: Path) -> Path:
    """The folder that the table's paths are in: its own, or the only ``ATEPP-1.x`` beside it."""
    beside = _table(root).parent
    inner = [path for path in beside.glob("ATEPP-*") if path.is_dir()]
    return inner[0] if len(inner) == 1 else beside


def normal(path: str) -> str:
    """A path of the table or of the disk in one form, since systems spell accents differently."""
    return unicodedata.normalize("NFC", path.replace("\\", "/"))


def named(key: str) -> tuple[str, str]:
    """Composer and name of a piece, for the rule of works, from its folder.

    ``Ludwig_van_Beethoven/Piano_Sonata_No._8_in_C_Minor,_Op._13/II._Adagio`` is Beethoven's ``..._Op._13/2``.
    """
    composer, _, name = key.partition("/")
    composer = composer.replace("_", " ")
    *above, last = _RANGE.sub("", name).split("/")
    movement = _MOVEMENT.match(last)
    if above and _CATALOGUED.search(last):
        name = last
    elif above and movement:
        name = "/".join([*above, str(_number(movement[1]))])
    return NAMESAKES.get(composer, composer.split(" ")[-1]), name


def _piece(folder: Path, rows: dict[Path, Row], base: Path) -> PieceSource:
    key = normal(key_of(folder, base))
    composer, name = named(key)
    title = key.partition("/")[2].replace("/", " – ").replace("_", " ")
    performances = tuple(_performance(path, row) for path, row in sorted(rows.items()))
    work = work_of("ATEPP", key, composer, name)
    return PieceSource("ATEPP", key, work, composer, title, _score(folder, rows.values(), base), performances)


def _performance(path: Path, row: Row) -> PerformanceSource:
    alignment = existing(path.with_suffix("") / "align.csv")
    return PerformanceSource(row["midi_path"], place_of(path), alignment, row["artist"], recording=row[QUALITY].lower())


def _score(folder: Path, rows: Iterable[Row], base: Path) -> str | None:
    """The score that the table names, if it is in the folder; else the only one there."""
    scores = {
        normal(key_of(path, base)): place_of(path)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SCORE_SUFFIXES and path.is_file()
    }
    told = [scores[row["score_path"]] for row in rows if row["score_path"] in scores]
    return next(iter([*told, *(scores.values() if len(scores) == 1 else ())]), None)


def _table(root: Path) -> Path:
    """The newest metadata table in the folder or in one of its folders."""
    tables = [*root.glob(METADATA), *root.glob(f"*/{METADATA}")]
    if not tables:
        reason = "is missing: nothing else tells what belongs to ATEPP and who plays"
        raise InputError(root / "ATEPP-metadata-1.2.csv", reason, "Get the corpus again", "corpus_unreadable")
    return max(tables, key=lambda path: ([int(number) for number in re.findall(r"\d+", path.stem)], path))


def _number(text: str) -> int:
    """A number in Arabic or Roman figures."""
    if text.isdigit():
        return int(text)
    values = [_ROMAN[sign] for sign in text]
    return sum(-value if value < max(values[place:]) else value for place, value in enumerate(values))
