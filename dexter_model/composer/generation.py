"""Pieces from noise, by a checkpoint: batched, each from a seed of its own.

The network always sees the same number of segments, so a piece comes out with the same bits whatever is composed
beside it and however large batches are, on machines of a kind (as ``expression.sampler``).

Shapes: B pieces, H rows, N notes, 3 features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from dexter_model.composer.config import ComposerConfig
from dexter_model.composer.network import ComposerUnet
from dexter_model.composer.plan import SEED, Composing, must, noise_of
from dexter_model.composer.reconstruction import played
from dexter_model.composer.scale import FEATURES, FREQUENCIES, Statistics
from dexter_model.diffusion.sampling import evaluation_times, sample
from dexter_model.diffusion.schedule import clean_sample, noise_schedule
from dexter_model.errors import InputError
from dexter_model.threads import one_thread
from dexter_model.training.checkpoint import Checkpoint, load_weights, unreadable

SLICE_ON_CPU, SLICE_ON_GPU = 4, 64  # segments the network sees at a time


def load_composer(checkpoint: Checkpoint) -> tuple[ComposerUnet, ComposerConfig, Statistics]:
    """The network of a checkpoint in evaluation mode on the CPU, its settings and its statistics.

    Raises:
        InputError: settings, statistics or weights do not fit (``checkpoint_unreadable``).
    """
    try:
        config = ComposerConfig.from_dict(checkpoint.config)
        statistics = Statistics.from_dict(checkpoint.statistics)
    except InputError as error:
        raise unreadable(checkpoint.path, f"has settings out of bounds ({error.path}: {error.reason})") from None
    except ValueError as error:
        raise unreadable(checkpoint.path, str(error)) from None
    with torch.device("meta"):
        model = ComposerUnet(config.network, config.data)
    load_weights(model, checkpoint)
    return model.eval(), config, statistics


class Composer:
    """Composes with a network, on the device where it is."""

    def __init__(
        self,
        model: nn.Module,
        config: ComposerConfig,
        statistics: Statistics,
        settings: Composing,
        seed: int = SEED,
        name: object = "",
    ) -> None:
        """Take a network up, in evaluation mode; ``name`` is what errors call it.

        Raises:
            InputError: the settings do not fit it (``option_invalid``).
        """
        self.model, self.config, self.statistics = model, config, statistics
        self.settings, self.seed, self.name = settings, seed, name
        most, rows = config.diffusion.steps, config.data.rows
        must(settings.steps <= most, "steps", "is more than the model's diffusion has", f"Give at most {most}")
        must(len(settings.programs) <= rows, "programs", f"are more than the model's rows ({rows})", "Give fewer")
        self.tempo = settings.tempo if config.data.clock == "beats" else 60.0  # beats a minute, of files too
        self.device = next(model.parameters()).device
        self.schedule = noise_schedule(config.diffusion)

    @classmethod
    def of(cls, checkpoint: Checkpoint, settings: Composing | None = None, seed: int = SEED) -> Composer:
        """Take a checkpoint up, on the GPU if there is one, with whole float32.

        Raises:
            InputError: it is none of a composer (``checkpoint_unreadable``), or as above.
        """
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        model, config, statistics = load_composer(checkpoint)
        model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model, config, statistics, settings or Composing(), seed, checkpoint.path)

    @torch.inference_mode()
    def compose(self, pieces: Sequence[int]) -> list[np.ndarray]:
        """The notes (n,) RECORDED_NOTE of pieces, by their numbers; sorted by onset.

        Raises:
            InputError: the model gives something else than numbers (``checkpoint_unusable``).
        """
        settings, data = self.settings, self.config.data
        shape = (data.rows, data.notes, len(FEATURES))

        def draw(step: int) -> Tensor:
            drawn = np.stack([noise_of(self.seed, piece, step, shape) for piece in pieces])
            return torch.from_numpy(drawn).to(self.device)

        times = evaluation_times(self.schedule, settings.sampler, settings.steps)
        with self._evaluation(len(pieces)) as denoise:
            x_BHN3 = sample(
                denoise, draw(0), self.schedule, times, sampler=settings.sampler, eta=settings.eta, draw=draw
            )
        if not x_BHN3[:, : len(settings.programs)].isfinite().all():
            reason = "its model gives values that are not numbers"
            raise InputError(self.name, reason, "Train it again, with a smaller learning rate", "checkpoint_unusable")
        return [self.notes(numbers) for numbers in x_BHN3.cpu().numpy()]

    def notes(self, numbers_HN3: np.ndarray) -> np.ndarray:
        """Numbers of unit size as notes (n,) RECORDED_NOTE, sorted by onset."""
        settings, data = self.settings, self.config.data
        values = self.statistics.restore(numbers_HN3, data)
        values[..., 0] = values[..., 0].clip(FREQUENCIES[settings.lowest], FREQUENCIES[settings.highest])
        shortest = None if settings.faithful else data.shortest
        rows = [played(values[r], r, program, self.tempo, shortest) for r, program in enumerate(settings.programs)]
        notes = np.concatenate(rows)
        return notes[np.argsort(notes["onset_sec"], kind="stable")]

    @contextmanager
    def _evaluation(self, pieces: int) -> Iterator[Callable[[Tensor, int], Tensor]]:
        """A function of x_t and t to x_0, (B, H, N, 3), that shows the network slices of one size."""
        size, threads = (SLICE_ON_CPU, torch.get_num_threads()) if self.device.type == "cpu" else (SLICE_ON_GPU, 1)
        slices = [torch.arange(first, first + size).clamp_max(pieces - 1) for first in range(0, pieces, size)]

        def evaluate(x_BHN3: Tensor, t: int) -> Tensor:
            return torch.cat(list(pool.map(lambda rows: self._clean(x_BHN3[rows], t), slices)))[:pieces]

        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool, one_thread():
            yield evaluate

    @torch.inference_mode()
    def _clean(self, x_BHN3: Tensor, t: int) -> Tensor:
        """The clean segments that the model implies for noisy ones at time t, within what it learnt."""
        batch, rows = x_BHN3.shape[:2]
        programs = torch.tensor([*self.settings.programs, *[0] * (rows - len(self.settings.programs))])
        awake = (torch.arange(rows) < len(self.settings.programs)).to(self.device)
        x_BHN3 = x_BHN3 * awake[:, None, None]
        t_B = torch.full((batch,), t, device=self.device)
        output = self.model(x_BHN3, t_B, programs.to(self.device).expand(batch, -1), awake.expand(batch, -1))
        clean = clean_sample(x_BHN3, output, self.schedule.alpha_bar_T[t], self.config.network.target)
        if self.settings.faithful:
            return clean
        least, greatest = (clean.new_tensor(each) for each in self.statistics.bounds(self.config.data))
        return clean.clamp(least, greatest)
