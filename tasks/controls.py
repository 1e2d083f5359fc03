"""What a render is told beside its score: perceptual rows to steer it, and a performance to start from.

A performance is given as a match file, as MIDI with its alignment (``PERF.mid:note_alignment.tsv``) or without
(parangonar aligns it), as a codec file of ours, or, of a data set's piece, as the number of one of its performances.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dexter_model.codec.files import load_codec
from dexter_model.codec.performance_codec import EncodedPerformance, decode, encode
from dexter_model.dataset.piece import Piece, read_performance, spread
from dexter_model.errors import InputError
from dexter_model.expression.config import ExpressionConfig
from dexter_model.expression.steering import Heard, levels, load_curve, perceptual_rows
from dexter_model.notes import Alignment, Performance, Score
from dexter_model.places import is_url, local
from dexter_model.reading.sandbox import Sandbox
from dexter_model.training.checkpoint import Checkpoint

LEAST_MATCHED = 0.5  # of the score's notes; with fewer it is another piece, or another form of it


@dataclass(frozen=True)
class Controls:
    """What a job is asked: levels by feature, a file of curves, performances to start from and to sound like."""

    steer: Mapping[str, str | float] = field(default_factory=dict)
    steer_curve: str | None = None
    source: str | None = None
    like: str | None = None

    def told(self) -> dict[str, object]:
        """What was asked for, as ``renders.json`` tells it."""
        return {name: value for name, value in vars(self).items() if value}


class Controller:
    """Makes the controls of renders out of what a job is asked; refuses what the checkpoint cannot do."""

    def __init__(self, asked: Controls, checkpoint: Checkpoint) -> None:
        """Take up what is asked.

        Raises:
            InputError: a level or curve that is none, a model without perceptual rows that is to be steered
                (``not_steerable``), or one that starts from performances without a source (``source_missing``).
        """
        self.asked, self.checkpoint = asked, checkpoint
        self.config = ExpressionConfig.from_dict(checkpoint.config)
        self.transfer = self.config.training.train_target == "transfer"
        self.levels = levels(asked.steer)
        self.curve = load_curve(local(asked.steer_curve)) if asked.steer_curve else None
        steered = self.levels or self.curve is not None or asked.like
        if steered and self.config.denoiser.perceptual == "none":
            reason, remedy = "was trained without perceptual rows", "Take one trained with denoiser.perceptual: delta"
            raise InputError(checkpoint.path, reason, remedy, "not_steerable")
        if self.transfer and asked.source is None:
            reason, remedy = "was trained to start from another performance", "Name one with --source"
            raise InputError(checkpoint.path, reason, remedy, "source_missing")

    def of(self, score: Score, hear: Callable[[str], Heard]) -> tuple[np.ndarray | None, Heard | None]:
        """Perceptual rows (n, 7) in standard deviations and the performance to start from; None where there is none.

        Args:
            score: the notes (n).
            hear: finds the performances that are asked for.

        Raises:
            InputError: what ``hear`` raises.
        """
        source = hear(self.asked.source) if self.asked.source else None
        like = hear(self.asked.like) if self.asked.like else None
        target = None if like is None else self._z_scores(like)
        if self.transfer and target is not None and source is not None:
            target = target - self._z_scores(source)
        rows = perceptual_rows(score.notes["onset_beat"], self.config, asked=self.levels, curve=self.curve, like=target)
        return rows, source

    def _z_scores(self, heard: Heard) -> np.ndarray:
        import torch

        from dexter_model.expression.data import Statistics

        features = torch.from_numpy(heard.features(self.config.denoiser.perceptual))
        return Statistics.from_dict(self.checkpoint.statistics).normalise_perceptual(features).numpy()


def heard_file(given: str, score: Score) -> Heard:
    """A performance file beside the notes of a score.

    Args:
        given: ``PERF`` or ``PERF:ALIGNMENT``.
        score: the notes (n).

    Raises:
        InputError: it cannot be read, or plays fewer than half of the notes (``other_score``).
    """
    from dexter_model.perceptual.estimate import estimate_encoded

    path, alignment = (each and str(local(each)) for each in _split(given))
    assert path is not None
    if path.lower().endswith(".npz"):
        performance, encoded = _from_codec(path, score)
    else:
        with Sandbox() as sandbox:
            performance, encoded = _from_performance(path, alignment, score, sandbox)
    if encoded.matched.sum() < LEAST_MATCHED * len(score.notes):
        reason = f"plays {int(encoded.matched.sum())} of the {len(score.notes)} notes of the score"
        raise InputError(path, reason, "Give a performance of the score that is rendered", "other_score")
    rows = np.arange(len(score.notes))
    codec, _, matched, _ = spread(encoded, rows, score.notes["onset_beat"])
    onset = decode(score.notes, score.note_id, codec, matched).notes["onset_sec"]
    features = estimate_encoded(performance, encoded, score)
    return Heard(codec, matched, features.per_note(onset), features.delta_per_note(onset))


def heard_in(piece: Piece, given: str) -> Heard:
    """One of a piece's own performances, by its number.

    Raises:
        InputError: it is no number (``option_invalid``), or the piece has no such performance
            (``missing_performance``).
    """
    if not given.isdecimal():
        remedy = "Give a number: 0 is each piece's first performance"
        raise InputError(given, "is a file, but a data set is rendered", remedy, "option_invalid")
    number, count = int(given), len(piece.performance)
    if number >= count:
        reason = f"has {count} performances, none of number {number}"
        raise InputError(f"{piece.corpus}/{piece.key}", reason, "Give a smaller number", "missing_performance")
    absolute, delta = (piece.perceptual_notes(delta=each)[number] for each in (False, True))
    return Heard(piece.performance[number], piece.matched[number], absolute, delta)


def _split(given: str) -> tuple[str, str | None]:
    """Performance and alignment; a colon may be part of a file's name, and is part of a URL."""
    both = re.fullmatch(r"(.+):(s3://.+|(?!//)[^:]+)", given)
    if both is None:
        return given, None
    path, alignment = both.groups()
    told_apart = is_url(path) or (not Path(given).exists() and Path(path).exists())
    return (path, alignment) if told_apart else (given, None)


def _from_codec(path: str, score: Score) -> tuple[Performance, EncodedPerformance]:
    codec = load_codec(path)
    _, rows, ours = np.intersect1d(score.note_id, codec.note_id, return_indices=True)
    if not codec.matched[ours].any():
        raise InputError(
            path, "plays no note of the score", "Give a codec of the score that is rendered", "other_score"
        )
    order = np.argsort(rows)
    rows, ours = rows[order], ours[order]
    notes, note_id, matched = score.notes[rows], score.note_id[rows], codec.matched[ours]
    played = decode(notes, note_id, codec.p_codec[ours], matched)
    encoded = EncodedPerformance(
        rows, note_id, codec.p_codec[ours], codec.s_codec[ours], matched, codec.p_codec[ours, 3], 0, tempo_outlier=False
    )
    return Performance(note_id[matched], played.notes[matched], played.pedal), encoded


def _from_performance(
    path: str, alignment: str | None, score: Score, sandbox: Sandbox
) -> tuple[Performance, EncodedPerformance]:
    if alignment is None and not path.lower().endswith(".match"):
        from dexter_model.metrics.renders import align
        from dexter_model.reading.midi import load_midi

        performance: Performance = sandbox.call(load_midi, path)
        pairs: Alignment = align(score, performance)
    else:
        performance, pairs = sandbox.call(read_performance, path, alignment)
    return performance, encode(score, performance, pairs, path)
