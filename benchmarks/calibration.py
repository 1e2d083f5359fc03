"""Whether a sampler is calibrated: the mean of many samples beside the conditional mean, on a fixed set of windows.

The mean of k samples of a calibrated sampler comes near the conditional mean as k grows, while each of them varies as
people do. ``--mean`` is a checkpoint of the same network trained to tell the codec directly (``denoiser.target=mean``).
Pearson correlations with every human performance of a window's notes; means over windows, intervals by bootstrap over
works.

    python benchmarks/calibration.py --store URL --checkpoint DIR --mean DIR [--windows 64] [--samples 64]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dexter_model.dataset.piece import Piece
from dexter_model.dataset.store import open_version
from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.expression.condition import condition_rows, score_condition, score_row_count, score_table
from dexter_model.expression.data import marked_period
from dexter_model.expression.plan import Sampling
from dexter_model.expression.sampling import load_denoiser, sample_windows
from dexter_model.metrics.comparison import judged_correlation
from dexter_model.metrics.contests import humans_of
from dexter_model.metrics.curves import series
from dexter_model.metrics.features import Written, log_ioi, times, written
from dexter_model.metrics.intervals import paired_difference
from dexter_model.training.checkpoint import load_checkpoint

COLUMNS = ("velocity", "log_ioi", "timing", "articulation", "pedal")
BATCH = 16  # windows sampled together


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A window of a piece: the piece, its first note, its notes."""

    piece: Piece
    rows: slice


def excerpts(store: str, window: int, count: int) -> list[Excerpt]:
    """``count`` full windows, evenly over all windows that lie side by side in the pieces of the test split."""
    found = [
        Excerpt(piece, slice(start, start + window))
        for piece in open_version(store).pieces("test")
        for start in range(0, len(piece.score) - window + 1, window)
    ]
    return [found[k * len(found) // count] for k in range(min(count, len(found)))]


@torch.inference_mode()
def performed(path: str, windows: list[Excerpt], samples: int, steps: int, guidance: float) -> np.ndarray:
    """(windows, samples, N, 5) codecs, tempo in log2 s a beat; of a model of the mean one sample says all."""
    model, config, statistics = load_denoiser(load_checkpoint(path))
    settings, schedule = config.denoiser, noise_schedule(config.diffusion)
    samples = 1 if settings.target == "mean" else samples
    generator = torch.Generator().manual_seed(13)
    codecs = []
    for number, excerpt in enumerate(windows):
        table = torch.from_numpy(score_table(excerpt.piece.score, settings.condition)[excerpt.rows])[None]
        mask = torch.ones(table.shape[:2], dtype=torch.bool)
        row_count = condition_rows(settings) - score_row_count(settings.condition)
        unknown = torch.full((*table.shape[:2], row_count), torch.nan)
        condition = torch.cat([score_condition(table, mask, settings.condition), unknown], dim=-1)
        noise = torch.randn((samples, table.shape[1], 5), generator=generator)
        drawn = [
            sample_windows(
                model,
                condition.expand(len(part), -1, -1),
                mask.expand(len(part), -1),
                part,
                schedule=schedule,
                steps=1 if settings.target == "mean" else steps,
                guidance=guidance,
                sampler=Sampling().sampler,
            )
            for part in noise.split(BATCH)
        ]
        level = statistics.expected_level(torch.tensor(marked_period(excerpt.piece.score)))
        codec = statistics.restore(torch.cat(drawn), float(level)).numpy()
        codec[..., 0] = np.log2(codec[..., 0])
        codecs.append(codec)
        print(f"\r{path}: {number + 1} of {len(windows)} windows", end="", flush=True)
    print()
    return np.stack(codecs)


def correlations(codec: np.ndarray, excerpt: Excerpt) -> np.ndarray:
    """(columns,) mean Pearson correlation of one codec (N, 5) with every human, as evaluations judge it.

    A constant prediction counts as 0, a constant human not at all.
    """
    humans, _ = humans_of(excerpt.piece)
    score, counts = written(excerpt.piece.score[excerpt.rows]), humans.counts[:, excerpt.rows]
    played = np.concatenate([np.exp2(codec[:, :1]), codec[:, 1:]], axis=1)
    ours, theirs = (_series(each, counts, score) for each in (played, humans.codec[:, excerpt.rows]))
    found = [[judged_correlation(ours[c][human], theirs[c][human]) for c in COLUMNS] for human in range(len(counts))]
    return np.nanmean(found, axis=0)


def _series(codec: np.ndarray, counts: np.ndarray, score: Written) -> dict[str, np.ndarray]:
    codec = np.broadcast_to(codec, (*counts.shape, 5)).astype(float)
    onset_sec = times(codec, score).onset
    return series(codec, counts, score.starts) | {"log_ioi": log_ioi(onset_sec, counts, score)}


def main() -> None:
    """Print one row a system, and the ratio of the mean of samples to the conditional mean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--mean", required=True)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--steps", type=int, default=Sampling().steps)
    parser.add_argument("--guidance", type=float, default=Sampling().guidance)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    window = load_checkpoint(options.checkpoint).config["denoiser"]["window"]
    chosen = excerpts(options.store, window, options.windows)
    drawn = performed(options.checkpoint, chosen, options.samples, options.steps, options.guidance)
    expected = performed(options.mean, chosen, 1, 1, 1.0)[:, 0]
    rows = {
        "one sample": [correlations(codec[0], excerpt) for codec, excerpt in zip(drawn, chosen, strict=True)],
        **{
            f"mean of {k}": [correlations(codec[:k].mean(axis=0), e) for codec, e in zip(drawn, chosen, strict=True)]
            for k in (8, options.samples)
        },
        "conditional mean": [correlations(codec, excerpt) for codec, excerpt in zip(expected, chosen, strict=True)],
    }
    report(rows, chosen, options.samples, options.json)


def report(rows: dict[str, list[np.ndarray]], chosen: list[Excerpt], samples: int, out: Path | None) -> None:
    """The table as markdown, and the last line: the share of the conditional mean that the mean of samples reaches."""
    units = {str(k): excerpt.piece.work for k, excerpt in enumerate(chosen)}
    print(f"{len(chosen)} windows of {len(set(units.values()))} works\n\n| | {' | '.join(COLUMNS)} |")
    print(f"|---|{'---|' * len(COLUMNS)}")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in np.mean(values, axis=0)) + " |")
    ours, theirs = np.array(rows[f"mean of {samples}"]), np.array(rows["conditional mean"])
    shares = dict(zip(COLUMNS, (ours.mean(axis=0) / theirs.mean(axis=0)).tolist(), strict=True))
    print(f"| share | {' | '.join(f'{share:.3f}' for share in shares.values())} |")
    for column in ("velocity", "log_ioi"):
        k = COLUMNS.index(column)
        by_unit = [{str(n): float(row[k]) for n, row in enumerate(each)} for each in (ours, 0.9 * theirs)]
        mean, low, high = paired_difference(by_unit[0], by_unit[1], units, 13)
        print(f"{column}: mean of {samples} less 0.9 x conditional mean: {mean:.3f} [{low:.3f}, {high:.3f}]")
    if out is not None:
        out.write_text(json.dumps({name: np.mean(values, axis=0).tolist() for name, values in rows.items()} | shares))


if __name__ == "__main__":
    main()
