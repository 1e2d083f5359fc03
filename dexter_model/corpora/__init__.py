"""Where pieces come from: the corpora that are known, and what is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from dexter_model.corpora.books import asap_robust
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.errors import InputError
from dexter_model.places import shown

CORPORA = {
    "VIENNA422": "Vienna 4x22: 4 excerpts by 22 pianists each, as match files (GitHub CPJKU/vienna4x22, "
    "for research: see its README)",
    "ASAP": "(n)ASAP: some 1,000 aligned performances of classical piano music, mostly from competitions "
    "(GitHub CPJKU/asap-dataset, CC BY-NC-SA 4.0)",
    "ATEPP": "11,677 performances by 49 virtuosi, transcribed from recordings, half of them with scores; alignments "
    "are published apart (GitHub tangjjbetsy/ATEPP, CC BY 4.0, sent on request: see its disclaimer)",
    "FOLDER": "any folder of match files and their scores (yours: --data-root)",
    "MAESTRO": "performances alone: 1,276 recordings of a piano competition as MIDI, with their own split "
    "(magenta.tensorflow.org/datasets/maestro, CC BY-NC-SA 4.0)",
    "LAKH": "performances alone: 176,581 MIDI files of all kinds from the web "
    "(colinraffel.com/projects/lmd, CC BY 4.0 for the collection; the songs are others')",
    "MIDI": "performances alone: any folder of MIDI, MusicXML and NoteSequence TFRecord files (yours: --data-root)",
    "MUSIC21": "scores alone: MusicXML of public-domain music inside the music21 package, over 400 by Bach and more "
    "(encodings by permission of their encoders, some CC BY-SA: see the package's corpus licence)",
    "DEMO": "needs no download: the real performance inside the parangonar package (Apache-2.0), and synthetic "
    "performances of MUSIC21 scores by rule-based virtual pianists",
}


ALONE = ("MAESTRO", "LAKH", "MIDI")  # performances that are not expected to have scores


def discover(corpus: str, roots: CorpusRoots, *, robust_only: bool = False) -> list[PieceSource]:
    """The pieces of a corpus, sorted by key; a piece or performance that lacks its score or alignment is listed too.

    Args:
        corpus: one of ``CORPORA``.
        roots: where corpora lie; MUSIC21 and DEMO need none. The synthetic part of DEMO is made at its first discovery.
        robust_only: mark the performances whose alignments ASAP's books do not call robust; of other corpora none is.

    Raises:
        InputError: ``corpus_unknown``, ``corpus_missing``, ``corpus_unreadable`` when the corpus's own books cannot be
            read, or ``corpus_empty`` when nothing in the folder is a piece.
    """
    from dexter_model.corpora import atepp, demo, layouts, recordings

    if corpus not in CORPORA:
        raise InputError(corpus, "is no corpus", f"Choose one of {', '.join(CORPORA)}", "corpus_unknown")
    if corpus == "DEMO":
        pieces = demo.discover()
    elif corpus == "MUSIC21":
        pieces = layouts.music21(layouts.packaged("music21", "corpus"))
    else:
        folder = roots.folder(corpus)
        layout = {"VIENNA422": layouts.vienna, "ASAP": layouts.asap, "ATEPP": atepp.atepp, "FOLDER": layouts.folder}
        layout |= {"MAESTRO": recordings.maestro, "LAKH": recordings.lakh, "MIDI": recordings.midi}
        pieces = layout[corpus](folder)
        if not pieces:
            remedy = "See that the folder is the right one, whole and unpacked"
            raise InputError(folder, f"holds no performance laid out as in {corpus}", remedy, "corpus_empty")
        if corpus == "ASAP" and robust_only:
            pieces = _robust(pieces, asap_robust(folder))
    return [_known(piece) for piece in sorted(pieces, key=lambda piece: piece.key)]


def features_csv(performance: str) -> str | None:
    """The perceptual features that a corpus has of a performance file.

    ``<performance>_cep_features.csv`` beside it, or ``<performance>.csv`` in the folder ``cep_features`` beside its
    folder, as Vienna 4x22 has them.
    """
    path = Path(performance)
    places = (path.with_name(f"{path.stem}_cep_features.csv"), path.parent.parent / "cep_features" / f"{path.stem}.csv")
    return next((str(place) for place in places if place.is_file()), None)


def _known(piece: PieceSource) -> PieceSource:
    """The same piece with the features that the corpus has of its performances, files at S3 by their URLs."""
    heard = (replace(each, features=features_csv(each.performance)) for each in piece.performances)
    return replace(piece, performances=tuple(heard)).with_files(shown)


def _robust(pieces: Iterable[PieceSource], robust: Collection[str]) -> list[PieceSource]:
    """The same pieces, performances marked that have an alignment which is not among the robust ones."""

    def marked(performance: PerformanceSource) -> PerformanceSource:
        return replace(performance, robust=performance.key in robust or not performance.aligned)

    return [replace(piece, performances=tuple(map(marked, piece.performances))) for piece in pieces]
