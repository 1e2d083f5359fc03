"""A small folder in ATEPP's layout, made of Vienna 4x22: its scores, and some of its performances as MIDI files."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.notes import Alignment, Performance
from dexter_model.reading.match import load_match
from dexter_model.reading.midi import load_midi

# As ATEPP names folders and composers, and a suffix that a score of its may have.
PIECES = {
    "Chopin_op10_no3": ("Frederic_Chopin/12_Études,_Op._10/No._3_in_E_Major", "Frédéric Chopin", ".mxl"),
    "Chopin_op38": ("Frederic_Chopin/Ballade_No._2_in_F_Major,_Op._38", "Frédéric Chopin", ".musicxml"),
    "Mozart_K331_1st-mov": (
        "Wolfgang_Amadeus_Mozart/Piano_Sonata_No._11_in_A_Major,_K._331/1._Tema_(Andante_grazioso)_con_variazioni",
        "Wolfgang Amadeus Mozart",
        ".xml",
    ),
    "Schubert_D783_no15": ("Franz_Schubert/16_German_Dances,_D._783/No._15_in_A-Flat_Major", "Franz Schubert", ".mxl"),
}
COLUMNS = ["artist", "artist_id", "track", "track_duration", "composer", "composition_id", "score_path", "midi_path"]
COLUMNS += ["youtube_links", "quality", "perf_id", "repetition"]


def write_atepp(root: Path, vienna: Path, performers: Iterable[int] = (1, 2)) -> list[dict[str, str]]:
    """Write the folder and its metadata, and return the rows of the metadata."""
    rows: list[dict[str, str]] = []
    for piece, (folder, composer, suffix) in PIECES.items():
        place = root / folder
        place.mkdir(parents=True)
        score = write_score(vienna / "musicxml" / f"{piece}.musicxml", place / f"musicxml_cleaned{suffix}")
        for performer in performers:
            number = f"{len(rows) + 1:05}"
            performance, alignment = load_match(vienna / "match" / f"{piece}_p{performer:02}.match")
            write_performance_midi(performance, place / f"{number}.mid")
            read_back = load_midi(place / f"{number}.mid")
            write_align_csv(place / number / "align.csv", renumbered(alignment, performance, read_back))
            row = dict.fromkeys(COLUMNS, "") | {"artist": f"Pianist {performer}", "composer": composer}
            row |= {"midi_path": f"{folder}/{number}.mid", "score_path": f"{folder}/{score.name}", "perf_id": number}
            rows.append(row)
    write_metadata(root / "ATEPP-metadata-1.2.csv", rows)
    return rows


def write_score(source: Path, score: Path) -> Path:
    """Copy a score, zipped where its suffix says so."""
    if score.suffix == ".mxl":
        container = '<?xml version="1.0"?><container><rootfiles><rootfile full-path="s.xml"/></rootfiles></container>'
        with zipfile.ZipFile(score, "w") as packed:
            packed.writestr("META-INF/container.xml", container)
            packed.writestr("s.xml", source.read_bytes())
    else:
        score.write_bytes(source.read_bytes())
    return score


def renumbered(alignment: Alignment, performance: Performance, read_back: Performance) -> Alignment:
    """The alignment with the ids that the notes have in the MIDI file: a key's k-th note is its k-th there."""
    mine, theirs = (np.lexsort((p.notes["onset_sec"], p.notes["pitch"])) for p in (performance, read_back))
    ids = dict(zip(performance.note_id[mine].tolist(), read_back.note_id[theirs].tolist(), strict=True)) | {"": ""}
    return Alignment(alignment.score_id, np.array([ids[name] for name in alignment.performance_id.tolist()]))


def write_align_csv(path: Path, alignment: Alignment) -> None:
    """Write parangonada's alignment table."""
    path.parent.mkdir(exist_ok=True)
    lines = ["idx,matchtype,partid,ppartid"]
    for index, (score, played) in enumerate(zip(alignment.score_id, alignment.performance_id, strict=True)):
        kind = 0 if score and played else 1 if score else 2
        lines.append(f"{index},{kind},{score or 'undefined'},{played or 'undefined'}")
    path.write_text("\n".join(lines) + "\n")


def write_metadata(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write ATEPP's metadata table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
