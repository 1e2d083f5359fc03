"""What Performance RNN plays beside what it was asked for: note density and pitch classes as they are heard.

python benchmarks/performance_rnn_steering.py [--checkpoint DIR] [--outputs 16] [--steps 1500] [--figure FILE.svg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from dexter_model.performance_rnn.bundle import load_model
from dexter_model.performance_rnn.generation import Generated, generate, load_network
from dexter_model.performance_rnn.network import PerformanceRnn
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.systems import default_model

DENSITIES = (1, 2, 4, 8, 16, 32)  # notes a second: the classes that music has
KEYS = {
    "C major": (2, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1),
    "F sharp major": (0, 1, 0, 1, 0, 1, 2, 0, 1, 0, 1, 1),
    "D minor": (1, 0, 2, 0, 1, 1, 0, 1, 0, 1, 1, 0),
    "whole tone": (1, 0) * 6,
    "pentatonic": (0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0),
}


def density(made: Generated, steps: int) -> float:
    """Notes a second."""
    return len(made.notes) / (steps / 100)


def pitch_classes(made: Generated) -> np.ndarray:
    """Share (12,) of the time that each class sounds, as it is asked for."""
    seconds = (made.notes["offset"] - made.notes["onset"]) / 100
    found = np.bincount(made.notes["pitch"] % 12, seconds, 12)
    return found / max(found.sum(), 1e-9)


def heard_densities(network: PerformanceRnn, outputs: int, steps: int) -> np.ndarray:
    """(asked for, outputs) notes a second."""
    found = []
    for asked in DENSITIES:
        settings = GenerationSettings(num_steps=steps, notes_per_second=(float(asked),))
        found.append([density(made, steps) for made in generate(network, settings, range(outputs))])
        print(f"asked for {asked:2d} notes/s, heard {np.mean(found[-1]):5.1f} (deviation {np.std(found[-1]):.1f})")
    return np.array(found)


def heard_classes(network: PerformanceRnn, outputs: int, steps: int) -> dict[str, np.ndarray]:
    """By key, (outputs, 12) shares of pitch classes."""
    found = {}
    for name, weights in KEYS.items():
        settings = GenerationSettings(num_steps=steps, pitch_class_histogram=(tuple(map(float, weights)),))
        found[name] = np.array([pitch_classes(made) for made in generate(network, settings, range(outputs))])
        like = [np.corrcoef(each, weights)[0, 1] for each in found[name]]
        among = found[name][:, np.array(weights) > 0].sum(axis=1)
        print(
            f"{name}: correlation with what was asked for {np.nanmean(like):.2f} (least {np.nanmin(like):.2f}), "
            f"{100 * among.mean():.0f} % of the time in its {np.count_nonzero(weights)} classes"
        )
    return found


def drawn(densities: np.ndarray, classes: dict[str, np.ndarray]) -> Figure:
    """Both as a picture."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    left.loglog(DENSITIES, densities, ".", color="0.6")
    left.loglog(DENSITIES, densities.mean(axis=1), "o-", label="heard")
    left.loglog(DENSITIES, DENSITIES, "--", color="0.3", label="asked for")
    left.set(xlabel="asked for, notes/s", ylabel="heard, notes/s", xticks=DENSITIES, xticklabels=DENSITIES)
    left.legend()
    for place, (name, found) in enumerate(classes.items()):
        share = found.mean(axis=0) / found.mean(axis=0).max()
        asked = np.array(KEYS[name]) > 0
        right.bar(np.arange(12), 0.85 * share, bottom=place, color=["C0" if each else "0.75" for each in asked])
    right.set(yticks=np.arange(len(KEYS)), yticklabels=list(KEYS), xticks=range(12), xlabel="pitch class")
    right.set_title("share of time; blue was asked for", fontsize=10)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default=str(default_model("performance_rnn")))
    parser.add_argument("--outputs", type=int, default=16, help="performances for each thing asked for")
    parser.add_argument("--steps", type=int, default=1500, help="of 10 ms")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_network(load_model(options.checkpoint))
    densities = heard_densities(network, options.outputs, options.steps)
    asked = np.repeat(np.log2(DENSITIES), options.outputs)
    like = np.corrcoef(asked, np.log2(np.maximum(densities, 0.01)).ravel())[0, 1]
    rising = bool((np.diff(densities.mean(axis=1)) > 0).all())
    print(f"correlation of octaves of density asked for and heard {like:.3f}; means rise with every step: {rising}")
    classes = heard_classes(network, options.outputs, options.steps)
    if options.figure:
        drawn(densities, classes).savefig(options.figure)


if __name__ == "__main__":
    main()
