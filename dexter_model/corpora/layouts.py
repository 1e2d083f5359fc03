"""How each corpus lays out its files; a function a layout, from the corpus's folder to its pieces.

Only names are looked at, no file is opened: (n)ASAP's 3,500 files take a tenth of a second. Paths become keys, which
name a piece or a performance for ever and must not depend on what else is in the folder.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from dexter_model.corpora.sources import PerformanceSource, PieceSource, valid_utf8
from dexter_model.corpora.works import work_of
from dexter_model.errors import InputError

SCORE_SUFFIXES = (".musicxml", ".mxl", ".xml", ".mei", ".krn")

# MUSIC21: folder and composer of what is in the public domain and was encoded to be shared. Left out are the editions
# that reserve rights or do not say (monteverdi, trecento), one song under copyright (leadSheet), and what is no music
# to play (demos, theoryExercises).
MUSIC21_COMPOSERS = {
    "bach": "Bach",
    "beach": "Beach",
    "beethoven": "Beethoven",
    "corelli": "Corelli",
    "cpebach": "C. P. E. Bach",
    "handel": "Handel",
    "haydn": "Haydn",
    "johnson_j_r": "Johnson",
    "joplin": "Joplin",
    "liliuokalani": "Liliuokalani",
    "lusitano": "Lusitano",
    "mozart": "Mozart",
    "schoenberg": "Schoenberg",
    "schubert": "Schubert",
    "schumann_clara": "Clara Schumann",
    "schumann_robert": "Schumann",
    "verdi": "Verdi",
    "weber": "Weber",
}


def vienna(root: Path) -> list[PieceSource]:
    """Vienna 4x22: ``match/<piece>_pNN.match`` and ``musicxml/<piece>.musicxml``; averages are no performances."""
    performances: dict[str, list[PerformanceSource]] = defaultdict(list)
    for path in files_below(root / "match"):
        piece, _, performer = path.stem.rpartition("_")
        if path.suffix == ".match" and piece and "average" not in path.name:
            performances[piece].append(
                PerformanceSource(key_of(path, root), place_of(path), None, valid_utf8(performer))
            )
    return [
        named_piece("VIENNA422", valid_utf8(piece), piece, existing(root / "musicxml" / f"{piece}.musicxml"), played)
        for piece, played in performances.items()
    ]


def asap(root: Path) -> list[PieceSource]:
    """(n)ASAP: folders of ``xml_score.musicxml``, ``<performance>.mid`` and its note alignment.

    The MIDI file with its tsv comes first, the match file only where the tsv is missing: its times are rounded.
    """
    performances: dict[Path, list[PerformanceSource]] = defaultdict(list)
    for path in files_below(root):
        if path.suffix == ".mid" and path.name != "midi_score.mid":
            performances[path.parent].append(_asap_performance(path, root))
    pieces = []
    for folder, played in performances.items():
        key = key_of(folder, root)
        composer, _, name = key.partition("/")
        score = existing(folder / "xml_score.musicxml")
        work = work_of("ASAP", key, composer, name)
        pieces.append(PieceSource("ASAP", key, work, composer, name.replace("_", " "), score, tuple(played)))
    return pieces


def _asap_performance(path: Path, root: Path) -> PerformanceSource:
    performer = re.sub(r"(_\d{4}_)?\d+M?(_\d{4})?$", "", path.stem)  # year, number of the recording, M for MAESTRO
    tsv = existing(path.parent / f"{path.stem}_note_alignments" / "note_alignment.tsv")
    match = None if tsv else existing(path.with_suffix(".match"))
    return PerformanceSource(key_of(path, root), match or place_of(path), tsv, valid_utf8(performer))


def folder(root: Path) -> list[PieceSource]:
    """Any folder of match files and scores, at any depth.

    A match file's score is the one it is named after (``Chopin_op38_p01.match``: ``Chopin_op38.musicxml``), in its own
    folder or elsewhere; else the only score of its folder when that is named after no match file there; else the match
    file itself, which holds the score's notes. Scores that nobody plays are left out.
    """
    files = list(files_below(root))
    scores = [path for path in files if path.suffix.lower() in SCORE_SUFFIXES]
    matches = [path for path in files if path.suffix.lower() == ".match"]
    named = _by_stem(scores)
    beside = {match: _named_like(match, match.parent, named) for match in matches}
    alone = _alone(scores, {match.parent for match, score in beside.items() if score})
    performances: dict[Path, list[PerformanceSource]] = defaultdict(list)
    for path in matches:
        score = beside[path] or _named_like(path, None, named) or alone.get(path.parent) or path
        performer = valid_utf8(path.stem.removeprefix(score.stem).strip("_-. ") or path.stem)
        performances[score].append(PerformanceSource(key_of(path, root), place_of(path), None, performer))
    return [
        named_piece("FOLDER", key_of(score, root), score.stem, place_of(score), played)
        for score, played in performances.items()
    ]


def _by_stem(scores: Sequence[Path]) -> dict[tuple[Path | None, str], Path]:
    """Scores by folder and stem, and by stem alone (folder None); of several the last by name."""
    named: dict[tuple[Path | None, str], Path] = {}
    for score in sorted(scores, key=Path.as_posix):
        named[score.parent, score.stem] = named[None, score.stem] = score
    return named


def _named_like(match: Path, folder: Path | None, named: dict[tuple[Path | None, str], Path]) -> Path | None:
    """The score with the longest stem that is the match file's, or begins it and ends where a word does."""
    ends = [end for end, sign in enumerate(match.stem) if sign in "_-. "] + [len(match.stem)]
    found = (named.get((folder, match.stem[:end])) for end in reversed(ends))
    return next(filter(None, found), None)


