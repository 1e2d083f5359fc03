"""From a score to an expressive performance: condition, denoise, join, make playable, decode.

The parts are what a job over many scores needs (``tasks.render``): ``cut_batch`` makes the arrays of a planned batch,
a ``WindowSampler`` (``expression.sampler``) holds the model and denoises them, a ``Collector`` joins windows into
pieces as they come back; ``render`` chains them for one score.

Shapes: B windows of a batch, N notes of a window, 5 columns of the performance codec, n notes of a piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dexter_model.codec.performance_codec import MAX_TEMPO, EncodedPerformance, decode
from dexter_model.codec.tempo import group_means, onset_groups
from dexter_model.diffusion.joining import join_windows, window_starts
from dexter_model.errors import InputError
from dexter_model.expression.plan import Window, plan_batches, render_noise, score_digest
from dexter_model.notes import CODEC_COLUMNS, SCORE_NOTE, Performance, Score
from dexter_model.training.checkpoint import load_checkpoint

OVERLAP = 10
STEPS, GUIDANCE, SEED = 20, 1.2, 13
RENDERER = 1  # raised when what is done here, in decoding or in MIDI writing comes out otherwise: all is made anew

# What a pianist may do, a number a codec column: 15 to 480 beats a minute (measures clip tempo to the same), MIDI
# velocities, half a second beside the beat, sounding 16 times shorter or longer than written, pedal up to down. Beyond
# them lies less than one note in a hundred of (n)ASAP's pianists, column by column.
_LOWEST = np.array([60 / 480, 1 / 127, -0.5, -4.0, 0.0])
_HIGHEST = np.array([60 / 15, 1.0, 0.5, 4.0, 1.0])


@dataclass(frozen=True, eq=False)
class Render:
    """One performance to make: a score, its digest, and which sample of it."""

    score: Score
    digest: str
    sample: int


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """A planned batch: ``notes_BN`` of SCORE_NOTE, ``mask_BN`` true at notes (false at padding), ``noise_BN5``."""

    notes_BN: np.ndarray
    mask_BN: np.ndarray
    noise_BN5: np.ndarray


def default_checkpoint() -> Path:
    """The small model that ships with the code, labelled ``demo``."""
    return Path(__file__).resolve().parents[2] / "models" / "demo"


def cut_batch(windows: tuple[Window, ...], renders: list[Render], length: int, seed: int) -> WindowBatch:
    """The arrays of a planned batch.

    Args:
        windows: B windows.
        renders: the job's renders, which ``Window.render`` counts.
        length: N, notes of a window.
        seed: the job's seed.
    """
    batch = WindowBatch(
        np.zeros((len(windows), length), SCORE_NOTE),
        np.zeros((len(windows), length), bool),
        np.empty((len(windows), length, len(CODEC_COLUMNS)), np.float32),
    )
    for b, (index, start) in enumerate(windows):
        render = renders[index]
        notes = render.score.notes[start : start + length]
        batch.notes_BN[b, : len(notes)] = notes
        batch.mask_BN[b, : len(notes)] = True
        noise = render_noise(seed, render.digest, render.sample, max(len(render.score.notes), length))
        batch.noise_BN5[b] = noise[start : start + length]
    return batch


class Collector:
    """Keeps the windows of unfinished renders and gives out each render when its last window is in."""

    def __init__(self, notes: dict[int, int], length: int) -> None:
        """``notes`` holds the number of notes of every render that is wanted; windows of others are ignored."""
        self._starts = {render: window_starts(n, length, OVERLAP) for render, n in notes.items()}
        self._notes = notes
        self._windows: dict[int, dict[int, np.ndarray]] = {}

    def add(self, windows: tuple[Window, ...], codec_BN5: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Add a denoised batch; returns the renders that it completes, each with its joined (n, 5) codec."""
        finished = []
        for (render, start), codec_N5 in zip(windows, codec_BN5, strict=True):
            starts = self._starts.get(render)
            if starts is None:
                continue
            arrived = self._windows.setdefault(render, {})
            arrived[start] = codec_N5
            if len(arrived) == len(starts):
                stacked = np.stack([arrived[int(first)] for first in starts])
                finished.append((render, join_windows(stacked, starts, self._notes[render], OVERLAP)))
                del self._windows[render], self._starts[render]
        return finished

    def give_up(self, windows: tuple[Window, ...]) -> list[int]:
        """Drop the renders that these windows belong to, as they will not come; returns those not dropped before."""
        lost = sorted({window.render for window in windows} & self._starts.keys())
        for render in lost:
            del self._starts[render]
            self._windows.pop(render, None)
        return lost


def playable(p_codec: np.ndarray, notes: np.ndarray) -> np.ndarray:
    """The nearest codec that can be played: values in a pianist's range, one beat period for notes struck together.

    Args:
        p_codec: (n, 5) as joined.
        notes: (n,) SCORE_NOTE.

    Returns:
        (n, 5) float32.
    """
    sane = np.clip(p_codec, _LOWEST, _HIGHEST)
    groups = onset_groups(notes["onset_beat"].astype(np.float64))
    sane[:, 0] = group_means(sane[:, 0], groups)[groups]
    return sane.astype(np.float32)


def perform(score: Score, joined: np.ndarray) -> tuple[Performance, EncodedPerformance]:
    """A joined codec as a performance and as the codec that decodes to it.

    Args:
        score: the score.
        joined: (n, 5) in codec units.
    """
    p_codec = playable(joined, score.notes)
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


def render(
    score: Score,
    checkpoint: str | Path | None = None,
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    seed: int = SEED,
    sample: int = 0,
) -> tuple[Performance, EncodedPerformance]:
    """Perform one score.

    Args:
        score: its notes.
        checkpoint: a checkpoint folder; None is the small model that ships with the code.
        steps: evaluations of the denoiser.
        guidance: weight of classifier-free guidance; 1 is none.
        seed: decides the noise, together with the score and ``sample``.
        sample: which of many performances of this score.

    Returns:
        The performance, and the codec that decodes to it.

    Raises:
        InputError: the checkpoint cannot be used.
    """
    from dexter_model.expression.sampler import WindowSampler  # torch takes seconds to import

    if not len(score.notes):
        raise InputError("score", "has no notes", "Give a score with notes", "score_empty")
    sampler = WindowSampler(load_checkpoint(checkpoint or default_checkpoint()), steps, guidance)
    length = sampler.window
    renders, notes = [Render(score, score_digest(score), sample)], len(score.notes)
    collector = Collector({0: notes}, length)
    for windows in plan_batches([notes], length, OVERLAP):
        finished = collector.add(windows, sampler.run(cut_batch(windows, renders, length, seed)))
    return perform(score, finished[0][1])
