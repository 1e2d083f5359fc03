"""A model kept warm, and pieces denoised with it to the same bits wherever that happens.

A piece is sampled as a whole: at every step windows are cut from it, the network tells the clean codec of each, these
are joined, and the step is taken on the piece (``diffusion.joining``).

The last bits of a convolution depend on the shape of its input and on the number of threads, and guided sampling
magnifies them (to 1e-3 of a standard deviation with an untrained network). So the network always sees the same number
of windows, in one thread: the windows of a batch are cut into slices, the last one filled up with copies, and cores are
put to use by working on several slices at a time, which is no slower. Whatever the batch size, the cores and the
workers, a piece comes out with the same bits on machines of a kind. CPU and GPU differ in the last bits only, as a GPU
multiplies in whole float32 here, not in TF32.

Shapes: M notes of all pieces of a batch, n of one of them, W windows, N notes of a window, R condition rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dexter_model.diffusion.joining import Collage
from dexter_model.diffusion.sampling import OnStep, evaluation_times, sample
from dexter_model.diffusion.schedule import add_noise, noise_schedule
from dexter_model.errors import InputError
from dexter_model.expression.condition import score_condition, score_table
from dexter_model.expression.data import marked_period, own_level
from dexter_model.expression.plan import Render, Sampling, last_time, refuse_unfit, window_overlap
from dexter_model.expression.sampling import clean_windows, load_denoiser
from dexter_model.perceptual.features import unknown_values
from dexter_model.threads import one_thread
from dexter_model.training.checkpoint import Checkpoint

SLICE_ON_CPU, SLICE_ON_GPU = 2, 32  # windows the network sees at a time; more are not faster on a CPU


class PieceSampler:
    """Holds the denoiser of a checkpoint, on the GPU if there is one, and samples pieces with it."""

    def __init__(self, checkpoint: Checkpoint, sampling: Sampling | None = None) -> None:
        """Take a checkpoint up.

        Raises:
            InputError: the weights do not fit its settings (``checkpoint_unreadable``), or the model cannot be sampled
                in this way (``option_invalid``).
        """
        model, self.config, self.statistics = load_denoiser(checkpoint)
        self.path, self.sampling = checkpoint.path, sampling or Sampling()
        refuse_unfit(self.sampling, self.config)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.schedule = noise_schedule(self.config.diffusion)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    @torch.inference_mode()
    def run(self, renders: Sequence[Render], on_step: OnStep | None = None) -> list[np.ndarray]:
        """Sample a batch of renders.

        Args:
            renders: what to make; all of them start from performances, or none.
            on_step: called with t, x_t and the implied x_0, both (M, 5), at every evaluation.

        Returns:
            The codec of each, (n, 5) float32.

        Raises:
            InputError: the model gives something else than numbers (``checkpoint_unusable``), or was trained to start
                from performances and is given none (``source_missing``).
        """
        notes, window = [len(render.score.notes) for render in renders], self.config.denoiser.window
        collage = Collage.of(notes, window, window_overlap(window)).to(self.device)
        condition_WNR = self._condition(renders, collage)

        def draw(step: int) -> Tensor:
            return torch.from_numpy(np.concatenate([render.noise(step) for render in renders])).to(self.device)

        x_M5, times = self._start(renders, draw)
        how: dict[str, Any] = {"sampler": self.sampling.sampler, "eta": self.sampling.eta, "on_step": on_step}
        with self._evaluation(condition_WNR) as evaluate:
            z_M5 = sample(
                lambda x, t: collage.join(evaluate(collage.cut(x), t)), x_M5, self.schedule, times, draw=draw, **how
            )
        if not z_M5.isfinite().all():
            reason = "its model gives values that are not numbers"
            raise InputError(self.path, reason, "Train it again, with a smaller learning rate", "checkpoint_unusable")
        return [self.codec(z_n5, render) for z_n5, render in zip(z_M5.split(notes), renders, strict=True)]

    def codec(self, z_n5: Tensor, render: Render) -> np.ndarray:
        """z-scores (n, 5) of a render as its codec, at the tempo of what it starts from or that the score asks for."""
        return self.statistics.restore(z_n5, self._level(render)).cpu().numpy()

    def _level(self, render: Render) -> float:
        if render.start is not None:
            played = slice(None) if render.start_played is None else render.start_played
            return own_level(torch.from_numpy(render.start[played]))
        return float(self.statistics.expected_level(torch.tensor(marked_period(render.score.notes))))

    def _start(self, renders: Sequence[Render], draw: Callable[[int], Tensor]) -> tuple[Tensor, list[int]]:
        """Where sampling starts, and at which times the model is asked: noise, or noised performances.

        A model trained for transfer starts from the performances themselves: they were its noise.
        """
        schedule, sampler = self.schedule, self.sampling.sampler
        steps = self.sampling.steps if self.config.denoiser.target != "mean" else 1  # it says the same at all times
        begun = [
            self.statistics.normalise(torch.from_numpy(render.start), self._level(render))
            for render in renders
            if render.start is not None
        ]
        transfer = self.config.training.train_target == "transfer"
        if transfer and not begun:
            reason, remedy = "was trained to start from another performance", "Name one with --source"
            raise InputError(self.path, reason, remedy, "source_missing")
        if not begun:
            return draw(0), evaluation_times(schedule, sampler, steps)
        limit = self.statistics.limit
        z_M5 = torch.cat(begun).clamp(-limit, limit).to(self.device)
        if transfer:
            return z_M5, evaluation_times(schedule, sampler, steps)
        left = schedule.until(last_time(self.sampling, self.config))
        times = evaluation_times(left, sampler, min(steps, len(left)))
        return add_noise(z_M5, draw(0), left.alpha_bar_T[-1]), times

    def _condition(self, renders: Sequence[Render], collage: Collage) -> Tensor:
        """(W, N, R): score rows of the windows, and perceptual rows for a model that has them."""
        condition = self.config.denoiser.condition
        table_MS = torch.from_numpy(np.concatenate([score_table(r.score.notes, condition) for r in renders]))
        score_WNS = score_condition(collage.cut(table_MS.to(self.device)), collage.mask_WN, condition)
        if self.config.denoiser.perceptual == "none":
            return score_WNS
        rows = [unknown_values(len(r.score.notes)) if r.perceptual is None else r.perceptual for r in renders]
        heard_M7 = torch.from_numpy(np.concatenate(rows)).to(self.device)
        return torch.cat([score_WNS, collage.cut(heard_M7)], dim=-1)

    @contextmanager
    def _evaluation(self, condition_WNR: Tensor) -> Iterator[Callable[[Tensor, int], Tensor]]:
        """A function of x_t and t to x_0, (W, N, 5), that shows the network slices of one size."""
        windows = len(condition_WNR)
        size, threads = (SLICE_ON_CPU, torch.get_num_threads()) if self.device.type == "cpu" else (SLICE_ON_GPU, 1)
        slices = [torch.arange(first, first + size).clamp_max(windows - 1) for first in range(0, windows, size)]
        conditions = [condition_WNR[rows] for rows in slices]

        def evaluate(x_WN5: Tensor, t: int) -> Tensor:
            def clean(rows: Tensor, condition: Tensor) -> Tensor:
                return clean_windows(self.model, x_WN5[rows], t, condition, self.schedule, self.sampling.guidance)

            return torch.cat(list(pool.map(clean, slices, conditions)))[:windows]

        # Joining takes microseconds, and waking up a second core for it, where others use that too, milliseconds.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool, one_thread():
            yield evaluate
