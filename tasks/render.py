"""Scores in, performances out: read and checked first, planned, sampled over warm workers, decoded, written.

A few scores are rendered in this process; more are spread over Ray actors, reading and sampling alike. What comes out
does not depend on that (``expression.sampler``), nor on how often the job was interrupted (``renders``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dexter_model.digests import array_digest, json_digest
from dexter_model.errors import InputError
from dexter_model.expression.config import ExpressionConfig
from dexter_model.expression.plan import (
    BATCH_SIZE,
    SEED,
    Render,
    Sampling,
    plan_batches,
    refuse_unfit,
    score_digest,
)
from dexter_model.expression.rendering import RENDERER, default_checkpoint, files_of, perform
from dexter_model.expression.score_files import ScoreReader, distinct_names, find_scores, known_score, render_names
from dexter_model.notes import Score
from dexter_model.places import absolute, copy_of, shown, writing
from dexter_model.renders import DEVIATIONS, FORMAT, MADE_FROM, RendersFolder
from dexter_model.tally import count
from dexter_model.training.checkpoint import Checkpoint, load_checkpoint
from tasks.cluster import WorkerDied, fan_out
from tasks.controls import Controller, Controls, heard_file, heard_in
from tasks.orchestration import task
from tasks.progress import track

if TYPE_CHECKING:
    from dexter_model.dataset.piece import Piece
    from dexter_model.expression.sampler import PieceSampler
    from dexter_model.expression.steering import Heard

log = logging.getLogger(__name__)

FEW_SCORES = 24  # up to here starting Ray takes longer than it saves


@dataclass(frozen=True)
class RenderResult:
    """What a job left in ``folder``: the checkpoint's label and digest, entries of ``renders.json``, how many were made
    now, and what was refused.
    """

    folder: str
    checkpoint: dict[str, str]
    renders: list[dict[str, Any]]
    quarantined: list[dict[str, str]]
    made: int


@dataclass(frozen=True)
class RenderSettings(Sampling):
    """How to render. ``checkpoint`` None is the model that ships with the code, ``workers`` None is as it takes.

    ``batch_size`` is the number of windows a worker gets at a time, ``gpu_share`` its share of a GPU (None: a whole one
    if the cluster has any at the start; 1 waits for those that an autoscaler adds); results do not depend on them.
    ``controls`` are what performances are told beside their score.
    """

    checkpoint: str | Path | None = None
    samples: int = 1
    seed: int = SEED
    workers: int | None = None
    batch_size: int = BATCH_SIZE
    gpu_share: float | None = None
    controls: Controls = field(default_factory=Controls)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("samples", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')}", "is less than 1", "Give 1 or more", "option_invalid")


@dataclass(frozen=True, eq=False)
class _Source:
    """A score to render and its name; of a file, its path; of a data set's piece, corpus, key and performances' keys.

    ``hear`` finds a performance of it that controls name.
    """

    name: str
    score: Score
    hear: Callable[[str], Heard]
    file: str | None = None
    corpus: str | None = None
    piece: str | None = None
    performances: tuple[str, ...] = ()

    def heard(self, controls: Controls) -> dict[str, str]:
        """Which of the piece's performances it is made from or like: keys, by ``source`` and ``like``."""
        named = {name: getattr(controls, name) for name in MADE_FROM}
        return {name: self.performances[int(given)] for name, given in named.items() if given and self.performances}


@task(name="render scores")
def render_scores(paths: Iterable[str | Path], out: str | Path, settings: RenderSettings) -> RenderResult:
    """Render score files, and all score files in folders.

    Args:
        paths: files and folders.
        out: the folder to write to; renders that it holds already are kept.
        settings: how to render.

    Raises:
        InputError: nothing to render, a single file that cannot be read, or a checkpoint that cannot be used. Of
            several files the bad ones are quarantined.
    """
    paths = list(paths)
    files = find_scores(paths, exclude=out)
    scores, refused = _read([file.path for file in files], settings)
    if refused and len(files) == 1 and not copy_of(paths[0]).is_dir():
        raise refused[0]
    names = render_names(files)
    if len(files) > 1 and (settings.controls.source or settings.controls.like):
        reason = f"is a performance of one score, and {len(files)} are rendered"
        raise InputError("--source, --like", reason, "Render its score alone", "option_invalid")
    sources = [
        _Source(names[k], scores[k], partial(heard_file, score=scores[k]), file=files[k].path) for k in sorted(scores)
    ]
    return _render(sources, [_refusal(refused[k]) for k in sorted(refused)], out, settings)


