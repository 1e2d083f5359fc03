"""A piece as a dense tensor: one score and a block of performances over its notes; made from a corpus's files.

Nearly all performances of a piece name exactly the same score notes, so a rectangle with masks wastes almost nothing,
and turns windows, pairs, mixups and ground-truth spaces into index expressions. What a performance lacks is filled as
the codec fills it and marked in ``matched`` and ``named``.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dexter_model.codec.performance_codec import EncodedPerformance, decode, encode
from dexter_model.codec.tempo import ONSET_TOLERANCE
from dexter_model.corpora.sources import PerformanceSource, PieceSource, valid_utf8
from dexter_model.dataset import quality
from dexter_model.dataset.perceptual import DEFAULT, perceive
from dexter_model.digests import array_digest, file_digest, json_digest
from dexter_model.errors import InputError
from dexter_model.notes import Alignment, Performance, Score
from dexter_model.perceptual.features import PerceptualFeatures, at_onsets, unknown_values
from dexter_model.places import copy_of
from dexter_model.reading.alignment import load_alignment, score_as_aligned
from dexter_model.reading.match import load_match
from dexter_model.reading.midi import load_midi
from dexter_model.reading.score import load_score

if TYPE_CHECKING:
    from dexter_model.reading.sandbox import Sandbox

_PACKAGE = Path(__file__).parent.parent.parent
_NOTHING_HEARD = np.zeros(0, np.int32), np.zeros(0), unknown_values(0)


@dataclass(frozen=True, eq=False)
class Piece:
    """One score and its performances, aligned (n notes, P performances, F frames of perceptual features in all).

    Attributes:
        note_id: (n,) score note ids, in score order (onset, then pitch).
        score: (n,) SCORE_NOTE.
        performance: (P, n, 5) float32 performance codec, columns as ``CODEC_COLUMNS``.
        matched: (P, n) whether the note was played; the codec is padded where it was not.
        named: (P, n) whether the performance's alignment mentions the note at all; exclude the others from measures.
        keydown_articulation: (P, n) float32 the fourth codec column computed from key-down durations.
        performances: a row each: key, performer, synthetic, performance_digest, alignment_digest, unknown_ids,
            tempo_outlier, mean_tempo (beats a minute), perceptual (the source of its perceptual features), and the
            figures of ``quality.Quality`` with ``flags``.
        score_digest: sha-256 of the score's file.
        frames: (P,) int32 how many of the frames each performance has, in this order.
        frame_time: (F,) float64 s since the performance's first matched note, the clock of ``decode``.
        perceptual: (F, 7) float32 features, columns as ``PERCEPTUAL_FEATURES``; NaN where they are not known.
        perceptual_reference: (F, 7) float32 those of the deadpan score there; NaN where they are not known.
        assigned: the split that the corpus's own books give it; empty where they do not.
    """

    corpus: str
    key: str
    work: str
    composer: str
    title: str
    score_digest: str
    note_id: np.ndarray
    score: np.ndarray
    performance: np.ndarray
    matched: np.ndarray
    named: np.ndarray
    keydown_articulation: np.ndarray
    performances: Sequence[dict[str, Any]]
    frames: np.ndarray = field(default_factory=_NOTHING_HEARD[0].view)
    frame_time: np.ndarray = field(default_factory=_NOTHING_HEARD[1].view)
    perceptual: np.ndarray = field(default_factory=_NOTHING_HEARD[2].view)
    perceptual_reference: np.ndarray = field(default_factory=_NOTHING_HEARD[2].view)
    assigned: str = ""

    def __post_init__(self) -> None:
        if not len(self.frames):  # a piece about whose sound nothing is known
            object.__setattr__(self, "frames", np.zeros(len(self.performance), np.int32))

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows along the axes of notes, cells and frames."""
        return len(self.score), self.matched.size, int(self.frames.sum())

    def counts(self) -> list[dict[str, int]]:
        """Of each performance: notes named and matched, frames of perceptual features."""
        told = zip(self.named.sum(1), self.matched.sum(1), self.frames, strict=True)
        return [dict(zip(("named", "matched", "frames"), map(int, each), strict=True)) for each in told]

    def digest(self) -> str:
        """Digest of everything the piece holds: every array and every attribute."""
        names = [self.corpus, self.key, self.work, self.composer, self.title, self.score_digest]
        blocks = (self.score, self.performance, self.matched, self.named, self.keydown_articulation)
        heard = (self.frames, self.frame_time, self.perceptual, self.perceptual_reference)
        return json_digest(
            [names, list(map(str, self.note_id)), array_digest(*blocks, *heard), list(self.performances)]
        )

    def perceptual_notes(self, *, delta: bool) -> np.ndarray:
        """Perceptual features (P, n, 7) float32 at the onset of each note, NaN where they are not known.

        Args:
            delta: less those of the deadpan score, which is what the performer adds.
        """
        if not len(self.perceptual):
            return unknown_values(*self.matched.shape)
        rows = self.perceptual - self.perceptual_reference if delta else self.perceptual
        ends = np.cumsum(self.frames)
        return np.stack(
            [
                at_onsets(self.frame_time[end - frames : end], rows[end - frames : end], self._onsets(index))
                for index, (frames, end) in enumerate(zip(self.frames, ends, strict=True))
            ]
        )

    def _onsets(self, index: int) -> np.ndarray:
        """Performed onsets (n,) in s of a performance."""
        return decode(self.score, self.note_id, self.performance[index], self.matched[index]).notes["onset_sec"]


