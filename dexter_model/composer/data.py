"""A split as segments on the training device, drawn by index.

Segments are kept as MIDI pitches and times, so that moving them by semitones or in tempo is arithmetic on a batch, and
made numbers of unit size when they are drawn. Needs numpy and torch alone; ``save`` and ``load`` carry a split to a
machine that cannot open the store.

Shapes: S segments, B of them in a batch, H rows (instruments), N notes, 3 features: pitch, duration, delta.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dexter_model.composer.config import PROGRAMS, ComposerConfig, DataConfig
from dexter_model.composer.plan import HIGHEST, LOWEST
from dexter_model.composer.scale import FEATURES, FREQUENCIES, Statistics, features
from dexter_model.errors import InputError
from dexter_model.training.config import settings_of

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion

ARRAYS = ("values", "program", "active", "piece")


class Batch(NamedTuple):
    """Segments (B, H, N, 3), programs (B, H) int64, and which rows hold notes (B, H) bool."""

    values_BHN3: Tensor
    program_BH: Tensor
    active_BH: Tensor


@dataclass(frozen=True, eq=False)
class ResidentSegments:
    """The segments of a split.

    Attributes:
        values: (S, H, N, 3) float32 pitch, duration, delta; 0 in rows without notes.
        program: (S, H) uint8 General MIDI programs, from 0.
        active: (S, H) bool: rows with notes.
        piece: (S,) int32, which of ``names`` a segment was cut from.
        names: pieces, with segments or without.
        left_out: what was not made into segments, counted (``extraction.segments``).
        config: how they were cut.
    """

    values: Tensor
    program: Tensor
    active: Tensor
    piece: Tensor
    names: tuple[str, ...]
    left_out: dict[str, int]
    config: DataConfig

    @classmethod
    def of(cls, pieces: Iterable[tuple[str, np.ndarray]], config: DataConfig) -> ResidentSegments:
        """Cut pieces, each a name and its notes (n,) RECORDED_NOTE, into segments."""
        from dexter_model.composer.extraction import segments

        shape = (0, config.rows, config.notes, len(FEATURES))
        values, program, active = (
            [np.zeros(shape, np.float32)],
            [np.zeros(shape[:2], np.uint8)],
            [np.zeros(shape[:2], bool)],
        )
        names, counts, left_out = [], [], Counter[str]()
        for name, notes in pieces:
            cut = segments(notes, config)
            values.append(cut.values)
            program.append(cut.program)
            active.append(cut.active)
            names.append(name)
            counts.append(len(cut.values))
            left_out += cut.left_out
        piece = np.repeat(np.arange(len(names), dtype=np.int32), counts)
        values_SHN3, program_SH, active_SH = (torch.from_numpy(np.concatenate(e)) for e in (values, program, active))
        piece_S = torch.from_numpy(piece)
        return cls(values_SHN3, program_SH, active_SH, piece_S, tuple(names), dict(left_out), config)

    def __len__(self) -> int:
        return len(self.values)

    def save(self, path: str | Path) -> None:
        """Write an .npz."""
        told = {"names": self.names, "left_out": self.left_out, "config": asdict(self.config)}
        arrays = {name: getattr(self, name).numpy() for name in ARRAYS}
        with open(path, "wb") as file:
            np.savez_compressed(file, told=np.array(json.dumps(told)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> ResidentSegments:
        """Read what ``save`` wrote.

        Raises:
            InputError: it is something else (``segments_unreadable``).
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                told = json.loads(str(file["told"]))
                values, program, active, piece = (torch.from_numpy(file[name]) for name in ARRAYS)
            config = settings_of(DataConfig, told["config"])
            loaded = cls(values, program, active, piece, tuple(told["names"]), dict(told["left_out"]), config)
            loaded._check()
            return loaded
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError) as error:
            reason = f"holds no segments ({type(error).__name__}: {error})"
            raise InputError(path, reason, "Save the split again", "segments_unreadable") from None

    def _check(self) -> None:
        """Refuse arrays that do not fit the settings and each other (``ValueError``), since they index tables."""
        rows = (len(self), self.config.rows)
        kinds = [(torch.float32, (*rows, self.config.notes, 3)), (torch.uint8, rows), (torch.bool, rows)]
        for name, kind in zip(ARRAYS, [*kinds, (torch.int32, rows[:1])], strict=True):
            array = getattr(self, name)
            if (array.dtype, tuple(array.shape)) != kind:
                raise ValueError(f"{name} are {array.dtype} {tuple(array.shape)}, not {kind[0]} {kind[1]}")
        pitch = self.values[..., 0]
        right = self.values.isfinite().all() and (self.values >= 0).all() and (pitch < len(FREQUENCIES)).all()
        right = right and (self.program < PROGRAMS).all() and ((self.piece >= 0) & (self.piece < len(self.names))).all()
        if not right:
            raise ValueError("some are no notes, programs or pieces")

    def to(self, device: torch.device | str) -> ResidentSegments:
        """The same on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ARRAYS})

    def statistics(self) -> Statistics:
        """What makes these segments numbers of unit size.

        Raises:
            InputError: there are none, or some feature is the same in all (``no_segments``).
        """
        if not len(self):
            told = ", ".join(f"{count} {name}" for name, count in self.left_out.items() if count) or "not a note"
            remedy = f"Give more or longer pieces, or other data.notes (now {self.config.notes}), data.programs"
            raise InputError("segments", f"are none; left out: {told}", remedy, "no_segments")
        found = features(self.values[self.active], self.config).reshape(-1, len(FEATURES)).cpu().numpy()
        least, greatest = found.min(axis=0), found.max(axis=0)
        low, high = np.quantile(found, [self.config.outliers, 1.0 - self.config.outliers], axis=0)
        if self.config.scale == "standard":
            low, high = found.mean(axis=0) - found.std(axis=0), found.mean(axis=0) + found.std(axis=0)
        low, high = np.where(high > low, low, least), np.where(high > low, high, greatest)
        if alike := [name for name, extent in zip(FEATURES, high - low, strict=True) if not extent > 0]:
            remedy = "Give pieces in which it varies: scales need an extent"
            raise InputError("segments", f"have one {' and one '.join(alike)} throughout", remedy, "no_segments")
        return Statistics(*(tuple(each.tolist()) for each in (low, high, least, greatest)))

    def draw(self, count: int, generator: torch.Generator, transpose: int = 0, stretch: float = 0.0) -> Batch:
        """A batch of random segments as they are, moved by up to so many semitones and by a share of their tempo."""
        device = self.values.device
        index = torch.randint(len(self), (count,), generator=generator, device=device)
        batch = self.batch(index)
        values = batch.values_BHN3
        if transpose:
            values = values + _moved(values, batch.active_BH, transpose, generator)
        if stretch:
            tempo = 1.0 + stretch * (2.0 * torch.rand(count, generator=generator, device=device) - 1.0)
            values = torch.cat([values[..., :1], values[..., 1:] * tempo[:, None, None, None]], dim=-1)
        return batch._replace(values_BHN3=values)

    def batch(self, index: Tensor) -> Batch:
        """Segments by number, their values as they are."""
        return Batch(self.values[index], self.program[index].long(), self.active[index])


def _moved(values_BHN3: Tensor, active_BH: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """What to add to move each segment by whole semitones, but by none that would leave the piano."""
    shift_B = torch.randint(-most, most + 1, (len(values_BHN3),), generator=generator, device=values_BHN3.device)
    pitch_BHN = values_BHN3[..., 0] + shift_B[:, None, None]
    outside_B = ((pitch_BHN < LOWEST) | (pitch_BHN > HIGHEST)).logical_and(active_BH[..., None]).any(dim=(1, 2))
    added = torch.zeros_like(values_BHN3)
    added[..., 0] = torch.where(outside_B, 0, shift_B)[:, None, None] * active_BH[..., None]
    return added


def refuse_unfit(opened: DatasetVersion, config: ComposerConfig) -> None:
    """Refuse a data set that was not read as the settings want it.

    Raises:
        InputError: it holds no performances by themselves (``other_encoding``), or they were read otherwise
            (``other_reading``).
    """
    opened.refuse_other_reading("composer" if config.data.extraction == "reference" else "performed")


def resident_split(opened: DatasetVersion, split: str, config: ComposerConfig) -> ResidentSegments | None:
    """A split of a data set as resident segments; None when it has no pieces."""
    if opened.catalogue.filter(opened.catalogue["split"] == split).is_empty():
        return None
    pieces = ((f"{each.corpus}/{each.key}", each.notes) for each in opened.recordings(split))
    return ResidentSegments.of(pieces, config.data)


Resident = ResidentSegments