@task(name="render split")
def render_split(
    store: str,
    split: str,
    out: str | Path,
    settings: RenderSettings,
    *,
    paired: bool = False,
    pieces: Sequence[str] = (),
    version: str | None = None,
) -> RenderResult:
    """Render the pieces of a data set's split, each over the notes that its performances have.

    Args:
        store: URL of the data set.
        split: ``train``, ``validation`` or ``test``.
        out: the folder to write to; renders that it holds already are kept.
        settings: how to render.
        paired: only pieces with two or more human performances, which have a human-to-human reference.
        pieces: only pieces whose ``corpus/key`` matches one of these shell patterns (``VIENNA422/*``); all when empty.
        version: version of the data set; None is the newest.

    Raises:
        InputError: no such data set, no such piece (``no_pieces``), or a checkpoint that cannot be used.
    """
    from dexter_model.dataset.store import open_version

    sources = []
    for piece in open_version(store, version).pieces(split):
        if _chosen(piece, paired, pieces):
            name = "/".join(part for part in (piece.corpus, *piece.key.split("/")) if part not in ("", ".", ".."))
            score, hear = Score(piece.note_id, piece.score), partial(heard_in, piece)
            keys = tuple(row["key"] for row in piece.performances)
            sources.append(_Source(name, score, hear, None, piece.corpus, piece.key, keys))
    if not sources:
        which = f" among {', '.join(pieces)}" if pieces else ""
        which += " with two human performances" if paired else ""
        raise InputError(store, f"its split {split!r} has no piece{which}", "Choose another split", "no_pieces")
    return _render(sources, [], out, settings)


def _chosen(piece: Piece, paired: bool, patterns: Sequence[str]) -> bool:
    enough = not paired or sum(not performance["synthetic"] for performance in piece.performances) > 1
    return enough and (not patterns or any(fnmatchcase(f"{piece.corpus}/{piece.key}", p) for p in patterns))


def _read(paths: list[str], settings: RenderSettings) -> tuple[dict[int, Score], dict[int, InputError]]:
    """The scores that can be read, and why the others cannot, by index; nothing is started for scores known already."""
    scores = {index: score for index, path in enumerate(paths) if (score := known_score(path))}
    refused: dict[int, InputError] = {}
    unknown = [index for index in range(len(paths)) if index not in scores]
    jobs = [absolute(paths[index]) for index in unknown]  # workers may be in another folder
    reading = fan_out(ScoreReader, jobs, workers=_workers(settings, len(unknown)), shared=jobs[:1])
    for job, outcome in track(reading, len(unknown), "Reading scores"):
        index = unknown[job]
        if isinstance(outcome, Score):
            scores[index] = outcome
        elif isinstance(outcome, InputError):
            refused[index] = InputError(paths[index], outcome.reason, outcome.remedy, outcome.code)
        else:
            refused[index] = InputError(paths[index], outcome.reason, "Read it alone", "worker_died")
    return scores, refused


def _render(
    sources: list[_Source], quarantined: list[dict[str, str]], out: str | Path, settings: RenderSettings
) -> RenderResult:
    checkpoint = load_checkpoint(settings.checkpoint or default_checkpoint())
    config = ExpressionConfig.from_dict(checkpoint.config)
    refuse_unfit(settings, config)
    renders, rows = _renders(sources, quarantined, settings, checkpoint)
    with writing(out) as written:
        folder = RendersFolder(written.folder)
        done = {index: kept for index, row in enumerate(rows) if (kept := folder.kept(row))}
        wanted = [index for index in range(len(renders)) if index not in done]
        made = len(wanted)
        if wanted:
            folder.begin()
        for index, outcome in _sampled(renders, wanted, config.denoiser.window, checkpoint.path, settings):
            if isinstance(outcome, WorkerDied):
                path = rows[index]["score"] or rows[index]["name"]
                quarantined.append({"path": path, "code": "worker_died", "reason": outcome.reason})
                made -= 1
            else:
                done[index] = folder.add(rows[index], *files_of(*perform(renders[index].score, outcome)))
                count("pieces_done", work="render")
                log.info("render made", extra={"render": rows[index]["name"], "notes": done[index]["notes"]})
        for row in quarantined:
            count("quarantined", work="render", code=row["code"])
            log.info("score quarantined", extra=row)
        entries = [done[index] for index in sorted(done)]
        about = _about(settings, checkpoint)
        folder.finish(about, entries, quarantined)
    return RenderResult(str(out), about["checkpoint"], entries, quarantined, made)


