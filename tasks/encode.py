"""One unit of work: performances in, codecs out, in this process; for single files and small corpora."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dexter_model.codec.files import load_codec, save_codec
from dexter_model.codec.performance_codec import EncodedPerformance, decode, encode
from dexter_model.corpora.sources import PieceSource
from dexter_model.dataset.piece import read_performance
from dexter_model.errors import InputError
from dexter_model.notes import Performance
from dexter_model.places import join, local
from dexter_model.reading.alignment import score_as_aligned
from dexter_model.reading.score import load_score

if TYPE_CHECKING:
    from dexter_model.reading.sandbox import Sandbox


@dataclass
class Encoded:
    """What became of a batch: the files written, and why others were not, a code and a sentence each."""

    written: list[str] = field(default_factory=list)
    quarantined: list[tuple[str, str]] = field(default_factory=list)


def encode_files(sandbox: Sandbox, performance: str, score: str | None, alignment: str | None) -> EncodedPerformance:
    """Encode one performance; the files, which nobody trusts, are read in the sandbox.

    Raises:
        InputError: naming the file that cannot be read, or the alignment that does not fit the score.
    """
    if score is None:
        raise InputError(performance, "its piece has no score", "Add the piece's score beside it", "missing_score")
    files = [each and str(local(each)) for each in (performance, alignment)]
    performed, aligned = sandbox.call(read_performance, *files)
    notated = score_as_aligned(aligned, lambda unfold: sandbox.call(load_score, str(local(score)), unfold))
    return encode(notated, performed, aligned, performance)


def encode_corpus(sandbox: Sandbox, sources: Iterable[PieceSource], out: str) -> Encoded:
    """Encode every performance of a corpus to ``out/<key>.npz``; what cannot be encoded is quarantined."""
    done = Encoded()
    for source in sources:
        for performance in source.performances:
            path = join(out, f"{performance.key}.npz")
            try:
                save_codec(path, encode_files(sandbox, performance.performance, source.score, performance.alignment))
                done.written.append(path)
            except InputError as error:
                done.quarantined.append((error.code, str(error)))
            except Exception as error:  # a fault of ours costs one performance, not the corpus
                done.quarantined.append(("encoding_failed", f"{performance.key}: {error!r}"))
    return done


def decode_file(sandbox: Sandbox, codec: str, score: str) -> Performance:
    """The performance that a codec file describes: its played notes, found in the score by note id.

    Raises:
        InputError: the score lacks notes of the codec (``unknown_ids``), or a file cannot be read.
    """
    encoded = load_codec(codec)
    for unfold in (False, True):
        notated = sandbox.call(load_score, str(local(score)), unfold)
        row_of = {note_id: row for row, note_id in enumerate(notated.note_id.tolist())}
        rows = [row_of.get(note_id, -1) for note_id in encoded.note_id.tolist()]
        if min(rows, default=-1) >= 0:
            performed = decode(notated.notes[rows], encoded.note_id, encoded.p_codec, encoded.matched)
            played = encoded.matched
            return Performance(performed.note_id[played], performed.notes[played], performed.pedal)
    missing = sum(row < 0 for row in rows)
    reason = f"{missing} of the {len(rows)} notes of {codec} are not in it"
    raise InputError(score, reason, "Name the score the performance was encoded against", "unknown_ids")
