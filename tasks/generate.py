"""Pieces out of nothing but a checkpoint and a seed: cut into batches, made over warm workers, written.

A job's batches are the same however often it is interrupted and however many workers it has: of systems whose pieces
depend on those made beside them, a batch is made again whole.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dexter_model.digests import json_digest
from dexter_model.errors import InputError
from dexter_model.places import local, shown, writing
from dexter_model.renders import FORMAT, RendersFolder
from dexter_model.systems import GENERATORS, TOGETHER, default_model, module
from dexter_model.tally import count
from dexter_model.training.checkpoint import Checkpoint
from tasks.cluster import WorkerDied, fan_out
from tasks.orchestration import task
from tasks.progress import bar
from tasks.render import RenderResult

log = logging.getLogger(__name__)

GENERATOR = 1  # raised when generation or MIDI writing comes out otherwise: all is made anew
FEW = 64  # made in this process unless asked otherwise


@dataclass(frozen=True)
class GenerateSettings:
    """What to make and how.

    Attributes:
        system: of ``systems.GENERATORS``.
        checkpoint: a checkpoint, a bundle or a ``.mag`` file; None is the model that ships with the code.
        pieces: how many.
        seed: of the first and all others; piece k of a seed is the same in every job with equal batches.
        batch_size: pieces that are made together.
        workers: Ray actors; 0 works in this process, None decides by the work.
        gpu_share: as for rendering.
        how: the system's own settings, ``making.HOW``; None is as it comes.
    """

    system: str
    checkpoint: str | Path | None = None
    pieces: int = 8
    seed: int = 13
    batch_size: int = 64
    workers: int | None = None
    gpu_share: float | None = None
    how: Any = None

    def __post_init__(self) -> None:
        if self.system not in GENERATORS:
            raise InputError(self.system, "is no generator", f"Choose {' or '.join(GENERATORS)}", "system_unknown")
        for name in ("pieces", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(name, "is less than 1", "Give 1 or more", "option_invalid")


@task(name="generate")
def generate(out: str | Path, settings: GenerateSettings) -> RenderResult:
    """Make pieces, keeping those that ``out`` holds already.

    Args:
        out: folder for NAME.mid and renders.json.
        settings: what and how.

    Raises:
        InputError: the checkpoint cannot be used, or settings do not fit it.
    """
    checkpoint, asked, settings = _checked(settings)
    rows = _rows(settings, checkpoint)
    with writing(out) as written:
        folder = RendersFolder(written.folder, ("midi",))
        done = {number: kept for number, row in enumerate(rows) if (kept := folder.kept(row))}
        batches: list[Sequence[int]] = [batch for batch in _batches(settings) if not done.keys() >= set(batch)]
        if settings.system not in TOGETHER:
            batches = [[number for number in batch if number not in done] for batch in batches]
        quarantined: list[dict[str, str]] = []
        made = len(rows) - len(done)
        if batches:
            folder.begin()
        maker = partial(_maker, settings, shown(checkpoint.path))
        workers = 0 if settings.workers is None and settings.pieces <= FEW else settings.workers
        with bar("Generating", len(rows)) as advance_to:
            for job, pieces in fan_out(maker, batches, workers=workers, gpu=settings.gpu_share):
                if isinstance(pieces, WorkerDied):
                    lost = [rows[number]["name"] for number in batches[job] if number not in done]
                    quarantined += [{"path": name, "code": "worker_died", "reason": pieces.reason} for name in lost]
                    made -= len(lost)
                    continue
                for number, piece in zip(batches[job], pieces, strict=True):
                    if number not in done:
                        writers = {"midi": partial(_write, piece.midi)}
                        done[number] = folder.add(rows[number], writers, piece.notes, piece.seconds)
                        count("pieces_done", work="generate")
                advance_to(len(done))
        entries = [done[number] for number in sorted(done)]
        made_by = {"label": checkpoint.label, "digest": checkpoint.digest}
        model = {**made_by, "dataset": checkpoint.meta.get("dataset")}
        about = {**asdict(asked), "checkpoint": model, "system": settings.system}
        about |= {"seed": settings.seed, "pieces": settings.pieces, "batch_size": settings.batch_size}
        folder.finish(about, entries, quarantined)
    return RenderResult(str(out), made_by, entries, quarantined, made)


def describe_generation(out: str | Path, settings: GenerateSettings) -> str:
    """What ``generate`` would make: the answer to a dry run.

    Raises:
        InputError: as ``generate``.
    """
    checkpoint, _, settings = _checked(settings)
    folder = RendersFolder(local(out, missing_ok=True), ("midi",))
    kept = sum(folder.kept(row) is not None for row in _rows(settings, checkpoint))
    model = f"{checkpoint.label} ({checkpoint.digest[:12]}), step {checkpoint.meta.get('step', 'unknown')}"
    return f"{settings.system}: {model}\n{settings.pieces} pieces in {out}, {kept} of them there already"


def _checked(settings: GenerateSettings) -> tuple[Checkpoint, Any, GenerateSettings]:
    """The model, what was asked of it, and the settings as workers can use them, before anything is started."""
    checkpoint = load_model(settings.system, settings.checkpoint)
    making = module(settings.system, "making")
    asked = settings.how or making.HOW()
    return checkpoint, asked, replace(settings, how=making.checked(checkpoint, asked))


def load_model(system: str, checkpoint: str | Path | None) -> Checkpoint:
    """The model of a generator.

    Raises:
        InputError: it cannot be read, or is one of another system (``checkpoint_unfit``).
    """
    path = checkpoint or default_model(system)
    loaded: Checkpoint = module(system, "making").load_model(path)
    if loaded.system != system:
        raise InputError(path, f"is a model of {loaded.system}, not of {system}", "Give another", "checkpoint_unfit")
    return loaded


def _batches(settings: GenerateSettings) -> list[range]:
    size, pieces = settings.batch_size, settings.pieces
    return [range(first, min(first + size, pieces)) for first in range(0, pieces, size)]


def _rows(settings: GenerateSettings, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """What ``renders.json`` will say of each piece: its name, its key, its number."""
    together = settings.system in TOGETHER
    made_from = [FORMAT, GENERATOR, settings.system, checkpoint.digest, asdict(settings.how), settings.seed]
    return [
        {
            "name": f"{settings.system}_{number + 1:04}",
            "key": json_digest([*made_from, number, [batch.start, batch.stop] if together else None]),
            "number": number,
        }
        for batch in _batches(settings)
        for number in batch
    ]


def _maker(settings: GenerateSettings, checkpoint: str) -> Any:
    making, model = module(settings.system, "making"), load_model(settings.system, checkpoint)
    return making.Maker(model, settings.how, settings.seed)


def _write(midi: bytes, path: Path) -> None:
    path.write_bytes(midi)
