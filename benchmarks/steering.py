"""Whether steering is heard: each perceptual feature asked for less, normal and more, and estimated in what comes out.

Pieces of a data set's test split (their first notes) are rendered from equal noise with one feature at -1, 0 and +1
standard deviation of the training data; ``perceptual.estimate`` then hears the renders. Figures are standard deviations
of the training data; intervals are 95 %, bootstrap over pieces. Movement in the asked direction is required of
articulation and the two rhythm features: performers themselves hardly move the others.

    python benchmarks/steering.py --store STORE --checkpoint DIR [--pieces 24] [--notes 600] [--guidance 1.5]
        [--json FILE] [--figure FILE.png]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from dexter_model.dataset.store import open_version
from dexter_model.expression.plan import Render, Sampling, plan_batches, score_digest
from dexter_model.expression.rendering import perform
from dexter_model.expression.sampler import PieceSampler
from dexter_model.expression.steering import perceptual_rows
from dexter_model.metrics.intervals import bootstrap_mean
from dexter_model.notes import PERCEPTUAL_FEATURES, Score
from dexter_model.perceptual.estimate import estimate_encoded
from dexter_model.training.checkpoint import load_checkpoint

LEVELS = (-1.0, 0.0, 1.0)
REQUIRED = ("articulation", "rhythm_complexity", "rhythm_stability")


def heard(sampler: PieceSampler, scores: list[Score], feature: str, level: float) -> np.ndarray:
    """(pieces, 7) mean features over the notes of each render, in standard deviations of the training data."""
    config, statistics = sampler.config, sampler.statistics
    renders = []
    for score in scores:
        rows = perceptual_rows(score.notes["onset_beat"], config, asked={feature: level})
        renders.append(Render(score, score_digest(score), perceptual=rows))
    means = []
    for batch in plan_batches([len(score.notes) for score in scores], config.denoiser.window, 64):
        for index, codec in zip(batch, sampler.run([renders[index] for index in batch]), strict=True):
            performance, encoded = perform(scores[index], codec)
            features = estimate_encoded(performance, encoded, scores[index])
            onset = performance.notes["onset_sec"]
            delta = config.denoiser.perceptual == "delta"
            means.append(np.nanmean(features.delta_per_note(onset) if delta else features.per_note(onset), axis=0))
    return (np.stack(means) - statistics.perceptual_mean) / statistics.perceptual_std


def with_interval(values: np.ndarray) -> list[float]:
    """Mean, low, high of (pieces,) by bootstrap; pieces of which nothing is heard do not count."""
    return list(bootstrap_mean(values, seed=0))


def measure(sampler: PieceSampler, scores: list[Score]) -> dict[str, dict[str, Any]]:
    """By feature: what is heard at each level, and how far it moves from less to more; side effects on the others."""
    results = {}
    for column, feature in enumerate(PERCEPTUAL_FEATURES):
        less, normal, more = (heard(sampler, scores, feature, level) for level in LEVELS)
        moved = more - less
        results[feature] = {
            "less": with_interval(less[:, column]),
            "normal": with_interval(normal[:, column]),
            "more": with_interval(more[:, column]),
            "moved": with_interval(moved[:, column]),
            "others moved": {
                other: with_interval(moved[:, k])[0] for k, other in enumerate(PERCEPTUAL_FEATURES) if k != column
            },
        }
        print(f"| {feature} | {' | '.join(told(each) for each in list(results[feature].values())[:4])} |", flush=True)
    return results


def told(figure: list[float]) -> str:
    mean, low, high = figure
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """A row a feature: what is heard when less, normal and more is asked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for place, level, colour in ((-0.2, "less", "#3b6ea5"), (0.0, "normal", "#777777"), (0.2, "more", "#c0504d")):
        points = np.array([each[level] for each in results.values()])
        errors = np.abs(points[:, 1:] - points[:, :1]).T
        rows = np.arange(len(points)) + place
        axes.errorbar(points[:, 0], rows, xerr=errors, fmt="o", color=colour, capsize=3, markersize=5, label=level)
    axes.set_yticks(np.arange(len(results)), [name.replace("_", " ") for name in results])
    axes.invert_yaxis()
    axes.axvline(0, color="#cccccc", zorder=0)
    axes.set_xlabel("heard in the render, standard deviations of the training data")
    axes.legend(title="asked for", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=24)
    parser.add_argument("--notes", type=int, default=600)
    parser.add_argument("--guidance", type=float, default=Sampling.guidance)
    parser.add_argument("--steps", type=int, default=Sampling.steps)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    sampler = PieceSampler(load_checkpoint(arguments.checkpoint), Sampling(arguments.steps, arguments.guidance))
    if sampler.config.denoiser.perceptual == "none":
        raise SystemExit(f"{arguments.checkpoint} was trained without perceptual rows")
    pieces = [piece for piece in open_version(arguments.store).pieces("test") if len(piece.score) >= 200]
    chosen = pieces[:: max(1, len(pieces) // arguments.pieces)][: arguments.pieces]
    scores = [Score(piece.note_id[: arguments.notes], piece.score[: arguments.notes]) for piece in chosen]
    print(f"{len(scores)} pieces, {sum(len(s.notes) for s in scores):,} notes, guidance {arguments.guidance}")
    print("| feature | less | normal | more | moved |\n|---|---|---|---|---|")
    results = measure(sampler, scores)
    for feature in REQUIRED:
        moved = results[feature]["moved"]
        print(f"{feature}: {'moves as asked' if moved[1] > 0 else 'DOES NOT MOVE AS ASKED'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.figure:
        draw(results, arguments.figure)


if __name__ == "__main__":
    main()
