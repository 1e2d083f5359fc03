"""A performance by itself, without a score: what generators learn from, and how a corpus's files become one.

A piece of such a data set is one performance, named by its file; its corpus's own books decide its split, or else its
work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dexter_model.corpora.sources import PieceSource
from dexter_model.dataset.piece import Quarantined, digest_or_empty, quarantine
from dexter_model.digests import array_digest, json_digest
from dexter_model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dexter_model.reading.sandbox import Sandbox

Reading = Literal["performed", "composer"]
MOST_NOTES = 1_000_000


@dataclass(frozen=True, eq=False)
class Recording:
    """One performance's notes.

    Attributes:
        notes: (n,) RECORDED_NOTE, by onset, then pitch; as the original composer reads them, in the order of their
            messages, and not in a performance's seconds (``composer.extraction.load_reference``).
        performances: one row: key, performer, synthetic, performance_digest and what codecs tell of theirs, empty.
        assigned: the split that the corpus's own books give it; empty where they do not.
    """

    corpus: str
    key: str
    work: str
    composer: str
    title: str
    notes: np.ndarray
    performances: Sequence[dict[str, Any]]
    assigned: str = ""
    score_digest: str = ""

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows along the axes of notes, cells and frames."""
        return len(self.notes), len(self.notes), 0

    def counts(self) -> list[dict[str, int]]:
        """Of each performance: notes named and matched, frames of perceptual features."""
        return [{"named": len(self.notes), "matched": len(self.notes), "frames": 0}]

    def digest(self) -> str:
        """Digest of everything it holds."""
        names = [self.corpus, self.key, self.work, self.composer, self.title]
        return json_digest([names, array_digest(self.notes), list(self.performances)])


def each_performance(pieces: Iterable[PieceSource]) -> list[PieceSource]:
    """The performances of pieces as pieces of their own, without their scores."""
    return [
        replace(piece, key=performance.key, score=None, performances=(performance,))
        for piece in pieces
        for performance in piece.performances
    ]


def encode_recording(
    source: PieceSource, sandbox: Sandbox, reading: Reading
) -> tuple[Recording | None, list[Quarantined]]:
    """Read a performance; what cannot be read is quarantined.

    Args:
        source: of ``each_performance``.
        sandbox: the child process that parses the file, which nobody trusts.
        reading: ``performed`` (``reading.recording``), or ``composer`` (as the original of ``composer.extraction``).
    """
    (performance,) = source.performances
    try:
        notes = sandbox.call(_reader(reading), performance.performance)
        if not len(notes):
            raise InputError(performance.performance, "holds no note", "Give a file with notes", "no_notes")
        if len(notes) > MOST_NOTES:
            reason = f"{len(notes)} notes are too many for a performance (limit {MOST_NOTES})"
            raise InputError(performance.performance, reason, "Cut it into pieces", "too_many_notes")
    except Exception as error:
        return None, [quarantine(source, performance, error)]
    row = {
        "key": performance.key,
        "performer": performance.performer,
        "synthetic": performance.synthetic,
        "performance_digest": digest_or_empty(performance.performance),
        "alignment_digest": "",
        "unknown_ids": 0,
        "tempo_outlier": False,
        "perceptual": "none",
    }
    names = (source.corpus, source.key, source.work, source.composer, source.title)
    return Recording(*names, notes, [row], source.split), []


def _reader(reading: Reading) -> Callable[[str | Path], np.ndarray]:
    if reading == "performed":
        from dexter_model.reading.recording import load_recording

        return load_recording
    from dexter_model.composer.extraction import load_reference

    return load_reference
