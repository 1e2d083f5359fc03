"""Validation by ear and eye: windows of the validation split rendered by the model as it is, beside their performers.

The published criterion, Val/tempo_vel_loss, is the L1 distance of tempo curves (beats a minute, one value a score
onset) plus that of velocity curves (MIDI). Windows and noise are the same at every validation, so that checkpoints
differ in their weights alone. Curves need numpy; the figure is drawn where matplotlib is installed and MIDI files are
written where symusic is, neither of which a bare training machine has to have.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.codec.tempo import group_starts, onset_groups
from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.expression.config import ExpressionConfig
from dexter_model.expression.data import WRITTEN, ResidentNotes, Statistics, Windows
from dexter_model.expression.rendering import perform
from dexter_model.expression.sampling import sample_windows
from dexter_model.metrics.comparison import judged_correlation, mean_absolute_error
from dexter_model.metrics.curves import tempo_curve, velocity_curve
from dexter_model.notes import SCORE_NOTE, Score
from dexter_model.training.loop import Evaluation

STEPS = 10  # of DPM-Solver++(2M), without guidance
SHOWN = 4  # windows whose curves are drawn and that are written as MIDI

Curves = dict[str, np.ndarray]  # tempo and velocity at each score onset


class RenderedWindows:
    """Renders the same windows with the same noise whenever it is called, and compares them with their performers."""

    def __init__(
        self, notes: ResidentNotes, normal: ResidentNotes, statistics: Statistics, config: ExpressionConfig
    ) -> None:
        """``notes`` is the validation split, ``normal`` the same normalised, on the device to render on.

        Windows of which nothing was played have nothing to be compared with: they are not among the rendered ones.
        """
        device, window, seed = normal.codec.device, config.denoiser.window, config.training.seed
        generator = torch.Generator(device).manual_seed(seed)
        places = normal.tile_places(window, config.training.rendered_windows)
        self.statistics, self.schedule = statistics, noise_schedule(config.diffusion)
        if config.training.train_target == "transfer":
            windows = normal.cut_pairs(*places, window, generator)
        else:
            windows = _of_bare_scores(normal.cut(*places, window), normal.score.shape[1])
        played_B = windows.matched_BN.any(dim=1)
        self.windows = Windows._make(None if rows is None else rows[played_B] for rows in windows)
        drawn = torch.randn(self.windows.x0_BN5.shape, generator=generator, device=device)
        self.noise_BN5 = drawn if self.windows.partner_BN5 is None else self.windows.partner_BN5
        performance, start = (place[played_B].cpu() for place in places)
        self.sizes = self.windows.mask_BN.sum(dim=1).tolist()
        # At the performers' own tempo, so that the model is judged by what it decides.
        self.level_B11 = notes.level[performance][:, None, None].to(device)
        first = (notes.score_start[performance] + start).tolist()
        self.scores = [
            _score(notes.written[at : at + size].numpy()) for at, size in zip(first, self.sizes, strict=True)
        ]
        self.human = notes.cut(performance, start, window).x0_BN5.numpy()
        self.played = self.windows.matched_BN.cpu().numpy()

    def __len__(self) -> int:
        """How many windows are rendered; without any there is nothing to call."""
        return len(self.scores)

    def __call__(self, model: nn.Module, folder: Path) -> Evaluation:
        """Render, compare, keep ``renders.npz`` (and MIDI files) in ``folder``."""
        codec_BN5 = self.render(model)
        predicted, human = self._curves(codec_BN5), self._curves(self.human)
        pairs = list(zip(predicted, human, strict=True))
        losses = {
            name: _mean([mean_absolute_error(ours[name], theirs[name]) for ours, theirs in pairs])
            for name in predicted[0]
        }
        measures = {f"Val/{name}_loss": loss for name, loss in losses.items()} | {
            "Val/tempo_vel_loss": sum(losses.values()),
            "Val/tempo_vel_correlation": sum(
                _mean([judged_correlation(ours[name], theirs[name]) for ours, theirs in pairs]) for name in losses
            ),
        }
        self._keep(codec_BN5, folder)
        shown = [pairs[index] for index in self._shown()]
        images = {"Val/curves": curves_image(shown)} if find_spec("matplotlib") else {}
        return Evaluation(measures["Val/tempo_vel_loss"], measures, images)

    def render(self, model: nn.Module) -> np.ndarray:
        """(B, N, 5) codecs."""
        windows = self.windows
        z_BN5 = sample_windows(
            model,
            windows.condition_BNR,
            windows.mask_BN,
            self.noise_BN5,
            schedule=self.schedule,
            steps=min(STEPS, len(self.schedule)),
            guidance=1.0,
            sampler="dpm-solver++",
        )
        return self.statistics.restore(z_BN5, self.level_B11).cpu().numpy()

    def _curves(self, codec_BN5: np.ndarray) -> list[Curves]:
        curves = []
        for codec, played, score in zip(codec_BN5, self.played, self.scores, strict=True):
            size = len(score.notes)
            starts = group_starts(onset_groups(score.notes["onset_beat"]))
            curves.append(
                {
                    "tempo": tempo_curve(codec[:size, 0], played[:size], starts),
                    "velocity": velocity_curve(codec[:size, 1], played[:size], starts),
                }
            )
        return curves

    def _keep(self, codec_BN5: np.ndarray, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "renders.npz", predicted=codec_BN5, human=self.human, notes=np.array(self.sizes))
        for index in self._shown() if find_spec("symusic") else []:
            score = self.scores[index]
            performance, _ = perform(score, codec_BN5[index, : len(score.notes)])
            write_performance_midi(performance, folder / f"window_{index:03}.mid")

    def _shown(self) -> list[int]:
        """Windows spread evenly over all."""
        return sorted({len(self.scores) * k // SHOWN for k in range(SHOWN)})


def _of_bare_scores(windows: Windows, score_rows: int) -> Windows:
    """The windows as most are rendered: nothing is known of how the performance is to sound."""
    condition_BNR = windows.condition_BNR.clone()
    condition_BNR[..., score_rows:] = math.nan
    return windows._replace(condition_BNR=condition_BNR)


def curves_image(pairs: list[tuple[Curves, Curves]]) -> np.ndarray:
    """Curves of rendered windows over their performers', a row a window: (height, width, 3) uint8."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from dexter_model.report.figures import REFERENCES, RENDERS, STYLE

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 2.2 * len(pairs)), layout="constrained", dpi=100)
        rows = figure.subplots(len(pairs), 2, squeeze=False)
        for row, (ours, theirs) in zip(rows, pairs, strict=True):
            for axes, (name, unit) in zip(row, (("tempo", "beats/min"), ("velocity", "MIDI")), strict=True):
                axes.plot(theirs[name], color=REFERENCES["human"], linewidth=1.2, label="performer")
                axes.plot(ours[name], color=RENDERS[0], linewidth=1.2, label="model")
                axes.set_ylabel(f"{name} ({unit})")
        rows[0, 0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        for axes in rows[-1]:
            axes.set_xlabel("score onset of the window")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _score(written: np.ndarray) -> Score:
    """The notes of a window as a score: onsets, durations and pitches are all that decoding asks for."""
    notes = np.zeros(len(written), SCORE_NOTE)
    for column, name in enumerate(WRITTEN):
        notes[name] = written[:, column]
    return Score(np.array([f"n{index}" for index in range(len(notes))]), notes)


def _mean(values: list[float]) -> float:
    """Mean over the windows that have a value; NaN where none has."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan
