"""What the composer learns and costs: a few segments by heart, and composing by samplers of few steps.

Segments of the MIDI files of a folder. The error is the mean squared one of the noise, 1 for a network that says
nothing, on the segments learnt, at times spread evenly over the schedule. What is composed is held against them by the
Wasserstein distances of pitches, durations and deltas.

    python benchmarks/composer.py FOLDER [--segments 64] [--channels 16] [--steps 2000] [--minutes 5]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from dexter_model.composer.config import ComposerConfig, DataConfig, NetworkConfig, TrainingConfig
from dexter_model.composer.data import ResidentSegments
from dexter_model.composer.generation import Composer, load_composer
from dexter_model.composer.plan import Composing, Sampler
from dexter_model.composer.train_arrays import train_on_arrays
from dexter_model.composer.validation import HeldOut
from dexter_model.errors import InputError
from dexter_model.reading.recording import load_recording
from dexter_model.training.checkpoint import load_checkpoint
from dexter_model.training.loop import Hooks, Progress

WAYS: list[tuple[Sampler, int]] = [
    ("dpm-solver++", 10),
    ("dpm-solver++", 20),
    ("dpm-solver++", 50),
    ("ddim", 20),
    ("ddim", 50),
    ("ddpm", 50),
    ("ddpm", 100),
    ("ddpm-beta", 1000),
]


def segments_of(folder: Path, config: DataConfig, wanted: int) -> ResidentSegments:
    """So many segments, of as many files as it takes; files that cannot be read are left out."""
    pieces = []
    for path in sorted(folder.rglob("*.mid")):
        try:
            pieces.append((path.stem, load_recording(path)))
        except InputError:
            continue
        found = ResidentSegments.of(pieces, config)
        if len(found) >= wanted:
            break
    return replace(
        found,
        values=found.values[:wanted],
        program=found.program[:wanted],
        active=found.active[:wanted],
        piece=found.piece[:wanted],
    )


def row(progress: Progress) -> None:
    """A line of the table of training."""
    print(
        f"| {progress.step} | {progress.loss:.4f} | {progress.validation_loss} | {progress.steps_per_sec:.1f} |",
        flush=True,
    )


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--segments", type=int, default=64)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--target", choices=["epsilon", "v"], default="v")
    parser.add_argument("--scale", choices=["symmetric", "unit", "standard"], default="symmetric")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()
    training = TrainingConfig(
        steps=options.steps,
        learning_rate=options.learning_rate,
        last_learning_rate=options.learning_rate / 10,
        batch_size=options.batch_size,
        validation_segments=options.segments,
        log_every=200,
        validate_every=200,
        checkpoint_every=200,
    )
    network = NetworkConfig(channels=options.channels, target=options.target)
    config = ComposerConfig(DataConfig(scale=options.scale), network, training=training)
    segments = segments_of(options.folder, config.data, options.segments)
    print(f"{len(segments)} segments of {int(segments.piece.max()) + 1} pieces; left out: {segments.left_out}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        hooks, seconds = Hooks(logged=row), 60 * options.minutes
        result = train_on_arrays(segments, segments, config, out, dataset={}, hooks=hooks, seconds=seconds)
        checkpoint = load_checkpoint(out)
        told(checkpoint.path, segments, config)
        print(f"{result.step} steps in {result.seconds:.0f} s")
        print("| sampler | steps | s a piece | pitch, semitones | duration, s | delta, s |")
        for sampler, steps in WAYS:
            settings = Composing(steps=steps, sampler=sampler)
            began = time.perf_counter()
            made = Composer.of(checkpoint, settings).compose(range(min(32, 16_000 // steps)))
            seconds = (time.perf_counter() - began) / len(made)
            far = " | ".join(f"{value:.3f}" for value in distances(made, segments))
            print(f"| {sampler} | {steps} | {seconds:.2f} | {far} |", flush=True)


def distances(made: list[np.ndarray], segments: ResidentSegments) -> list[float]:
    """How far (Wasserstein distance) what was composed lies from what was learnt: pitch, duration, delta."""
    begun = [np.diff(notes["onset_sec"], prepend=0.0) for notes in made]
    composed = [
        np.concatenate([n["pitch"] for n in made]),
        np.concatenate([n["offset_sec"] - n["onset_sec"] for n in made]),
    ]
    learnt = segments.values.reshape(-1, 3).numpy().T
    return [float(wasserstein_distance(*pair)) for pair in zip([*composed, np.concatenate(begun)], learnt, strict=True)]


def told(path: Path, segments: ResidentSegments, config: ComposerConfig) -> None:
    """The error of the last checkpoint, by feature and time."""
    model, _, statistics = load_composer(load_checkpoint(path))
    held_out = HeldOut(segments, statistics, config, "cpu")
    with torch.no_grad():
        print(f"loss: {float(held_out.loss(model)):.4f}; mean squared error of the noise:")
    for name, value in held_out.evaluate(model, path).measures.items():
        print(f"  {name} {value:.4f}")


if __name__ == "__main__":
    main()