@dataclass(frozen=True)
class Quarantined:
    """A performance that is not in the data set, and why; ``digest`` is that of the file at fault."""

    corpus: str
    piece: str
    performance: str
    code: str
    reason: str
    remedy: str
    digest: str
    traceback: str


class _Encoded(NamedTuple):
    """One performance on its way into a piece."""

    source: PerformanceSource
    codec: EncodedPerformance
    features: PerceptualFeatures
    quality: quality.Quality


def encode_piece(
    source: PieceSource, sandbox: Sandbox, perceptual: str = DEFAULT
) -> tuple[Piece | None, list[Quarantined]]:
    """Read and encode a piece; whatever fails is quarantined and the rest goes on.

    Args:
        source: the piece's files; a missing score or alignment quarantines the performances that need it.
        sandbox: the child process that parses the files, which nobody trusts.
        perceptual: which perceptual features: ``csv``, ``estimate``, ``cnn:CHECKPOINT`` or ``none``.

    Returns:
        The piece, or None when no performance is left, and what was quarantined, in the order of the source.
    """
    scores = _Scores(source, sandbox)
    kept: list[tuple[_Encoded, Score]] = []
    quarantined = []
    for performance in source.performances:
        try:
            performed, alignment = _read(source, performance, sandbox)
            score = score_as_aligned(alignment, scores.load)
            encoded = encode(score, performed, alignment, performance.performance)
            figures = quality.measure(score, performed, alignment, encoded)
            if source.corpus not in quality.CHECKED_BY_PEOPLE:
                quality.refuse_hopeless(figures, performance.performance)
            features = perceive(perceptual, performance, performed, encoded, score, sandbox)
            kept.append((_Encoded(performance, encoded, features, figures), score))
        except Exception as error:
            quarantined.append(quarantine(source, performance, error))
    majority = _majority_score([score for _, score in kept])
    others = [encoded.source for encoded, score in kept if score is not majority]
    quarantined += [quarantine(source, other, _folded_otherwise(other)) for other in others]
    return _stack(source, majority, [encoded for encoded, score in kept if score is majority]), quarantined


def read_performance(performance: str, alignment: str | None) -> tuple[Performance, Alignment]:
    """A performance and its alignment to the score.

    A match file holds both, but an alignment that is given goes before its own. Given as the alignment of a MIDI file
    it takes the MIDI file's place too, since its ids are those of its own notes.

    Raises:
        InputError: a file cannot be read, or the alignment is missing (``missing_alignment``).
    """
    own = load_match(performance) if _is_match(performance) else None
    if alignment is None:
        if own is None:
            remedy = "Add its note_alignment.tsv or match file"
            raise InputError(performance, "has no alignment to the score", remedy, "missing_alignment")
        return own
    if _is_match(alignment):
        other, pairs = load_match(alignment)
        return (own[0] if own else other), pairs
    return (own[0] if own else load_midi(performance)), load_alignment(alignment)


def _is_match(path: str) -> bool:
    return path.lower().endswith(".match")


class _Scores:
    """The piece's score, folded or unfolded, parsed at most once each; a failure is remembered too.

    Only a failure of the file, that is: an OSError here means that this machine has no child process to offer.
    """

    def __init__(self, source: PieceSource, sandbox: Sandbox) -> None:
        self.path = source.score
        self.sandbox = sandbox
        self.known: dict[bool, Score | Exception] = {}

    def load(self, unfold: bool) -> Score:
        assert self.path is not None, "checked when the performance was read"
        if unfold not in self.known:
            try:
                self.known[unfold] = self.sandbox.call(load_score, self.path, unfold)
            except OSError:
                raise
            except Exception as error:
                self.known[unfold] = error
        score = self.known[unfold]
        if isinstance(score, Exception):
            raise score.with_traceback(None)  # it would grow with every performance
        return score


def _read(source: PieceSource, performance: PerformanceSource, sandbox: Sandbox) -> tuple[Performance, Alignment]:
    if source.score is None:
        remedy = "Add the piece's score beside it"
        raise InputError(performance.performance, "its piece has no score", remedy, "missing_score")
    if not performance.robust:
        reason, remedy = "its corpus's books do not call its alignment robust", "Do not ask for robust alignments only"
        raise InputError(performance.performance, reason, remedy, "alignment_not_robust")
    quality.refuse_corrupted(performance.recording, performance.performance)
    return sandbox.call(read_performance, performance.performance, performance.alignment)