def _alone(scores: Sequence[Path], others: set[Path]) -> dict[Path, Path]:
    """The only score of each folder that has one only and is not among the others."""
    count = Counter(score.parent for score in scores)
    return {score.parent: score for score in scores if count[score.parent] == 1 and score.parent not in others}


def music21(root: Path) -> list[PieceSource]:
    """MUSIC21: the scores that ship inside the package; nobody plays them."""
    pieces = []
    for name, composer in MUSIC21_COMPOSERS.items():
        for path in files_below(root / name):
            if path.suffix in (".mxl", ".xml", ".musicxml"):
                title = path.relative_to(root / name).with_suffix("").as_posix()
                key = key_of(path, root)
                work = work_of("MUSIC21", key, composer, title)
                title = title.replace("/", " ").replace("_", " ")
                pieces.append(PieceSource("MUSIC21", key, work, composer, title, place_of(path), ()))
    return pieces


def packaged(package: str, *inside: str) -> Path:
    """A folder or file inside an installed package, which is not imported (music21 takes seconds).

    Raises:
        InputError: ``corpus_missing``, the package is not installed or came without it.
    """
    spec = importlib.util.find_spec(package)
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location).joinpath(*inside)
        if path.exists():
            return path
    missing = "/".join([package, *inside])
    raise InputError(missing, "is not installed", f"Install the package: pip install {package}", "corpus_missing")


def named_piece(
    corpus: str, key: str, stem: str, score: str | None, performances: Sequence[PerformanceSource]
) -> PieceSource:
    """A piece of a corpus that names its files ``Composer_piece``: by the part ``stem`` of a name."""
    stem = valid_utf8(stem)
    composer, named, name = stem.partition("_")
    if not named:
        composer, name = "", stem
    title = name.replace("_", " ")
    work = work_of(corpus, key, composer, name)
    return PieceSource(corpus, key, work, composer, title, score, tuple(performances))


def files_below(root: Path) -> Iterator[Path]:
    """The files under a folder, sorted by path; links to folders are not followed, hidden files not seen."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def key_of(path: Path, root: Path) -> str:
    """A file's or folder's path inside its corpus (posix), which names it for ever."""
    return valid_utf8(path.relative_to(root).as_posix())


def place_of(path: Path) -> str:
    """Where a file lies, absolute: whoever opens it may work in another folder."""
    return str(path.absolute())


def existing(path: Path) -> str | None:
    """Where a file lies, None when it is not there."""
    return place_of(path) if path.is_file() else None
