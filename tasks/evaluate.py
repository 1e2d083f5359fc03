"""One unit of work: folders of renders and a data set in, measures and their tables out.

Each piece is a job of its own; a few run in this process, many are fanned out. What is written depends on the data set,
the renders, the code and the seed alone: no times, no paths.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.digests import code_version, json_digest, sha256_bytes
from dexter_model.errors import InputError
from dexter_model.metrics.contests import REFERENCES, Evaluated, Refused, evaluate_piece
from dexter_model.metrics.intervals import RESAMPLES
from dexter_model.metrics.renders import Render, RenderFolder, read_renders
from dexter_model.metrics.tables import measures_frame, tables
from dexter_model.metrics.tolerance import Tolerance
from dexter_model.places import absolute, join, name_of, write
from dexter_model.reading.sandbox import Sandbox
from dexter_model.tally import count
from tasks.baseline import EVALUATION, MEASURES, hold_against, read_baseline
from tasks.cluster import WorkerDied, fan_out
from tasks.orchestration import task
from tasks.progress import track

FORMAT = "dexter-evaluation-1"
SEED = 13

# What each part of a table draws: the figures as published are over pieces, what systems are judged by over works.
RESAMPLED = {"rows": "piece", "attributes": "piece", "settings": "piece", "performance": "work", "differences": "work"}
FEW_PIECES = 24  # evaluated in this process unless asked otherwise

PieceKey = tuple[str, str]  # corpus and key


@dataclass(frozen=True)
class PieceJob:
    """One piece and its renders."""

    corpus: str
    piece: str
    renders: tuple[Render, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """What was written: the folder, a digest of every figure (whatever the data set's version is called), tables.

    ``regression`` is the verdict on it beside a baseline (``metrics.regression``), None where there was none.
    """

    out: str
    digest: str
    tables: list[dict[str, Any]]
    pieces: int
    renders: int
    refused: list[dict[str, str]]
    regression: dict[str, Any] | None = None


class PieceEvaluator:
    """Evaluates pieces of one data set version, which it keeps open."""

    def __init__(self, store_url: str, version: str | None, seed: int) -> None:
        self.data = open_version(store_url, version)
        self.seed = seed
        self.sandbox = Sandbox()

    def run(self, job: PieceJob) -> Evaluated:
        """Every measure of a piece, and the renders that could not be compared."""
        piece = self.data.piece(job.corpus, job.piece)
        return evaluate_piece(piece, job.renders, self.sandbox, self.seed)

    def close(self) -> None:
        """End the child process that reads MIDI files."""
        self.sandbox.close()


@task(name="evaluate")
def evaluate(
    store_url: str,
    renders_dirs: Sequence[str | Path],
    out: str | Path,
    version: str | None = None,
    *,
    external: Mapping[str, str | Path] | None = None,
    baseline: str | Path | None = None,
    tolerance: Tolerance | None = None,
    workers: int | None = None,
    seed: int = SEED,
) -> EvaluationResult:
    """Compare renders with every human performance of their pieces, beside the references.

    Writes ``measures.parquet`` (a row a render, human performance and measure) and ``evaluation.json`` (means with
    95 % intervals over works or pieces, and where they come from) into ``out``.

    Args:
        store_url: the data set.
        renders_dirs: folders written by ``dexter render``, or of MIDI files alone (``metrics.renders``); each is one
            system.
        out: folder.
        version: of the data set; the current one when None.
        external: folders of other renderers' MIDI files, by what tables call them.
        baseline: folder of an earlier evaluation to compare with; a verdict is written, nothing is raised.
        tolerance: how much worse than the baseline is tolerated.
        workers: Ray actors; 0 does all in this process, None decides by the number of pieces.
        seed: of the density points and the bootstrap.

    Raises:
        InputError: a folder holds no renders, or none of them is of a piece of the data set (``no_renders``); or the
            baseline cannot be read or has nothing in common with this.
    """
    data = open_version(store_url, version)
    earlier = read_baseline(baseline, out) if baseline is not None else None
    folders = read_folders(renders_dirs, external or {})
    jobs, strangers = _jobs(folders, data, store_url)
    found = _results(jobs, partial(PieceEvaluator, absolute(store_url), data.id, seed), workers)
    results = [Evaluated([], [], strangers), *found]
    frame = measures_frame([row for result in results for row in result.rows])
    measures = _as_parquet(frame)
    content = _content(data, folders, results, frame, seed) | {"measures_digest": sha256_bytes(measures)}
    if earlier is not None:
        about = (content["systems"], content["data_set"])
        content["regression"] = hold_against(earlier, frame, *about, tolerance or Tolerance(), seed)
    write(join(out, MEASURES), measures)
    write(join(out, EVALUATION), (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    digest = json_digest([content["measures_digest"], content["tables"]])
    count = sum(len(job.renders) for job in jobs)
    verdict = content.get("regression")
    return EvaluationResult(str(out), digest, content["tables"], len(jobs), count, content["refused"], verdict)


def _jobs(folders: list[RenderFolder], data: DatasetVersion, store_url: str) -> tuple[list[PieceJob], list[Refused]]:
    """What is to be done, which must be something, and the renders that are of no piece of the data set."""
    jobs, strangers = plan(folders, set(data.catalogue.select("corpus", "key").iter_rows()))
    if not jobs:
        remedy = f"Render its pieces: `dexter render --store {store_url} --split test --out DIR`"
        reason = ": ".join(["no render is of a piece of the data set", *(r.reason for r in strangers[:1])])
        raise InputError(folders[0].path, reason, remedy, "no_renders")
    return jobs, strangers


def _content(
    data: DatasetVersion, folders: list[RenderFolder], results: list[Evaluated], frame: pl.DataFrame, seed: int
) -> dict[str, Any]:
    """``evaluation.json``: where the figures come from, and the tables of them."""
    distributions = [one for result in results for one in result.distributions]
    systems = [_system(folder) for folder in folders]
    return {
        "format": FORMAT,
        "data_set": {"version": data.id, "digest": data.digest},
        "systems": systems,
        "code_version": code_version(),
        "seed": seed,
        "bootstrap": {"unit": RESAMPLED, "level": 0.95, "resamples": RESAMPLES},
        "tables": tables(frame, seed=seed, distributions=distributions, systems=systems),
        "refused": [asdict(refused) for result in results for refused in result.refused],
    }


def _as_parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def read_folders(folders: Iterable[str | Path], external: Mapping[str, str | Path] | None = None) -> list[RenderFolder]:
    """Read folders of renders, each under a name of its own: the folder's, numbered where names are equal.

    Args:
        folders: written by ``dexter render``, or of MIDI files.
        external: folders whose names are given.

    Raises:
        InputError: a folder holds no renders, or a reference has the name that was given (``option_invalid``).
    """
    external = external or {}
    for name in set(REFERENCES) & set(external):
        raise InputError(f"--external {name}", "is what a reference is called", "Choose another name", "option_invalid")
    taken = {*REFERENCES, *external}
    read = []
    for folder in folders:
        plain = name = name_of(folder)
        number = 2
        while name in taken:
            name, number = f"{plain} ({number})", number + 1
        taken.add(name)
        read.append(read_renders(folder, name))
    return read + [read_renders(folder, name) for name, folder in external.items()]


def plan(folders: Iterable[RenderFolder], known: set[PieceKey]) -> tuple[list[PieceJob], list[Refused]]:
    """A job a piece, in order of corpus and key, and the renders of pieces that the data set does not have."""
    of_piece: dict[PieceKey, list[Render]] = defaultdict(list)
    for folder in folders:
        for render in filter(lambda render: render.piece, folder.renders):
            of_piece[render.corpus, render.piece].append(render)
    jobs = [PieceJob(*piece, tuple(of_piece[piece])) for piece in sorted(of_piece) if piece in known]
    strangers = [
        Refused(r.system, r.name, "no_piece", f"the data set has no piece {PurePosixPath(*piece)} (corpus/key)")
        for piece in sorted(of_piece)
        if piece not in known
        for r in of_piece[piece]
    ]
    return jobs, strangers


def _results(jobs: list[PieceJob], make_worker: Callable[[], PieceEvaluator], workers: int | None) -> list[Evaluated]:
    """Results in the order of the jobs; few are done in this process, since starting Ray takes longer."""
    wanted = 0 if workers is None and len(jobs) < FEW_PIECES else workers
    found: dict[int, Evaluated] = {}
    for number, result in track(fan_out(make_worker, jobs, workers=wanted), len(jobs), "Evaluating pieces"):
        found[number] = _died(jobs[number], result) if isinstance(result, WorkerDied) else result
        count("pieces_done", work="evaluate")
        for refused in found[number].refused:
            count("quarantined", work="evaluate", code=refused.code)
    return [found[number] for number in range(len(jobs))]


def _died(job: PieceJob, died: WorkerDied) -> Evaluated:
    lost = [Refused(render.system, render.name, "worker_died", died.reason) for render in job.renders]
    return Evaluated([], [], lost)


def _system(folder: RenderFolder) -> dict[str, Any]:
    count = len(folder.renders)
    return {"name": folder.system, "renders": count, "renders_digest": folder.digest, **folder.about}
