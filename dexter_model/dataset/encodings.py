"""What a data set holds of its pieces: performance codecs over a score's notes, or performances by themselves.

An encoding decides how a piece's files are read, and is part of the key of every result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dexter_model.corpora.sources import PieceSource
from dexter_model.dataset import perceptual
from dexter_model.dataset.piece import Piece, Quarantined, encode_piece
from dexter_model.dataset.recordings import Reading, Recording, each_performance, encode_recording
from dexter_model.errors import InputError
from dexter_model.reading.score import READER_VERSION

if TYPE_CHECKING:
    from dexter_model.reading.sandbox import Sandbox

NAMES = ("codec", "notes", "composer")


@dataclass(frozen=True)
class Codecs:
    """Codecs of aligned performances; ``perceptual`` is where their perceptual features come from."""

    perceptual: str = perceptual.DEFAULT

    def described(self) -> dict[str, Any]:
        """Name, version and parameters."""
        return perceptual.encoder(self.perceptual)

    def checked(self) -> Codecs:
        """The same with absolute places, after a look at what would refuse every performance alike; fetches it here."""
        return replace(self, perceptual=perceptual.checked(self.perceptual))

    def sources(self, pieces: Iterable[PieceSource]) -> list[PieceSource]:
        """What is encoded each by itself."""
        return list(pieces)

    def encode(self, source: PieceSource, sandbox: Sandbox) -> tuple[Piece | None, list[Quarantined]]:
        """A piece, None when nothing is left of it, and what was quarantined."""
        return encode_piece(source, sandbox, self.perceptual)


@dataclass(frozen=True)
class Notes:
    """Performances by themselves, as played or as the original composer reads them."""

    reading: Reading = "performed"
    perceptual: str = "none"

    def described(self) -> dict[str, Any]:
        """Name, version and parameters."""
        return {"name": "notes", "version": 1, "parameters": {"reading": self.reading, "score_reader": READER_VERSION}}

    def checked(self) -> Notes:
        """The same: nothing is to be checked."""
        return self

    def sources(self, pieces: Iterable[PieceSource]) -> list[PieceSource]:
        """The performances, each by itself."""
        return each_performance(pieces)

    def encode(self, source: PieceSource, sandbox: Sandbox) -> tuple[Recording | None, list[Quarantined]]:
        """A performance, or why it was quarantined."""
        return encode_recording(source, sandbox, self.reading)


Encoding = Codecs | Notes


def encoding(name: str, perceptual_features: str) -> Encoding:
    """The encoding that users call so.

    Raises:
        InputError: there is none (``encoding_unknown``).
    """
    if name == "codec":
        return Codecs(perceptual_features)
    if name not in NAMES:
        raise InputError(name, "is no encoding", f"Choose one of {', '.join(NAMES)}", "encoding_unknown")
    return Notes("performed" if name == "notes" else "composer")
