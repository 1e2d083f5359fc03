"""Samplers at few steps beside 1000 steps of DDPM, on a fixed set of windows: which to render with, in how many steps.

1000 steps of DDPM are what a model has to say; a sampler at few steps should say the same. For every setting and codec
column:

* mean and sd: of the samples, in standard deviations of the training data;
* W1: mean over windows and notes of the Wasserstein distance between the setting's samples of that note and DDPM's (two
  sets of DDPM samples give what chance alone gives);
* energy: the energy distance (Szekely & Rizzo 2013) of whole windows, square root, likewise between sets of samples;
* r: Pearson over the notes of a window between a single sample, and the mean of all, and each human performance.

Intervals: 95 %, bootstrap over windows. Writes a JSON beside the tables.

    python benchmarks/samplers.py (--store STORE | --arrays test.npz) [--checkpoint DIR] [--windows 64] [--samples 8]
        [--reference 1000] [--steps 5 10 20 50] [--bfloat16] [--json FILE]

A machine with a GPU and without the store takes the test split as ``ResidentNotes.save`` wrote it. ``--bfloat16``
evaluates the network in half the time where the processor has it; samples stay float32, all settings are treated alike.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dexter_model.diffusion.sampling import evaluation_times, sample
from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.expression.config import DenoiserConfig
from dexter_model.expression.data import LIMIT, ResidentNotes, Windows
from dexter_model.expression.plan import SAMPLERS, Sampling
from dexter_model.expression.rendering import default_checkpoint
from dexter_model.expression.sampling import clean_windows, load_denoiser
from dexter_model.metrics.comparison import judged_correlation
from dexter_model.metrics.intervals import bootstrap_mean
from dexter_model.notes import CODEC_COLUMNS
from dexter_model.training.checkpoint import load_checkpoint

BATCH = 64  # windows the network sees at a time


class Setting(NamedTuple):
    sampler: str
    steps: int
    eta: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.sampler}{f' eta {self.eta}' if self.eta else ''}, {self.steps} steps"


class Bench:
    """A model and windows W of the test split, with the human performances of each."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        model, self.config, statistics = load_denoiser(load_checkpoint(arguments.checkpoint))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.guidance, self.brief = model.to(self.device), arguments.guidance, arguments.bfloat16
        self.schedule, self.samples = noise_schedule(self.config.diffusion), arguments.samples
        notes = test_split(arguments, self.config.denoiser).normalised(statistics)
        window = self.config.denoiser.window
        self.windows, places = fixed_windows(notes, window, arguments.windows)
        features = self.windows.condition_BNR.shape[-1] - notes.score.shape[1]
        if features:
            self.windows.condition_BNR[..., -features:] = torch.nan  # as a bare score is rendered
        self.humans = [humans_of(notes, *place, window) for place in places]

    @torch.inference_mode()
    def draw(self, setting: Setting) -> np.ndarray:
        """(S, W, N, 5) samples in standard deviations."""
        mask, condition = self.windows.mask_BN.to(self.device), self.windows.condition_BNR.to(self.device)
        times = evaluation_times(self.schedule, setting.sampler, setting.steps)
        drawn = []
        for index in range(self.samples):

            def noise(step: int, index: int = index) -> Tensor:
                generator = torch.Generator().manual_seed(hash((setting.seed, index, step)) % 2**31)
                return torch.randn(*mask.shape, 5, generator=generator).to(self.device)

            def denoise(x: Tensor, t: int) -> Tensor:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.brief):
                    parts = [
                        clean_windows(self.model, part, t, rows, self.schedule, self.guidance)
                        for part, rows in zip((x * mask[..., None]).split(BATCH), condition.split(BATCH), strict=True)
                    ]
                return torch.cat(parts).float() * mask[..., None]

            how = {"sampler": setting.sampler, "eta": setting.eta, "draw": noise}
            drawn.append(sample(denoise, noise(0), self.schedule, times, **how).clamp(-LIMIT, LIMIT).cpu().numpy())
        return np.stack(drawn)


def test_split(arguments: argparse.Namespace, config: DenoiserConfig) -> ResidentNotes:
    if arguments.arrays:
        return ResidentNotes.load(arguments.arrays)
    from dexter_model.dataset.store import open_version

    return ResidentNotes.from_pieces(open_version(arguments.store).pieces("test"), config)


