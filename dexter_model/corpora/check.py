"""What of a corpus is on disk: counts, what its own books list beyond that, and which files are missing.

Of corpora of performances alone no scores and alignments are missed.
"""

from __future__ import annotations

from dataclasses import dataclass

from dexter_model.corpora import ALONE, atepp, discover, recordings
from dexter_model.corpora.books import asap_listed
from dexter_model.corpora.roots import CorpusRoots

VIENNA_PIECES = ("Chopin_op10_no3", "Chopin_op38", "Mozart_K331_1st-mov", "Schubert_D783_no15")


@dataclass(frozen=True)
class CorpusCheck:
    """Counts of a corpus; ``with_score``, ``with_alignment``, ``with_both`` and ``not_robust`` count performances.

    ``listed_not_present``: performances in the corpus's books whose file is not there. ``missing``: what performances
    that are there lack, a sentence each. ``not_robust`` have an alignment that the books do not call robust, when only
    robust ones were asked for; they do not count as aligned.
    """

    corpus: str
    pieces: int
    performances: int
    with_score: int
    with_alignment: int
    with_both: int
    listed_not_present: tuple[str, ...]
    missing: tuple[str, ...]
    not_robust: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything listed is there, with score and alignment."""
        return not self.listed_not_present and not self.missing

    def summary(self) -> str:
        """The check as a few lines of text."""
        lines = [
            f"{self.corpus}: {self.pieces} pieces, {self.performances} performances",
            *([] if self.corpus in ALONE else self._of_scores()),
            f"  listed but not present: {len(self.listed_not_present)}",
        ]
        lines += [f"  missing: {told}" for told in self.missing]
        return "\n".join(lines + [f"  not present: {key}" for key in self.listed_not_present])

    def _of_scores(self) -> list[str]:
        return [
            f"  with score and alignment: {self.with_both}",
            f"  without score: {self.performances - self.with_score}",
            f"  without alignment: {self.performances - self.with_alignment - self.not_robust}",
            *([f"  alignment not robust: {self.not_robust}"] if self.not_robust else []),
        ]


def check(corpus: str, roots: CorpusRoots, *, robust_only: bool = False) -> CorpusCheck:
    """Count a corpus and find what it lacks; with ``robust_only`` only robust alignments count.

    Raises:
        InputError: as ``discover``; ``corpus_unreadable`` when the corpus's own books cannot be read.
    """
    pieces = discover(corpus, roots, robust_only=robust_only)
    played = [(piece, performance) for piece in pieces for performance in piece.performances]
    scored = [piece.score is not None for piece, _ in played]
    aligned = [performance.aligned and performance.robust for _, performance in played]
    missing = [
        *(f"score of {piece.key} ({len(piece.performances)} performances)" for piece in pieces if piece.score is None),
        *(f"alignment of {p.key}" for _, p in played if not p.aligned),
    ]
    return CorpusCheck(
        corpus,
        len(pieces),
        len(played),
        sum(scored),
        sum(aligned),
        sum(map(all, zip(scored, aligned, strict=True))),
        tuple(listed_not_present(corpus, roots)),
        () if corpus in ALONE else tuple(missing),
        sum(not performance.robust for _, performance in played),
    )


def listed_not_present(corpus: str, roots: CorpusRoots) -> list[str]:
    """Performances that the corpus's own books name and whose file is not on disk, as keys, sorted."""
    if corpus == "VIENNA422":
        listed = [f"match/{piece}_p{number:02}.match" for piece in VIENNA_PIECES for number in range(1, 23)]
    elif corpus == "ASAP":
        listed = asap_listed(roots.folder(corpus))
    elif corpus == "MAESTRO":
        listed = [row["midi_filename"] for row in recordings.maestro_listed(roots.folder(corpus))]
    elif corpus == "ATEPP":
        root = roots.folder(corpus)
        return sorted(
            {row["midi_path"] for row in atepp.listed(root)} - set(atepp.midi_files(atepp.folder_of_pieces(root)))
        )
    else:
        return []
    root = roots.folder(corpus)
    return sorted(key for key in set(listed) if not (root / key).is_file())
