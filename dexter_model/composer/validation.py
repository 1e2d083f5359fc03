"""How a composer is validated: its loss on fixed segments at times spread evenly, told by feature and by time.

Shapes: B segments, H rows, N notes, 3 features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dexter_model.composer.config import ComposerConfig
from dexter_model.composer.data import Batch, ResidentSegments
from dexter_model.composer.generation import Composer
from dexter_model.composer.loss import errors, noise_errors, times_learnt
from dexter_model.composer.plan import REFERENCE, Composing
from dexter_model.composer.reconstruction import write_composition
from dexter_model.composer.scale import FEATURES, Statistics
from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.training.loop import Evaluation, Predict

BUCKETS = 10  # of times, that are told apart


class HeldOut:
    """Segments of the validation split at times and with noise that stay the same, and how well a model does there."""

    def __init__(
        self, segments: ResidentSegments, statistics: Statistics, config: ComposerConfig, device: torch.device | str
    ) -> None:
        count = min(config.training.validation_segments, len(segments))
        index = torch.linspace(0, len(segments) - 1, count).round().long()  # of all pieces
        batch = segments.batch(index)
        values = statistics.normalise(batch.values_BHN3, config.data)
        self.batch = Batch(values.to(device), batch.program_BH.to(device), batch.active_BH.to(device))
        generator = torch.Generator().manual_seed(config.training.seed)
        self.noise_BHN3 = torch.randn(values.shape, generator=generator).to(device)
        spread = (torch.arange(count) + 0.5) / count * times_learnt(config)
        self.t_B = spread.long()[torch.randperm(count, generator=generator)].to(device)
        self.schedule, self.config = noise_schedule(config.diffusion).to(device), config
        self.statistics = statistics
        self.errors_B3 = torch.zeros(count, len(FEATURES))

    def loss(self, network: Predict) -> Tensor:
        """The loss on all of them, in as large batches as training has."""
        parts = torch.arange(len(self.t_B), device=self.t_B.device).split(self.config.training.batch_size)
        found = []
        for part in parts:
            batch = Batch(*(each[part] for each in self.batch))
            found.append(errors(network, batch, self.schedule, self.config, self.t_B[part], self.noise_BHN3[part]))
        self.errors_B3 = torch.cat(found).cpu()
        return self.errors_B3.mean()

    def evaluate(self, model: nn.Module, folder: Path) -> Evaluation:
        """The last loss as errors of the noise; pieces go to the folder as ``sample_1.mid`` and so on."""
        noise_B3 = noise_errors(self.errors_B3, self.schedule.alpha_bar_T[self.t_B].cpu(), self.config)
        told = {f"noise/{name}": float(e) for name, e in zip(FEATURES, noise_B3.mean(dim=0), strict=True)}
        width = -(-self.config.diffusion.steps // BUCKETS)
        bucket_B = self.t_B.cpu() // width
        for bucket in bucket_B.unique().tolist():
            name = f"noise/t_{bucket * width:04}_{(bucket + 1) * width - 1:04}"
            told[name] = float(noise_B3[bucket_B == bucket].mean())
        self._compose(model, folder)
        return Evaluation(float(self.errors_B3.mean()), told)

    def _compose(self, model: nn.Module, folder: Path) -> None:
        count = self.config.training.samples
        if not count:
            return
        how = REFERENCE if self.config.data.extraction == "reference" else Composing()
        most = int(self.batch.active_BH.sum(dim=1).argmax())  # the instruments of the fullest segment
        programs = tuple(self.batch.program_BH[most][self.batch.active_BH[most]].tolist())
        how = replace(how, programs=programs, steps=min(how.steps, self.config.diffusion.steps))
        composer = Composer(model, self.config, self.statistics, how)
        for number, notes in enumerate(composer.compose(range(count)), 1):
            write_composition(notes, folder / f"sample_{number}.mid", composer.tempo)
