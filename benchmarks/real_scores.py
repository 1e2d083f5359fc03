"""Scores of anybody's rendered by the default model, their curves drawn beside those of pianists who played the work.

    python benchmarks/real_scores.py SCORE[=CORPUS/PIECE] ... --store URL [--figure PNG] [--checkpoint DIR]

Each score file is rendered alone, as `dexter render` does, and timed after parsing; CORPUS/PIECE is the piece of the
data set whose performances are drawn, if it has one: tempo and velocity over the score's beats, their median and the
middle 80 %.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from dexter_model.dataset.store import open_version
from dexter_model.expression.plan import Render, Sampling, score_digest
from dexter_model.expression.rendering import default_checkpoint, perform
from dexter_model.expression.sampler import PieceSampler
from dexter_model.expression.score_files import ScoreReader
from dexter_model.metrics.contests import humans_of
from dexter_model.metrics.curves import onset_starts, tempo_curve, velocity_curve
from dexter_model.notes import Score
from dexter_model.training.checkpoint import load_checkpoint

SMOOTH = 4.0  # beats: curves are means over so many, as a listener hears tempo

Curves = tuple[np.ndarray, np.ndarray]  # tempo and velocity (P, beats)


def curves(codec: np.ndarray, counts: np.ndarray, notes: np.ndarray, beats: np.ndarray) -> Curves:
    """Tempo and velocity (P, len(beats)) of performances (P, n, 5) of a score, means over ``SMOOTH`` beats."""
    starts = onset_starts(notes["onset_div"])
    onset = notes["onset_beat"][starts]
    both = []
    for series in (tempo_curve(codec[..., 0], counts, starts), velocity_curve(codec[..., 1], counts, starts)):
        rows = []
        for row in series:
            known = np.isfinite(row)
            total = np.concatenate([[0.0], np.cumsum(row[known])])
            low, high = (np.searchsorted(onset[known], beats + side * SMOOTH / 2) for side in (-1, 1))
            rows.append((total[high] - total[low]) / np.where(high > low, high - low, np.nan))
        both.append(np.array(rows))
    return both[0], both[1]


def draw(axes: np.ndarray, name: str, beats: np.ndarray, ours: Curves, humans: Curves | None) -> None:
    """One score's two panels."""
    for k, (axis, unit, mine) in enumerate(zip(axes, ("beats/min", "MIDI velocity"), ours, strict=True)):
        if humans is not None:
            low, middle, high = np.nanquantile(humans[k], (0.1, 0.5, 0.9), axis=0)
            axis.fill_between(beats, low, high, color="0.85", label="pianists, middle 80 %")
            axis.plot(beats, middle, color="0.45", lw=1, label=f"median of {len(humans[k])}")
        axis.plot(beats, mine[0], color="tab:blue", lw=1.2, label="rendered")
        axis.set(xlabel="beat", ylabel=unit)
    axes[0].set_title(name, loc="left")
    axes[1].legend(fontsize=8, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0))


def main() -> None:
    """Render, time, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", nargs="+", metavar="SCORE[=CORPUS/PIECE]")
    parser.add_argument("--store", required=True)
    parser.add_argument("--checkpoint", type=Path, default=default_checkpoint())
    parser.add_argument("--figure", type=Path, default=Path("real_scores.png"))
    options = parser.parse_args()
    data, reader = open_version(options.store), ScoreReader()
    sampler = PieceSampler(load_checkpoint(options.checkpoint), Sampling())
    figure, axes = plt.subplots(len(options.scores), 2, figsize=(12, 2.4 * len(options.scores)), squeeze=False)
    for row, each in zip(axes, options.scores, strict=True):
        path, _, place = each.partition("=")
        score = reader.run(path)
        assert isinstance(score, Score), score
        began = time.perf_counter()
        [codec] = sampler.run([Render(score, score_digest(score))])
        performance, encoded = perform(score, codec)
        seconds = time.perf_counter() - began
        length = float((performance.notes["onset_sec"] + performance.notes["keydown_sec"]).max())
        velocity = performance.notes["velocity"]
        print(
            f"{Path(path).name}: {len(score.notes)} notes in {seconds:.1f} s, lasts {length:.0f} s, "
            f"velocity {velocity.mean():.0f} +- {velocity.std():.0f} ({velocity.min()} to {velocity.max()})"
        )
        beats = np.unique(np.floor(score.notes["onset_beat"]))  # those in which a note begins
        ours = curves(encoded.p_codec[None], np.ones((1, len(score.notes)), bool), score.notes, beats)
        theirs = None
        if place:
            piece = data.piece(*place.split("/", 1))
            humans, _ = humans_of(piece)
            theirs = curves(humans.codec, humans.counts, piece.score, beats)
        draw(row, Path(path).stem, beats, ours, theirs)
    reader.close()
    figure.tight_layout()
    figure.savefig(options.figure, dpi=90)


if __name__ == "__main__":
    main()
