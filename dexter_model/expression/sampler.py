"""A model kept warm, and batches of windows denoised with it to the same bits wherever that happens.

The last bits of a convolution depend on the shape of its input and on the number of threads, and guided sampling
magnifies them (to 1e-3 of a standard deviation with an untrained network). So the network always sees the same number
of windows, in one thread: a batch is cut into slices, the last one filled up with copies, and cores are put to use by
working on several slices at a time, which is no slower. Whatever the batch size, the cores and the workers, a window
comes out with the same bits on machines of a kind. CPU and GPU differ in the last bits only, as a GPU multiplies in
whole float32 here, not in TF32.

Shapes: B windows of a batch, N notes of a window, R condition rows.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from dexter_model.diffusion.schedule import linear_schedule
from dexter_model.errors import InputError
from dexter_model.expression.condition import score_condition, score_table
from dexter_model.expression.rendering import GUIDANCE, STEPS, WindowBatch
from dexter_model.expression.sampling import load_denoiser, sample_windows
from dexter_model.training.checkpoint import Checkpoint

SLICE_ON_CPU, SLICE_ON_GPU = 2, 32  # windows the network sees at a time; more are not faster on a CPU


class WindowSampler:
    """Holds the denoiser of a checkpoint, on the GPU if there is one, and denoises batches with it."""

    def __init__(self, checkpoint: Checkpoint, steps: int = STEPS, guidance: float = GUIDANCE) -> None:
        """Raises ``InputError`` (``checkpoint_unreadable``) when the weights do not fit the checkpoint's settings."""
        model, config, self.statistics = load_denoiser(checkpoint)
        self.path, self.condition, self.window = checkpoint.path, config.denoiser.condition, config.denoiser.window
        self.steps, self.guidance = steps, guidance
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        diffusion = config.diffusion
        schedule = linear_schedule(diffusion.steps, diffusion.beta_start, diffusion.beta_end)
        self.schedule = schedule.to(self.device)

    def run(self, batch: WindowBatch) -> np.ndarray:
        """Denoise a batch.

        Returns:
            (B, N, 5) float32 in codec units; padding holds the means.

        Raises:
            InputError: the model gives something else than numbers (``checkpoint_unusable``).
        """
        windows = len(batch.mask_BN)
        size, threads = (SLICE_ON_CPU, torch.get_num_threads()) if self.device.type == "cpu" else (SLICE_ON_GPU, 1)
        slices = [np.arange(first, first + size).clip(max=windows - 1) for first in range(0, windows, size)]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            codec_BN5 = np.concatenate(list(pool.map(lambda rows: self._denoise(batch, rows), slices)))[:windows]
        if not np.isfinite(codec_BN5).all():
            reason = "its model gives values that are not numbers"
            raise InputError(self.path, reason, "Train it again, with a smaller learning rate", "checkpoint_unusable")
        return codec_BN5

    def _denoise(self, batch: WindowBatch, rows: np.ndarray) -> np.ndarray:
        tables = np.stack([score_table(notes, self.condition) for notes in batch.notes_BN[rows]])
        arrays = (tables, batch.mask_BN[rows], batch.noise_BN5[rows])
        table_BNR, mask_BN, noise_BN5 = (torch.from_numpy(array).to(self.device) for array in arrays)
        z_BN5 = sample_windows(
            self.model,
            score_condition(table_BNR, mask_BN),
            mask_BN,
            noise_BN5,
            schedule=self.schedule,
            steps=self.steps,
            guidance=self.guidance,
        )
        return self.statistics.restore(z_BN5).cpu().numpy()