def fixed_windows(notes: ResidentNotes, window: int, count: int) -> tuple[Windows, list[tuple[int, int]]]:
    """Windows of the first performances of pieces, full ones, spread evenly over the split; and where they begin."""
    first = (notes.first_peer == torch.arange(len(notes.length))).nonzero()[:, 0]
    places = [(int(p), start) for p in first for start in range(0, int(notes.length[p]) - window + 1, window)]
    chosen = [places[k * len(places) // count] for k in range(min(count, len(places)))]
    performance, start = (torch.tensor(column) for column in zip(*chosen, strict=True))
    return notes.cut(performance, start, window), chosen


def humans_of(notes: ResidentNotes, performance: int, start: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """(P, N, 5) codecs of every performance of a window and (P, N) which notes were played."""
    peers = torch.arange(int(notes.peers[performance])) + notes.first_peer[performance]
    cut = notes.cut(peers, torch.full((len(peers),), start), window)
    return cut.x0_BN5.numpy(), cut.matched_BN.numpy()


def correlations(bench: Bench, drawn: np.ndarray) -> Iterator[np.ndarray]:
    """For each window: (2, 5) mean Pearson to its human performances of single samples, and of the samples' mean."""
    for w, (humans, played) in enumerate(bench.humans):
        found = []
        for played_by, heard in zip(humans, played, strict=True):
            if heard.sum() < 10:
                continue
            human = played_by[heard]
            singles = np.mean([pearson(each[w][heard], human) for each in drawn], axis=0)
            found.append([singles, pearson(drawn[:, w].mean(axis=0)[heard], human)])
        yield np.nanmean(found, axis=0) if found else np.full((2, 5), np.nan)


def pearson(ours: np.ndarray, human: np.ndarray) -> np.ndarray:
    """(5,) correlation of columns: of a constant one of ours 0, with a constant human's NaN."""
    return np.array([judged_correlation(*columns) for columns in zip(ours.T, human.T, strict=True)])


def wasserstein(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(W, 5): W1 between the samples (S, W, N, 5) of each note, mean over notes."""
    return np.abs(np.sort(one, axis=0) - np.sort(other, axis=0)).mean(axis=(0, 2))


def energy(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(W,) energy distance between two sets of whole windows (S, W, N, 5), by its unbiased estimate."""
    count = len(one)

    def mean_distance(a: np.ndarray, b: np.ndarray, pairs: int) -> np.ndarray:
        distances = [np.sqrt(((x - y) ** 2).mean(axis=(1, 2))) for x in a for y in b]
        return np.sum(distances, axis=0) / pairs

    within = mean_distance(one, one, count * (count - 1)) + mean_distance(other, other, count * (count - 1))
    return 2 * mean_distance(one, other, count * count) - within


def interval(values: np.ndarray) -> list[list[float]]:
    """Mean, low and high (each of the shape of a row) of (W, ...) by bootstrap over windows."""
    return np.apply_along_axis(lambda column: np.array(bootstrap_mean(column, seed=0)), 0, values).tolist()


def measured(bench: Bench, drawn: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Every figure with its interval."""
    r = np.stack(list(correlations(bench, drawn)))
    return {
        "mean": interval(drawn.mean(axis=(0, 2))),
        "mean off by": interval(np.abs(drawn.mean(axis=(0, 2)) - reference.mean(axis=(0, 2)))),
        "sd": interval(drawn.std(axis=2).mean(axis=0)),
        "sd to ddpm": interval(drawn.std(axis=2).mean(axis=0) / reference.std(axis=2).mean(axis=0)),
        "W1": interval(wasserstein(drawn, reference)),
        "energy": interval(energy(drawn, reference)),
        "r single": interval(r[:, 0]),
        "r mean": interval(r[:, 1]),
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    """Markdown tables: means over the columns tempo and velocity that matter most, then all columns."""
    print(f"| setting | s | energy | {' | '.join(f'{c} sd/ddpm' for c in CODEC_COLUMNS)} |")
    print("|---" * (3 + len(CODEC_COLUMNS)) + "|")
    for name, result in results.items():
        low, high = result["energy"][1], result["energy"][2]
        energy_told = f"{result['energy'][0]:.4f} ({low:.4f} to {high:.4f})"
        ratios = " | ".join(f"{m:.2f} ({a:.2f} to {b:.2f})" for m, a, b in zip(*result["sd to ddpm"], strict=True))
        print(f"| {name} | {result['seconds']:.0f} | {energy_told} | {ratios} |")
    for figure in ("mean", "sd", "W1", "r single", "r mean"):
        print(f"\n| {figure} | {' | '.join(CODEC_COLUMNS)} |\n" + "|---" * (1 + len(CODEC_COLUMNS)) + "|")
        for name, result in results.items():
            cells = [f"{m:.3f} ({a:.3f} to {b:.3f})" for m, a, b in zip(*result[figure], strict=True)]
            print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--store")
    source.add_argument("--arrays", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=default_checkpoint())
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--reference", type=int, default=1000, help="steps of DDPM")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--guidance", type=float, default=Sampling.guidance)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bench = Bench(arguments)
    print(f"{len(bench.humans)} windows, {arguments.samples} samples each, guidance {arguments.guidance}")
    reference = bench.draw(Setting("ddpm", arguments.reference, seed=1))  # the others start from other noise
    settings = [Setting("ddpm", arguments.reference)]
    settings += [Setting(sampler, steps) for sampler in SAMPLERS for steps in arguments.steps]
    results = {}
    for setting in settings:
        began = time.perf_counter()
        drawn = bench.draw(setting)
        seconds = time.perf_counter() - began
        results[str(setting)] = {"seconds": seconds, **measured(bench, drawn, reference)}
        print(f"{setting}: {seconds:.1f} s", flush=True)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
