"""What of a corpus is on disk: counts, what its own books list beyond that, and which files are missing."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.errors import InputError

VIENNA_PIECES = ("Chopin_op10_no3", "Chopin_op38", "Mozart_K331_1st-mov", "Schubert_D783_no15")


@dataclass(frozen=True)
class CorpusCheck:
    """Counts of a corpus; ``with_score``, ``with_alignment`` and ``with_both`` count performances.

    ``listed_not_present``: performances in the corpus's books whose file is not there. ``missing``: what performances
    that are there lack, a sentence each.
    """

    corpus: str
    pieces: int
    performances: int
    with_score: int
    with_alignment: int
    with_both: int
    listed_not_present: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything listed is there, with score and alignment."""
        return not self.listed_not_present and not self.missing

    def summary(self) -> str:
        """The check as a few lines of text."""
        lines = [
            f"{self.corpus}: {self.pieces} pieces, {self.performances} performances",
            f"  with score and alignment: {self.with_both}",
            f"  without score: {self.performances - self.with_score}",
            f"  without alignment: {self.performances - self.with_alignment}",
            f"  listed but not present: {len(self.listed_not_present)}",
        ]
        lines += [f"  missing: {told}" for told in self.missing]
        return "\n".join(lines + [f"  not present: {key}" for key in self.listed_not_present])


def check(corpus: str, roots: CorpusRoots) -> CorpusCheck:
    """Count a corpus and find what it lacks.

    Raises:
        InputError: as ``discover``; ``corpus_unreadable`` when the corpus's own books cannot be read.
    """
    pieces = discover(corpus, roots)
    played = [(piece, performance) for piece in pieces for performance in piece.performances]
    scored = [piece.score is not None for piece, _ in played]
    aligned = [p.alignment is not None or p.performance.lower().endswith(".match") for _, p in played]
    missing = [
        *(f"score of {piece.key} ({len(piece.performances)} performances)" for piece in pieces if piece.score is None),
        *(f"alignment of {p.key}" for (_, p), there in zip(played, aligned, strict=True) if not there),
    ]
    return CorpusCheck(
        corpus,
        len(pieces),
        len(played),
        sum(scored),
        sum(aligned),
        sum(map(all, zip(scored, aligned, strict=True))),
        tuple(listed_not_present(corpus, roots)),
        tuple(missing),
    )


def listed_not_present(corpus: str, roots: CorpusRoots) -> list[str]:
    """Performances that the corpus's own books name and whose file is not on disk, as keys, sorted."""
    if corpus == "VIENNA422":
        listed = [f"match/{piece}_p{number:02}.match" for piece in VIENNA_PIECES for number in range(1, 23)]
    elif corpus == "ASAP":
        listed = _asap_books(roots.folder(corpus) / "metadata.csv")
    else:
        return []
    return sorted(key for key in set(listed) if not (roots.folder(corpus) / key).is_file())


def _asap_books(path: Path) -> list[str]:
    """Performance MIDI files that (n)ASAP's metadata.csv lists; a corpus without it lists nothing."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row["midi_performance"] for row in csv.DictReader(file) if row.get("midi_performance")]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"cannot be read ({error})", "Download the corpus again", "corpus_unreadable") from None