def _about(settings: RenderSettings, checkpoint: Checkpoint) -> dict[str, Any]:
    """What ``renders.json`` says of how its renders were made."""
    how = settings.told()
    if not settings.controls.source:
        del how["depth"]  # of nothing
    about = {**how, "seed": settings.seed, "controls": settings.controls.told()}
    if settings.controls.steer:
        about[DEVIATIONS] = checkpoint.statistics["perceptual_std"]
    return {"checkpoint": {"label": checkpoint.label, "digest": checkpoint.digest}, **about}


def _renders(
    sources: Sequence[_Source], quarantined: list[dict[str, str]], settings: RenderSettings, checkpoint: Checkpoint
) -> tuple[list[Render], list[dict[str, Any]]]:
    """Every sample of every score, and what ``renders.json`` will say of it."""
    renders, names, rows = [], [], []
    controller = Controller(settings.controls, checkpoint)
    for source in sources:
        try:
            perceptual, begun = controller.of(source.score, source.hear)
        except InputError as error:
            if error.code != "missing_performance":
                raise
            quarantined.append(_refusal(error))
            continue
        digest = score_digest(source.score)
        told: list[str | None] = [None if perceptual is None else array_digest(perceptual), None]
        start = played = None
        if begun is not None:
            start, played = begun.codec.astype(np.float32), begun.matched
            told[1] = array_digest(start, played)
        # Depth counts where a performance is noised; elsewhere it is told as usual, whatever it was set to.
        noised = begun is not None and not controller.transfer
        how = settings.told() | ({} if noised else {"depth": Sampling.depth})
        where = {"score": source.file, "corpus": source.corpus, "piece": source.piece}
        where |= source.heard(settings.controls)
        for sample in range(settings.samples):
            made_from = [FORMAT, RENDERER, digest, checkpoint.digest, how, settings.seed, sample, told]
            names.append(f"{source.name}_sample{sample}" if sample else source.name)
            rows.append({"key": json_digest(made_from), **where, "sample": sample})
            renders.append(Render(source.score, digest, settings.seed, sample, perceptual, start, played))
    return renders, [{"name": name, **row} for name, row in zip(distinct_names(names), rows, strict=True)]


def _sampled(
    renders: list[Render], wanted: list[int], length: int, checkpoint: Path, settings: RenderSettings
) -> Iterator[tuple[int, Any]]:
    """Codecs (n, 5) of the wanted renders, or the death of the worker that had them, as they are ready."""
    plan = plan_batches([len(renders[index].score.notes) for index in wanted], length, settings.batch_size)
    batches = [[wanted[k] for k in batch] for batch in plan]
    jobs = [[renders[index] for index in batch] for batch in batches]
    model = shown(checkpoint.absolute())
    workers, shared = _workers(settings, len(wanted)), [model] if settings.checkpoint else []
    sampling = fan_out(partial(_sampler, model, settings), jobs, workers=workers, gpu=settings.gpu_share, shared=shared)
    for job, outcome in track(sampling, len(jobs), "Rendering"):
        codecs = [outcome] * len(batches[job]) if isinstance(outcome, WorkerDied) else outcome
        yield from zip(batches[job], codecs, strict=True)


def _sampler(checkpoint: str, sampling: Sampling) -> PieceSampler:
    from dexter_model.expression.sampler import PieceSampler  # torch: where the work is, after input was checked

    return PieceSampler(load_checkpoint(checkpoint), sampling)


def _workers(settings: RenderSettings, scores: int) -> int | None:
    """Ray actors for work on so many scores; this process works on all cores of its machine as well."""
    return 0 if settings.workers is None and scores <= FEW_SCORES else settings.workers


def _refusal(error: InputError) -> dict[str, str]:
    return {"path": error.path, "code": error.code, "reason": error.reason}
