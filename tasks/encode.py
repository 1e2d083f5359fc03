"""One unit of work: performances in, codec files out; no cluster, for a single file or a small corpus."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dexter_model.codec.files import save_codec
from dexter_model.codec.performance_codec import EncodedPerformance, encode
from dexter_model.corpora.sources import PieceSource
from dexter_model.errors import InputError
from dexter_model.notes import Alignment, Performance, Score
from dexter_model.reading.alignment import load_alignment, needs_unfolding
from dexter_model.reading.match import load_match
from dexter_model.reading.midi import load_midi
from dexter_model.reading.score import load_score

if TYPE_CHECKING:
    from dexter_model.reading.sandbox import Sandbox


@dataclass
class Encoded:
    """What became of a batch: the files written, and the inputs refused."""

    written: list[Path] = field(default_factory=list)
    quarantined: list[InputError] = field(default_factory=list)


def encode_files(sandbox: Sandbox, performance: str, score: str, alignment: str | None) -> EncodedPerformance:
    """Encode one performance; the files, untrusted, are read in the sandbox.

    Raises:
        InputError: naming the file that cannot be read, or the alignment that does not fit the score.
    """
    performed, aligned = sandbox.call(read_performance, performance, alignment)
    notated: Score = sandbox.call(load_score_for, score, aligned)
    return encode(notated, performed, aligned, performance)


def read_performance(performance: str, alignment: str | None) -> tuple[Performance, Alignment]:
    """A performance and its alignment: a match file holds both, a MIDI file needs an alignment beside it."""
    if performance.endswith(".match") and alignment is None:
        return load_match(performance)
    if alignment is None:
        remedy = "Name its alignment with --alignment, or give a match file"
        raise InputError(performance, "has no alignment to the score", remedy, "missing_alignment")
    performed = load_match(performance)[0] if performance.endswith(".match") else load_midi(performance)
    return performed, load_match(alignment)[1] if alignment.endswith(".match") else load_alignment(alignment)


def load_score_for(score: str, alignment: Alignment) -> Score:
    """The score as the alignment numbers it: unfolded when its ids carry repeat suffixes."""
    return load_score(score, unfold=needs_unfolding(alignment))


def encode_corpus(sandbox: Sandbox, sources: Iterable[PieceSource], out: Path) -> Encoded:
    """Encode every performance of a corpus to ``out/<key>.npz``; what fails is quarantined and told at the end."""
    done = Encoded()
    for source in sources:
        for performance in source.performances:
            try:
                if source.score is None:
                    raise InputError(performance.performance, "its piece has no score", "Add the score", "missing_score")
                encoded = encode_files(sandbox, performance.performance, source.score, performance.alignment)
            except InputError as error:
                done.quarantined.append(error)
                continue
            path = out / f"{performance.key}.npz"
            save_codec(path, encoded)
            done.written.append(path)
    return done
