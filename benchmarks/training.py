"""Speed of the training loop without Ray: steps/s, windows/s, and the share of a step that waits for data.

python benchmarks/training.py --channels 768 --layers 12 --batch 16 --steps 5
python benchmarks/training.py --channels 96 --layers 8 --batch 256 --device cuda --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from dexter_model.digests import code_version
from dexter_model.expression.config import DenoiserConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.data import ResidentNotes
from dexter_model.expression.train_arrays import train_on_arrays
from dexter_model.notes import SCORE_NOTE
from dexter_model.training.loop import Hooks, Progress

PIECES, NOTES, PERFORMANCES = 200, 3000, 5  # the size of (n)ASAP


def made_up_split() -> ResidentNotes:
    """Random notes of a corpus's size: speed does not depend on their values."""
    rng = np.random.default_rng(0)
    score = np.zeros(NOTES, SCORE_NOTE)
    score["onset_div"], score["pitch"] = np.arange(NOTES), rng.integers(21, 109, NOTES)
    codec = rng.standard_normal((PERFORMANCES, NOTES, 5), np.float32)
    matched = np.ones((PERFORMANCES, NOTES), bool)
    return ResidentNotes.from_pieces([SimpleNamespace(score=score, performance=codec, matched=matched)] * PIECES)


def synchronised(device: str) -> float:
    """The time when the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_a_batch(notes: ResidentNotes, batch: int, window: int, device: str, repeats: int = 20) -> float:
    """Time to draw a batch from resident notes."""
    notes, generator = notes.to(device), torch.Generator(device).manual_seed(0)
    notes.draw(batch, window, generator)
    began = synchronised(device)
    for _ in range(repeats):
        notes.draw(batch, window, generator)
    return (synchronised(device) - began) / repeats


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    config = ExpressionConfig(
        DenoiserConfig(channels=options.channels, layers=options.layers, window=options.window),
        training=TrainingConfig(
            steps=2 * options.steps,
            batch_size=options.batch,
            precision=options.precision,
            threads=options.threads,
            log_every=options.steps,
            checkpoint_every=2 * options.steps,
        ),
    )
    notes = made_up_split()
    times: list[float] = []  # at the end of the first half, which warms up, and of the second

    def logged(_: Progress) -> None:
        times.append(synchronised(options.device))

    with tempfile.TemporaryDirectory() as out:
        train_on_arrays(notes, None, config, Path(out), dataset={}, device=options.device, hooks=Hooks(logged=logged))
    step = (times[1] - times[0]) / options.steps
    drawing = seconds_a_batch(notes, options.batch, options.window, options.device)
    figures = {
        "code_version": code_version(),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {options.threads} threads",
        "torch": torch.__version__,
        "denoiser": asdict(config.denoiser),
        "batch": options.batch,
        "precision": options.precision,
        "steps_per_sec": round(1 / step, 3),
        "windows_per_sec": round(options.batch / step, 1),
        "ms_a_step": round(1000 * step, 2),
        "ms_drawing_a_batch": round(1000 * drawing, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
