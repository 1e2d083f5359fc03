"""From noise, or from another performance, to a performance: the sampling of one excerpt as an animated picture.

A picture that moves by itself (animated WebP) needs no script, which the page forbids itself. Readers who asked their
system for less motion get the last frame.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dexter_model.errors import InputError
from dexter_model.metrics.contests import humans_of
from dexter_model.metrics.curves import onset_starts, series
from dexter_model.notes import Score
from dexter_model.report.figures import INK, RENDERS, STYLE

if TYPE_CHECKING:
    from dexter_model.dataset.piece import Piece
    from dexter_model.expression.plan import Sampling

NOTES = 160  # of the excerpt
FRAMES = 24  # at most
FRAME_MS, LAST_FRAME_MS = 260, 2600
STRIPS = (
    ("tempo_curve", "Tempo\n(beats/min)", 2.0),
    ("velocity_curve", "Velocity\n(MIDI)", 2.0),
    ("timing", "Timing\n(s)", 1.3),
    ("articulation", "Articulation\n(log2)", 1.3),
    ("pedal", "Pedal\n(CC64)", 1.3),
)
ENDS = {"velocity_curve": (0.0, 127.0), "pedal": (-20.0, 147.0)}  # others have the humans' range


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a sampler did: ``times`` (S,) of the diffusion, and what it was at and headed for there, (S, n, 5) codecs.

    The last of ``noisy`` is the end itself.
    """

    times: list[int]
    noisy: np.ndarray
    clean: np.ndarray


def trajectory(
    score: Score,
    checkpoint: str | Path,
    sampling: Sampling | None = None,
    source: tuple[np.ndarray, np.ndarray] | None = None,
) -> Trajectory:
    """Sample a score once more, keeping every step.

    Args:
        score: n notes.
        checkpoint: the model.
        sampling: how.
        source: codec (n, 5) and played notes (n,) of the performance to start from.

    Raises:
        InputError: the checkpoint cannot be used, was trained to start from a performance and there is none
            (``source_missing``), or knows no way there, only its end (``nothing_to_show``).
    """
    from dexter_model.expression.plan import SEED, Render, score_digest
    from dexter_model.expression.sampler import PieceSampler
    from dexter_model.training.checkpoint import load_checkpoint

    sampler = PieceSampler(load_checkpoint(checkpoint), sampling)
    if sampler.config.denoiser.target == "mean":
        reason = "tells the mean of all performances at once: there is no way there to be seen"
        raise InputError(checkpoint, reason, "Show a model that denoises", "nothing_to_show")
    kept: list[tuple[int, np.ndarray, np.ndarray]] = []

    start, played = (None, None) if source is None else (source[0].astype(np.float32), source[1])
    render = Render(score, score_digest(score), SEED, 0, None, start, played)

    def keep(t: int, x_n5: Any, x0_n5: Any) -> None:
        kept.append((t, sampler.codec(x_n5, render), sampler.codec(x0_n5, render)))

    (end,) = sampler.run([render], keep)
    noisy, clean = (np.stack([*(state[which] for state in kept), end]) for which in (1, 2))
    return Trajectory([*(state[0] for state in kept), 0], noisy, clean)


def excerpt(piece: Piece) -> Score:
    """The beginning of a piece, to the end of a chord."""
    starts = onset_starts(piece.score["onset_div"])
    notes = int(max((start for start in [*starts, len(piece.score)] if start <= NOTES), default=len(piece.score)))
    return Score(piece.note_id[: notes or NOTES], piece.score[: notes or NOTES])


def animation(piece: Piece, path: Trajectory) -> tuple[str, str]:
    """The trajectory of an excerpt among the humans' curves, as data URIs: the moving picture and its last frame."""
    n = path.clean.shape[1]
    starts = onset_starts(piece.score["onset_div"][:n])
    humans, _ = humans_of(piece)
    theirs = series(humans.codec[:, :n], humans.counts[:, :n], starts)
    chosen = np.unique(np.linspace(0, len(path.times) - 1, min(FRAMES, len(path.times))).round().astype(int))
    frames = _draw(
        piece.score["onset_beat"][:n],
        starts,
        theirs,
        [series(codecs[chosen], np.ones((len(chosen), n), bool), starts) for codecs in (path.noisy, path.clean)],
        [f"step {k} of {len(path.times) - 1}" for k in chosen],
    )
    return _webp(frames), _webp(frames[-1:])


@mpl.rc_context(STYLE)
def _draw(
    beats: np.ndarray,
    starts: np.ndarray,
    humans: Mapping[str, np.ndarray],
    states: Sequence[Mapping[str, np.ndarray]],
    titles: Sequence[str],
) -> list[Image.Image]:
    """The frames: noisy and clean series (S, n or U) over the humans' lines (P, n or U)."""
    figure = Figure(figsize=(9, 6.4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(len(STRIPS), 1, sharex=True, height_ratios=[height for *_, height in STRIPS])
    moving = []
    for axes, (name, label, _) in zip(grid, STRIPS, strict=True):
        x = beats[starts] if name.endswith("_curve") else beats
        axes.plot(x, humans[name].T, color="#c3c8d0", linewidth=0.8)
        axes.set_ylabel(label, fontsize=8.5)
        axes.set_ylim(*ENDS.get(name) or _range(humans[name], states[-1][name][-1]))
        axes.margins(x=0.01)
        moving.append([_line(axes, x, RENDERS[1], 0.7, 0.45), _line(axes, x, RENDERS[0], 1.8, 1.0)])
    grid[-1].set_xlabel("score time (beats)")
    grid[0].legend(
        [grid[0].lines[0], *moving[0]],
        ["performances", "where the sampler is", "where it is headed"],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        fontsize=9,
    )
    title = grid[0].set_title(titles[0], loc="left", fontsize=11, color=INK, animated=True)
    figure.align_ylabels(grid)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)  # all but what moves is drawn once
    frames = []
    for step, text in enumerate(titles):
        canvas.restore_region(still)
        title.set_text(text)
        grid[0].draw_artist(title)
        for axes, lines, (name, *_) in zip(grid, moving, STRIPS, strict=True):
            for line, state in zip(lines, states, strict=True):
                line.set_ydata(state[name][step])
                axes.draw_artist(line)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    return frames


def _line(axes: Axes, x: np.ndarray, colour: str, width: float, alpha: float) -> Any:
    (line,) = axes.plot(x, np.full(len(x), np.nan), color=colour, linewidth=width, alpha=alpha, animated=True)
    return line


def _range(humans: np.ndarray, end: np.ndarray) -> tuple[float, float]:
    """A little more than what nearly all of the humans and of the performance do; noise may leave the picture."""
    both = [np.nanquantile(values, [0.01, 0.99]) for values in (humans, end)]
    low, high = min(ends[0] for ends in both), max(ends[1] for ends in both)
    margin = 0.3 * max(high - low, 0.05)
    return float(low - margin), float(high + margin)


def _webp(frames: Sequence[Image.Image]) -> str:
    buffer = io.BytesIO()
    durations = [*[FRAME_MS] * (len(frames) - 1), LAST_FRAME_MS]
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, lossless=True, method=4
    )
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
