"""One unit of work: an evaluation of the settings of a sweep in, one comparison of them out.

Rendering and evaluating are the work of their own tasks; what this adds is which setting is worth its cost.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dexter_model.digests import code_version, sha256_bytes
from dexter_model.metrics.sweeps import compare_settings
from dexter_model.places import join, names, read, write
from dexter_model.renders import JOURNAL, LISTING
from tasks.baseline import EVALUATION, MEASURES
from tasks.evaluate import SEED
from tasks.orchestration import task

FORMAT = "dexter-sweep-1"
SWEEP = "sweep.json"


@dataclass(frozen=True)
class Setting:
    """One point of a grid: its name, which is its folder's too, the swept values, and its cost.

    ``evaluations`` is the number of forward passes of the network that a window takes.
    """

    name: str
    values: dict[str, Any]
    evaluations: int


@task(name="compare settings")
def compare_sweep(
    grid: dict[str, list[Any]],
    settings: Sequence[Setting],
    refused: Sequence[dict[str, str]],
    evaluation: str | Path,
    out: str | Path,
    seed: int = SEED,
) -> dict[str, Any]:
    """Compare the settings of a sweep by an evaluation that has each as a system, and write ``sweep.json``.

    Args:
        grid: the swept values by name, as people read them.
        settings: those that were rendered.
        refused: name, code and reason of those that could not be.
        evaluation: folder of the evaluation.
        out: folder of the sweep.
        seed: of the bootstrap.

    Returns:
        What was written.
    """
    measures = pl.read_parquet(io.BytesIO(read(join(evaluation, MEASURES))))
    content = {
        "format": FORMAT,
        "code_version": code_version(),
        "evaluation_digest": sha256_bytes(read(join(evaluation, EVALUATION))),
        "seed": seed,
        "grid": grid,
        "settings": [{"name": s.name, "values": s.values, "evaluations": s.evaluations} for s in settings],
        "refused": list(refused),
        "comparison": compare_settings(measures, {s.name: s.evaluations for s in settings}, seed),
    }
    write(join(out, SWEEP), (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    return content


def renders_there(folder: str | Path) -> str:
    """What a folder of renders holds before a sweep, for a dry run: ``new``, ``unfinished`` or ``12 there``."""
    if JOURNAL in names(folder):
        return "unfinished"
    try:
        return f"{len(json.loads(read(join(folder, LISTING)))['renders'])} there"
    except (OSError, ValueError, KeyError, TypeError):
        return "new"
