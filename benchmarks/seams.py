"""What joins of windows do to tempo and velocity: windows faded at the end and windows joined at every step.

Pieces of a data set's test split, each longer than two windows. As published, windows have noise of their own; here all
see slices of the piece's. A change at a note is how much tempo (log2 of the beat period) or velocity over the ten notes
from it on differ from the ten before it, in standard deviations of the render. Music changes by itself, so changes at
joins are set beside the changes at the same notes in the other renders of the piece, whose joins lie elsewhere: the
ratio is 1 where a join cannot be told. Intervals: 95 %, bootstrap over pieces.

    python benchmarks/seams.py --store STORE [--checkpoint DIR] [--pieces 16] [--notes 1200] [--steps 20]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dexter_model.dataset.store import open_version
from dexter_model.diffusion.joining import Collage, window_starts
from dexter_model.diffusion.sampling import sample
from dexter_model.diffusion.schedule import noise_schedule, sampling_times
from dexter_model.expression.condition import score_condition, score_table
from dexter_model.expression.plan import Render, Sampling, score_digest
from dexter_model.expression.rendering import default_checkpoint
from dexter_model.expression.sampling import clean_windows, load_denoiser, sample_windows
from dexter_model.notes import Score
from dexter_model.training.checkpoint import load_checkpoint

PUBLISHED, FADED, JOINED = "faded at the end, noise of their own", "faded at the end", "joined at every step"
Layout = tuple[str, int]  # how windows become a piece, and how many notes neighbours share at least
SIDE = 10  # notes on either side of a change
COLUMNS = {"tempo": 0, "velocity": 1}


class Seams:
    """A checkpoint and pieces to render with it in ways that differ in their windows alone."""

    def __init__(self, checkpoint: Path, scores: list[Score], steps: int) -> None:
        self.model, self.config, self.statistics = load_denoiser(load_checkpoint(checkpoint))
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.device = next(self.model.parameters()).device
        self.schedule, self.scores = noise_schedule(self.config.diffusion), scores
        self.times, self.guidance = sampling_times(len(self.schedule), steps), Sampling.guidance

    @torch.inference_mode()
    def render(self, score: Score, how: str, overlap: int) -> np.ndarray:
        """(n, 5) codec with the beat period in log2 s."""
        collage = Collage.of([len(score.notes)], self.config.denoiser.window, overlap).to(self.device)
        kind = self.config.denoiser.condition
        table = torch.from_numpy(score_table(score.notes, kind)).to(self.device)
        condition = score_condition(collage.cut(table), collage.mask_WN, kind)
        if self.config.denoiser.perceptual != "none":
            unknown = torch.full((*condition.shape[:2], 7), torch.nan, device=self.device)
            condition = torch.cat([condition, unknown], dim=-1)
        noise = torch.from_numpy(Render(score, score_digest(score)).noise()).to(self.device)

        def denoise(x: Tensor, t: int) -> Tensor:
            clean = clean_windows(self.model, collage.cut(x), t, condition, self.schedule, self.guidance)
            return collage.join(clean)

        if how == JOINED:
            z = sample(denoise, noise, self.schedule, self.times)
        else:
            own = torch.randn(*collage.mask_WN.shape, 5, generator=torch.Generator().manual_seed(0)).to(self.device)
            windows = own if how == PUBLISHED else collage.cut(noise)
            settings = {"schedule": self.schedule, "steps": len(self.times), "guidance": self.guidance}
            z = collage.join(sample_windows(self.model, condition, collage.mask_WN, windows, **settings))
        codec = self.statistics.restore(z).cpu().numpy()
        codec[:, 0] = np.log2(np.clip(codec[:, 0], 60 / 480, 60 / 15))
        return codec

    def seams(self, score: Score, overlap: int) -> np.ndarray:
        """The notes at which windows of a layout give way to one another."""
        window = self.config.denoiser.window
        starts = window_starts(len(score.notes), window, overlap)
        return (starts[:-1] + window + starts[1:]) // 2


def compared(seams: Seams, layouts: list[Layout]) -> dict[Layout, dict[str, np.ndarray]]:
    """For each layout and column: (pieces, 2) mean change at its joins, and there in layouts without a join near."""
    found: dict[Layout, dict[str, list[list[float]]]] = {}
    for score in seams.scores:
        joins = {layout: seams.seams(score, layout[1]) for layout in layouts}
        codecs = {layout: seams.render(score, *layout) for layout in layouts}
        for name, column in COLUMNS.items():
            change = {layout: changes(codec[:, column]) for layout, codec in codecs.items()}
            for layout in layouts:
                here, elsewhere = [], []
                for join in joins[layout]:
                    others = [change[other][join] for other in layouts if np.abs(joins[other] - join).min() > 2 * SIDE]
                    if others:
                        here.append(change[layout][join])
                        elsewhere.append(np.mean(others))
                if here:
                    row = [float(np.mean(here)), float(np.mean(elsewhere))]
                    found.setdefault(layout, {}).setdefault(name, []).append(row)
    return {layout: {name: np.array(rows) for name, rows in each.items()} for layout, each in found.items()}


def changes(curve: np.ndarray) -> np.ndarray:
    """(n + 1,) |mean of the notes from k on - mean of those before| over the curve's deviation; NaN at the ends."""
    total = np.concatenate([[0.0], np.cumsum(curve)])
    found = np.full(len(curve) + 1, np.nan)
    middle = np.arange(SIDE, len(curve) - SIDE + 1)
    after, before = total[middle + SIDE] - total[middle], total[middle] - total[middle - SIDE]
    found[middle] = np.abs(after - before) / SIDE / curve.std()
    return found


def told(pairs: np.ndarray) -> str:
    """Change at joins, there without one, and the ratio with its interval."""
    draws = np.random.default_rng(0).integers(len(pairs), size=(2000, len(pairs)))
    joins, elsewhere = pairs[draws].mean(axis=1).T
    low, high = np.quantile(joins / elsewhere, [0.025, 0.975])
    at, other = pairs.mean(axis=0)
    return f"{at:.3f} | {other:.3f} | {at / other:.2f} ({low:.2f} to {high:.2f})"


def long_scores(store: str, pieces: int, notes: int, window: int) -> list[Score]:
    """Beginnings of pieces of the test split."""
    scores = []
    for piece in open_version(store).pieces("test"):
        if len(piece.score) > 2 * window and len(scores) < pieces:
            scores.append(Score(piece.note_id[:notes], piece.score[:notes]))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--checkpoint", type=Path, default=default_checkpoint())
    parser.add_argument("--pieces", type=int, default=16)
    parser.add_argument("--notes", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    window = load_denoiser(load_checkpoint(arguments.checkpoint))[1].denoiser.window
    scores = long_scores(arguments.store, arguments.pieces, arguments.notes, window)
    seams = Seams(arguments.checkpoint, scores, arguments.steps)
    layouts = [(PUBLISHED, window // 20), (FADED, window // 20), *((JOINED, window // share) for share in (20, 4, 2))]
    print(f"{len(scores)} pieces, {sum(len(score.notes) for score in scores):,} notes, {arguments.steps} steps of DDIM")
    print("| windows | overlap | column | change at joins | there without one | ratio |\n|---|---|---|---|---|---|")
    for (how, overlap), columns in compared(seams, layouts).items():
        for name, pairs in columns.items():
            print(f"| {how} | {overlap} | {name} | {told(pairs)} |", flush=True)


if __name__ == "__main__":
    main()