def _majority_score(scores: Sequence[Score]) -> Score | None:
    """The score that most performances were aligned to: note ids of a folded and an unfolded one do not mix."""
    return max(scores, key=lambda score: sum(other is score for other in scores), default=None)


def _folded_otherwise(performance: PerformanceSource) -> InputError:
    reason = "its alignment unfolds the repeats otherwise than most performances of the piece"
    return InputError(performance.performance, reason, "Align it to the same form of the score", "unfolding_differs")


def quarantine(source: PieceSource, performance: PerformanceSource, error: Exception) -> Quarantined:
    """What is told of a performance that could not be encoded."""
    if isinstance(error, InputError):
        code, reason, remedy, path = error.code, error.reason, error.remedy, error.path
    elif isinstance(error, OSError):
        code, reason, remedy, path = "unreadable", str(error.strerror), "Check the file", performance.performance
    else:
        code, reason = "encoding_failed", f"{type(error).__name__}: {error}".partition("\n")[0]
        remedy, path = "Look at the traceback", performance.performance
    reason, told = (_placeless(text, source, performance) for text in (reason, _traceback(error)))
    return Quarantined(source.corpus, source.key, performance.key, code, reason, remedy, digest_or_empty(path), told)


def _traceback(error: Exception) -> str:
    """The traceback of the process in which it went wrong."""
    return getattr(error, "traceback", "") or "".join(traceback.format_exception(error))


def _placeless(text: str, source: PieceSource, performance: PerformanceSource) -> str:
    """The text without the folders that hold the corpus, the score and this code: the same wherever they lie."""
    depth = performance.key.count("/")
    corpus = Path(performance.performance).parents[depth : depth + 1]
    for folder in (*corpus, Path(source.score or performance.performance).parent, _PACKAGE):
        text = text.replace(f"{folder}/", "")
    return valid_utf8(text)


def digest_or_empty(path: str | None, *, verify: bool = False) -> str:
    """Digest of a file, or of the copy of one at S3; empty when there is none or it cannot be read."""
    try:
        return file_digest(copy_of(path), verify=verify) if path else ""
    except OSError:
        return ""


def _stack(source: PieceSource, score: Score | None, kept: Sequence[_Encoded]) -> Piece | None:
    """Performances of one score, each with rows of its own, over the union of the notes they name."""
    if score is None:
        return None
    rows = np.unique(np.concatenate([encoded.codec.rows for encoded in kept]))
    blocks = [spread(encoded.codec, rows, score.notes["onset_beat"][rows]) for encoded in kept]
    features = [encoded.features for encoded in kept]
    codec, keydown, matched, named = (np.stack(block) for block in zip(*blocks, strict=True))
    return Piece(
        source.corpus,
        source.key,
        source.work,
        source.composer,
        source.title,
        digest_or_empty(source.score),
        score.note_id[rows],
        score.notes[rows],
        codec,
        matched,
        named,
        keydown,
        [_performance_row(encoded) for encoded in kept],
        np.array([len(heard.times) for heard in features], np.int32),
        np.concatenate([heard.times for heard in features]),
        np.concatenate([heard.values for heard in features]),
        np.concatenate([heard.reference for heard in features]),
        source.split,
    )


def spread(encoded: EncodedPerformance, rows: np.ndarray, onset_beat: np.ndarray) -> tuple[np.ndarray, ...]:
    """A performance over the piece's rows: codec (n, 5), key-down articulation (n,), matched (n,), named (n,).

    A row it does not name gets what the codec gives a deletion: the beat period of its onset's group or of the last
    matched group before (of the first one at the start), and the matched means.
    """
    places = np.searchsorted(rows, encoded.rows)
    heard = places[encoded.matched]
    columns = np.column_stack([encoded.p_codec, encoded.keydown_articulation])
    filled = np.tile(columns[encoded.matched].mean(axis=0), (len(rows), 1)).astype(np.float32)
    before = np.searchsorted(onset_beat[heard], onset_beat + ONSET_TOLERANCE, side="right") - 1
    filled[:, 0] = columns[encoded.matched][np.maximum(before, 0), 0]
    filled[places] = columns
    matched = np.zeros(len(rows), bool)
    matched[heard] = True
    named = np.zeros(len(rows), bool)
    named[places] = True
    return filled[:, :5], filled[:, 5], matched, named


def _performance_row(performance: _Encoded) -> dict[str, Any]:
    source, encoded, features, figures = performance
    return {
        "key": source.key,
        "performer": source.performer,
        "synthetic": source.synthetic,
        "performance_digest": digest_or_empty(source.performance),
        "alignment_digest": digest_or_empty(source.alignment),
        "unknown_ids": int(encoded.unknown_ids),
        "tempo_outlier": bool(encoded.tempo_outlier),
        "mean_tempo": float(60.0 / encoded.p_codec[encoded.matched, 0].mean(dtype=np.float64)),
        "perceptual": features.source,
        **quality.row(figures, source.recording),
    }
