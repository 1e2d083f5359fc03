"""What a corpus is made of: pieces, each one score and the performances of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dexter_model.places import local, record_of


def valid_utf8(name: str) -> str:
    """A file's name as text that catalogues can hold: bytes of it that are not UTF-8 are spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class PerformanceSource:
    """One performance file.

    ``key`` is the performance file's path inside the corpus (posix) and names it for ever; ``alignment`` is None when
    the performance file is a match file, which holds its own, or when there is none. ``performance`` may be one record
    of a file of many, ``notes.tfrecord#12``.
    ``robust`` is False where only alignments were asked for that the corpus's books call robust and this is none.
    ``recording`` is what the corpus's books say of the recording that it was transcribed from, such as "low quality".
    ``features`` is the corpus's own file of its perceptual features, where it has one.
    """

    key: str
    performance: str
    alignment: str | None
    performer: str
    synthetic: bool = False
    robust: bool = True
    recording: str = ""
    features: str | None = None

    @property
    def aligned(self) -> bool:
        """Whether there is an alignment to the score, in a file of its own or in the performance's match file."""
        return self.alignment is not None or self.performance.lower().endswith(".match")


@dataclass(frozen=True)
class PieceSource:
    """One score and its performances; ``score`` is None when the corpus lacks it. ``work`` is equal across corpora.

    ``split`` is ``train``, ``validation`` or ``test`` where the corpus's own books say so.

    Files are paths, or URLs where the corpus is at S3.
    """

    corpus: str
    key: str
    work: str
    composer: str
    title: str
    score: str | None
    performances: tuple[PerformanceSource, ...]
    split: str = ""

    def with_files(self, place: Callable[[str], str]) -> PieceSource:
        """The same piece, each of its files at another place; records of files keep their numbers."""

        def moved(file: str | None) -> str | None:
            return None if file is None else place(file)

        def moved_record(file: str) -> str:
            name, number = record_of(file)
            return place(name) + number

        performances = (
            replace(
                each,
                performance=moved_record(each.performance),
                alignment=moved(each.alignment),
                features=moved(each.features),
            )
            for each in self.performances
        )
        return replace(self, score=moved(self.score), performances=tuple(performances))

    def fetched(self) -> PieceSource:
        """The same piece with files that can be read here.

        Raises:
            InputError: S3 cannot be reached (``s3_unreachable``); a file that is gone is no error yet.
        """
        return self.with_files(lambda file: str(local(file, missing_ok=True)))
