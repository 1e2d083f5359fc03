"""How each corpus lays out its files; a function a layout, from the corpus's folder to its pieces.

Only names are looked at, no file is opened: (n)ASAP's 3,500 files take a tenth of a second. Paths become keys, which
name a piece or a performance for ever and must not depend on what else is in the folder.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.corpora.works import work_id
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
    for path in _files(root / "match"):
        piece, _, performer = path.stem.rpartition("_")
        if path.suffix == ".match" and piece and "average" not in path.name:
            performances[piece].append(PerformanceSource(_key(path, root), _place(path), None, performer))
    return [
        _named_piece("VIENNA422", piece, piece, _existing(root / "musicxml" / f"{piece}.musicxml"), played)
        for piece, played in performances.items()
    ]


def asap(root: Path) -> list[PieceSource]:
    """(n)ASAP: folders of ``xml_score.musicxml``, ``<performance>.mid`` and its note alignment.

    The MIDI file with its tsv comes first, the match file only where the tsv is missing: its times are rounded.
    """
    performances: dict[Path, list[PerformanceSource]] = defaultdict(list)
    for path in _files(root):
        if path.suffix == ".mid" and path.name != "midi_score.mid":
            performances[path.parent].append(_asap_performance(path, root))
    pieces = []
    for folder, played in performances.items():
        key = _key(folder, root)
        composer, _, name = key.partition("/")
        score = _existing(folder / "xml_score.musicxml")
        work = work_id(composer, name)
        pieces.append(PieceSource("ASAP", key, work, composer, name.replace("_", " "), score, tuple(played)))
    return pieces


def _asap_performance(path: Path, root: Path) -> PerformanceSource:
    performer = re.sub(r"(_\d{4}_)?\d+M?(_\d{4})?$", "", path.stem)  # year, number of the recording, M for MAESTRO
    tsv = _existing(path.parent / f"{path.stem}_note_alignments" / "note_alignment.tsv")
    match = None if tsv else _existing(path.with_suffix(".match"))
    return PerformanceSource(_key(path, root), match or _place(path), tsv, performer)


def folder(root: Path) -> list[PieceSource]:
    """Any folder of match files and scores, at any depth.

    A match file's score is the one it is named after (``Chopin_op38_p01.match``: ``Chopin_op38.musicxml``), in its own
    folder or elsewhere; else the only score of its folder when that is named after no match file there; else the match
    file itself, which holds the score's notes. Scores that nobody plays are left out.
    """
    files = list(_files(root))
    scores = [path for path in files if path.suffix.lower() in SCORE_SUFFIXES]
    matches = [path for path in files if path.suffix.lower() == ".match"]
    performances: dict[Path, list[PerformanceSource]] = defaultdict(list)
    for path in matches:
        score = _score_named_like(path, scores) or _only_score_beside(path, scores, matches) or path
        performer = path.stem.removeprefix(score.stem).strip("_-. ") or path.stem
        performances[score].append(PerformanceSource(_key(path, root), _place(path), None, performer))
    return [
        _named_piece("FOLDER", _key(score, root), score.stem, _place(score), played)
        for score, played in performances.items()
    ]


def _score_named_like(match: Path, scores: Sequence[Path]) -> Path | None:
    named = [s for s in scores if match.stem == s.stem or re.match(re.escape(s.stem) + r"[_\-. ]", match.stem)]
    return max(named, key=lambda s: (s.parent == match.parent, len(s.stem), s.as_posix()), default=None)


def _only_score_beside(match: Path, scores: Sequence[Path], matches: Sequence[Path]) -> Path | None:
    beside = [score for score in scores if score.parent == match.parent]
    if len(beside) != 1 or any(_score_named_like(other, beside) for other in matches if other.parent == match.parent):
        return None
    return beside[0]


def music21(root: Path) -> list[PieceSource]:
    """MUSIC21: the scores that ship inside the package; nobody plays them."""
    pieces = []
    for name, composer in MUSIC21_COMPOSERS.items():
        for path in _files(root / name):
            if path.suffix in (".mxl", ".xml", ".musicxml"):
                title = path.relative_to(root / name).with_suffix("").as_posix()
                work = work_id(composer, title)
                title = title.replace("/", " ").replace("_", " ")
                pieces.append(PieceSource("MUSIC21", _key(path, root), work, composer, title, _place(path), ()))
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


def _named_piece(
    corpus: str, key: str, stem: str, score: str | None, performances: Sequence[PerformanceSource]
) -> PieceSource:
    """A piece of a corpus that names its files ``Composer_piece``."""
    composer, named, name = stem.partition("_")
    if not named:
        composer, name = "", stem
    title = name.replace("_", " ")
    return PieceSource(corpus, key, work_id(composer, name), composer, title, score, tuple(performances))


def _files(root: Path) -> Iterator[Path]:
    """The files under a folder, sorted by path; links to folders are not followed, hidden files not seen."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _key(path: Path, root: Path) -> str:
    # A name that is not UTF-8 must not break catalogues: its odd bytes are spelled out.
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def _place(path: Path) -> str:
    # Whoever opens it may work in another folder.
    return str(path.absolute())


def _existing(path: Path) -> str | None:
    return _place(path) if path.is_file() else None
