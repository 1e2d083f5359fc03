"""From a score to an expressive performance: sample a codec, make it playable, decode.

A ``PieceSampler`` (``expression.sampler``) holds the model and samples codecs, ``perform`` makes performances of them;
``render`` chains them for one score, ``tasks.render`` for many.

Shapes: n notes of a piece, 5 columns of the performance codec.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dexter_model.codec.files import save_codec
from dexter_model.codec.performance_codec import MAX_TEMPO, EncodedPerformance, decode
from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.codec.tempo import group_means, onset_groups
from dexter_model.errors import InputError
from dexter_model.expression.plan import SEED, Render, Sampling, score_digest
from dexter_model.notes import Performance, Score
from dexter_model.renders import Writers
from dexter_model.training.checkpoint import load_checkpoint

RENDERER = 2  # raised when what is done here, in decoding or in MIDI writing comes out otherwise: all is made anew

# What a pianist may do, a number a codec column: 15 to 480 beats a minute (measures clip tempo to the same), MIDI
# velocities, half a second beside the beat, sounding 16 times shorter or longer than written, pedal up to down. Beyond
# them lies less than one note in a hundred of (n)ASAP's pianists, column by column.
_LOWEST = np.array([60 / 480, 1 / 127, -0.5, -4.0, 0.0])
_HIGHEST = np.array([60 / 15, 1.0, 0.5, 4.0, 1.0])


def default_checkpoint() -> Path:
    """The model that ships with the code, labelled ``default``."""
    return Path(__file__).resolve().parents[2] / "models" / "default"


def playable(p_codec: np.ndarray, notes: np.ndarray) -> np.ndarray:
    """The nearest codec that can be played: values in a pianist's range, one beat period for notes struck together.

    Args:
        p_codec: (n, 5) as sampled.
        notes: (n,) SCORE_NOTE.

    Returns:
        (n, 5) float32.
    """
    sane = np.clip(p_codec, _LOWEST, _HIGHEST)
    groups = onset_groups(notes["onset_beat"].astype(np.float64))
    sane[:, 0] = group_means(sane[:, 0], groups)[groups]
    return sane.astype(np.float32)


def perform(score: Score, sampled: np.ndarray) -> tuple[Performance, EncodedPerformance]:
    """A sampled codec as a performance and as the codec that decodes to it.

    Args:
        score: the score.
        sampled: (n, 5) in codec units.
    """
    p_codec = playable(sampled, score.notes)
    encoded = EncodedPerformance(
        rows=np.arange(len(p_codec)),
        note_id=score.note_id,
        p_codec=p_codec,
        s_codec=np.stack([score.notes[name] for name in ("onset_div", "duration_div", "pitch", "voice")], axis=1),
        matched=np.ones(len(p_codec), bool),
        keydown_articulation=p_codec[:, 3],
        unknown_ids=0,
        tempo_outlier=bool(60 / p_codec[:, 0].mean() > MAX_TEMPO),
    )
    return decode(score.notes, score.note_id, p_codec), encoded


def files_of(performance: Performance, encoded: EncodedPerformance) -> tuple[Writers, int, float]:
    """What ``RendersFolder.add`` wants of a render: what writes its files, how many notes it has, its seconds."""
    ends = performance.notes["onset_sec"] + performance.notes["duration_sec"]
    writers: Writers = {
        "midi": lambda path: write_performance_midi(performance, path),
        "codec": lambda path: save_codec(path, encoded),
    }
    return writers, len(ends), float(ends.max())


def render(
    score: Score,
    checkpoint: str | Path | None = None,
    sampling: Sampling | None = None,
    *,
    seed: int = SEED,
    sample: int = 0,
) -> tuple[Performance, EncodedPerformance]:
    """Perform one score.

    Args:
        score: its notes.
        checkpoint: a checkpoint folder; None is the model that ships with the code.
        sampling: how to sample.
        seed: decides the noise, together with the score and ``sample``.
        sample: which of many performances of this score.

    Returns:
        The performance, and the codec that decodes to it.

    Raises:
        InputError: the checkpoint cannot be used.
    """
    from dexter_model.expression.sampler import PieceSampler  # torch takes seconds to import

    if not len(score.notes):
        raise InputError("score", "has no notes", "Give a score with notes", "score_empty")
    sampler = PieceSampler(load_checkpoint(checkpoint or default_checkpoint()), sampling)
    (codec,) = sampler.run([Render(score, score_digest(score), seed, sample)])
    return perform(score, codec)
