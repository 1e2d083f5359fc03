"""A split as a few flat arrays on the training device, and batches of it cut by index.

Tokens are kept once for each stretch; transpositions, the first 512 events, and controls are made when a batch is cut.
So 35 examples an excerpt (70 where controls are optional) cost the memory of 5, at 2 bytes an event. Needs numpy and
torch alone; ``save`` and ``load`` carry a split to a machine that cannot open the store.

Shapes: N tokens of all sequences, K numbers of a token, S sequences, E examples, B of a batch, T tokens of the longest.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import PerformanceRnnConfig
from dexter_model.performance_rnn.controls import controls_of_events
from dexter_model.performance_rnn.encodings import PITCH, heads, token_steps
from dexter_model.performance_rnn.excerpts import SEMITONES, STRETCHES, excerpts
from dexter_model.performance_rnn.loss import NO_TOKEN, Batch
from dexter_model.performance_rnn.vocabulary import OFF, SHIFT, STEPS_PER_SECOND

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion

LENGTHS = (5, 10, 20, 30, 40, 60, 120)  # s, between sequences that are counted together
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ResidentEvents:
    """Flat arrays of a split: sequence s has ``length[s]`` tokens from ``start[s]`` on.

    ``lowest`` and ``highest`` are its pitches, ``stretch`` is the factor on its times; ``semitones`` are all
    transpositions that examples are made of.
    """

    tokens: Tensor  # (N, K) int16
    start: Tensor
    length: Tensor
    lowest: Tensor
    highest: Tensor
    stretch: Tensor
    semitones: Tensor

    @classmethod
    def of_performances(
        cls, performances: Iterable[np.ndarray], config: PerformanceRnnConfig, *, augmented: bool
    ) -> tuple[ResidentEvents, Counter[str]]:
        """A split's sequences, and how many excerpts were left out for which reason.

        Args:
            performances: notes of each, RECORDED_NOTE.
            config: how tokens tell notes, and the length of the shortest sequence.
            augmented: in five tempi and seven transpositions (training), or as played.
        """
        discarded: Counter[str] = Counter()
        found: list[np.ndarray] = []
        rows: list[tuple[int, int, float]] = []
        for notes in performances:
            for stretch in STRETCHES if augmented else (1.0,):
                for tokens in excerpts(notes, config.network, stretch, discarded):
                    if len(tokens) < config.training.fewest_events:
                        discarded["too short"] += 1
                        continue
                    pitch = _pitches(tokens)
                    found.append(tokens.astype(np.int16))
                    rows.append((int(pitch.min()), int(pitch.max()), stretch))
        length = np.array([len(tokens) for tokens in found], np.int64)
        low, high, stretches = np.array(rows, float).reshape(-1, 3).T
        width = len(heads(config.network))
        arrays = {
            "tokens": np.concatenate(found) if found else np.zeros((0, width), np.int16),
            "start": np.cumsum(length) - length,
            "length": length,
            "lowest": low.astype(np.int64),
            "highest": high.astype(np.int64),
            "stretch": stretches,
            "semitones": np.array(SEMITONES if augmented else (0,)),
        }
        return cls(**{name: torch.from_numpy(array) for name, array in arrays.items()}), discarded

    def save(self, path: str | Path) -> None:
        """Write everything to an ``.npz`` file."""
        np.savez(path, **{name: getattr(self, name).cpu().numpy() for name in _names()})

    @classmethod
    def load(cls, path: str | Path) -> ResidentEvents:
        """Read what ``save`` wrote.

        Raises:
            InputError: it is no such file (``arrays_unreadable``).
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{name: torch.from_numpy(arrays[name]) for name in _names()})
        except Exception as error:  # a damaged archive raises all sorts of errors
            raise InputError(path, f"is no split ({error})", "Save it again", "arrays_unreadable") from error

    def to(self, device: torch.device | str) -> ResidentEvents:
        """The same on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _names()})

    def examples(self, config: PerformanceRnnConfig) -> Examples:
        """All that training may be shown: sequences in every transposition that fits, with controls and without."""
        shape = (len(self.length), len(self.semitones), 1 + config.network.optional)
        index = torch.cartesian_prod(*(torch.arange(n, device=self.length.device) for n in shape)).reshape(-1, 3)
        sequence, semitones, disabled = index[:, 0], self.semitones[index[:, 1]], index[:, 2] > 0
        fits = (self.lowest[sequence] + semitones >= 0) & (self.highest[sequence] + semitones <= 127)
        return Examples(self, config, sequence[fits], semitones[fits], disabled[fits])


@dataclass(frozen=True, eq=False)
class Examples:
    """What batches are drawn from: sequence ``sequence[e]``, ``semitones[e]`` higher, its controls ``disabled[e]``."""

    events: ResidentEvents
    config: PerformanceRnnConfig
    sequence: Tensor
    semitones: Tensor
    disabled: Tensor

    def __len__(self) -> int:
        return len(self.sequence)

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Random examples; any excerpt of theirs, where the settings say so."""
        device = self.sequence.device
        which = torch.randint(len(self), (count,), generator=generator, device=device)
        spare = (self.events.length[self.sequence[which]] - self.config.training.most_events).clamp_min(0)
        uniform = torch.rand(count, generator=generator, device=device, dtype=torch.float64)
        anywhere = self.config.training.excerpt == "any"
        return self.cut(which, (uniform * (spare + 1)).long() if anywhere else torch.zeros_like(spare))

    def spread(self, limit: int) -> Examples:
        """At most so many of them, spread evenly; 0: all."""
        kept = min(limit or len(self), len(self))
        which = torch.arange(kept, device=self.sequence.device) * len(self) // max(kept, 1)
        return replace(
            self, sequence=self.sequence[which], semitones=self.semitones[which], disabled=self.disabled[which]
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All of them from their beginnings, in order; the last batch may be smaller."""
        for which in torch.arange(len(self), device=self.sequence.device).split(size):
            yield self.cut(which, torch.zeros_like(which))

    def cut(self, which_B: Tensor, offset_B: Tensor) -> Batch:
        """Examples by number, each from a token of its sequence on."""
        sequence = self.sequence[which_B]
        length = (self.events.length[sequence] - offset_B).clamp_max(self.config.training.most_events)
        place = torch.arange(int(length.max()), device=length.device)
        index = (self.events.start[sequence] + offset_B)[:, None] + place
        tokens = self.events.tokens[index.clamp_max(len(self.events.tokens) - 1)].long()
        tokens = _transposed(tokens, self.semitones[which_B][:, None])
        tokens = torch.where((place < length[:, None])[..., None], tokens, NO_TOKEN)
        return Batch(tokens, controls_of_events(tokens[..., 0], self.config.network, self.disabled[which_B]))


def refuse_unfit(opened: DatasetVersion, config: PerformanceRnnConfig) -> None:
    """Refuse a data set that holds no performances as played (``other_encoding``, ``other_reading``)."""
    opened.refuse_other_reading()


def resident_split(opened: DatasetVersion, split: str, config: PerformanceRnnConfig) -> ResidentEvents | None:
    """A split of a data set as resident arrays, that for training augmented; None when it has no pieces."""
    if opened.catalogue.filter(opened.catalogue["split"] == split).is_empty():
        return None
    performances = (recording.notes for recording in opened.recordings(split))
    events, discarded = ResidentEvents.of_performances(performances, config, augmented=split == "train")
    log.info("%s: %s", split, _told(events, discarded, config))
    return events


def _told(events: ResidentEvents, discarded: Counter[str], config: PerformanceRnnConfig) -> str:
    """Sequences, how many are shown a part of at a time, those left out, and how many last so many seconds."""
    sequences = np.split(events.tokens.numpy(), events.start.numpy()[1:]) if len(events.length) else []
    seconds = [token_steps(tokens).sum() / STEPS_PER_SECOND for tokens in sequences]
    longer = int((events.length > config.training.most_events).sum())
    parts = [f"{len(sequences)} sequences", f"{longer} of more than {config.training.most_events} events"]
    parts += [f"{count} {reason}" for reason, count in sorted(discarded.items())]
    bounds = [0, *LENGTHS, np.inf]
    counts = np.histogram(seconds, bounds)[0].tolist()
    lengths = ", ".join(f"{count} from {low} s on" for low, count in zip(bounds, counts, strict=False) if count)
    return ", ".join(parts) + (f"; long: {lengths}" if lengths else "")


def _transposed(tokens_BTK: Tensor, semitones_B1: Tensor) -> Tensor:
    if tokens_BTK.shape[-1] == 1:
        return tokens_BTK + torch.where(tokens_BTK < SHIFT, semitones_B1[..., None], 0)
    moved = tokens_BTK.clone()
    moved[..., PITCH] += semitones_B1
    return moved


def _pitches(tokens: np.ndarray) -> np.ndarray:
    return tokens[:, PITCH] if tokens.shape[1] > 1 else tokens[tokens < SHIFT] % OFF


def _names() -> list[str]:
    return [field.name for field in fields(ResidentEvents)]


Resident = ResidentEvents
