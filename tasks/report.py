"""One unit of work: what the stages left behind in, one HTML file out.

Every part is optional: it is a report of what there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.digests import code_version
from dexter_model.errors import InputError
from dexter_model.metrics.renders import Render
from dexter_model.places import join, read, write
from dexter_model.reading.sandbox import Sandbox
from dexter_model.report.denoising import animation, excerpt, trajectory
from dexter_model.report.examples import Example, choose, piece_example, score_example
from dexter_model.report.generated import generated_examples, generated_section, generated_tiles
from dexter_model.report.html import count, icon, render_page
from dexter_model.report.sections import (
    data_section,
    evaluation_section,
    provenance,
    tiles,
    training_section,
)
from dexter_model.report.stages import stages_section
from dexter_model.report.sweep import sweep_section, sweep_tiles
from dexter_model.report.verdict import verdict_section
from dexter_model.synthesis import why_silent
from dexter_model.training.checkpoint import load_checkpoint
from tasks.baseline import EVALUATION
from tasks.evaluate import read_folders
from tasks.judge import by_name
from tasks.judge_baseline import JUDGEMENT
from tasks.orchestration import task

if TYPE_CHECKING:
    from dexter_model.dataset.piece import Piece
    from dexter_model.expression.plan import Sampling

REPORT, SWEEP = "report.html", "sweep.json"
TITLE, SCORELESS = "DExter: corpora in, evaluated performances out", "Music without a score, beside people's"
EXAMPLES = 3


@dataclass(frozen=True)
class ReportInputs:
    """Where a report's parts are; None or empty for those there are not.

    On a data set of performances without scores, ``evaluation`` is a folder that ``tasks.judge`` wrote, and the renders
    are the music it judged. ``stages`` are records of what ran: ``name``, ``seconds``, and whatever else is worth
    telling, in it or in a ``result`` of it. ``sampling`` is how the checkpoint samples where it is shown at work.
    """

    store_url: str | None = None
    version: str | None = None
    checkpoint: str | Path | None = None
    sampling: Sampling | None = None
    renders: Sequence[str | Path] = ()
    external: Mapping[str, str | Path] = field(default_factory=dict)
    evaluation: str | Path | None = None
    sweep: str | Path | None = None
    stages: Sequence[Mapping[str, Any]] = ()
    title: str = ""


@task(name="report")
def write_report(inputs: ReportInputs, out: str | Path) -> str:
    """Write the report.

    Args:
        inputs: where the parts are.
        out: the file, or a folder or URL to put ``report.html`` into.

    Returns:
        The file.

    Raises:
        InputError: a part that was given cannot be read.
    """
    data = open_version(inputs.store_url, inputs.version) if inputs.store_url else None
    scoreless = data is not None and data.holds_recordings
    evaluation = _read(inputs.evaluation, EVALUATION, "tables") if inputs.evaluation and not scoreless else None
    judgement = _read(inputs.evaluation, JUDGEMENT, "rows") if inputs.evaluation and scoreless else None
    sweep = _read(inputs.sweep, SWEEP, "comparison") if inputs.sweep else None
    checkpoint = _read_checkpoint(inputs.checkpoint) if inputs.checkpoint else None
    section = data_section(data) if data else None
    folders = [] if scoreless else read_folders(inputs.renders, inputs.external)
    renders = [render for folder in folders for render in folder.renders]
    examples = _examples(renders, data)
    verdict = (evaluation or {}).get("regression")
    made = generated_tiles(judgement) if judgement else []
    contents = {
        "title": inputs.title or (SCORELESS if scoreless else TITLE),
        "lead": _lead(data, evaluation, examples),
        "icon": icon(),
        "banners": _banners(evaluation),
        "verdict": verdict_section(verdict) if verdict else None,
        "tiles": sweep_tiles(sweep)
        if sweep
        else tiles(section, len(data.performances) if data else 0, evaluation) + made,
        "stages": stages_section(inputs.stages),
        "provenance": provenance(code_version(), data, checkpoint, evaluation),
        "data": section,
        "training": training_section(checkpoint["meta"]) if checkpoint else None,
        "sweep": sweep_section(sweep, _of_settings(inputs.sweep)) if sweep and inputs.sweep else None,
        "evaluation": evaluation_section(evaluation) if evaluation else None,
        "generated": _generated(judgement, inputs, data) if judgement else None,
        "denoising": _denoising(inputs, renders, data) if inputs.checkpoint and renders else None,
        "examples": examples,
        "silent": why_silent(),
    }
    page = str(out) if str(out).endswith(".html") else join(out, REPORT)
    write(page, render_page(contents).encode())
    return page


def _read(folder: str | Path, name: str, part: str) -> dict[str, Any]:
    """``evaluation.json``, ``judgement.json`` or ``sweep.json``, which must have the ``part`` that matters."""
    path = join(folder, name)
    try:
        content = json.loads(read(path))
        assert isinstance(content[part], list | dict)
        return content
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        what = name.removesuffix(".json")
        reason = f"not {'an' if what == 'evaluation' else 'a'} {what} ({type(error).__name__})"
        remedy = f"Give a folder that `dexter {what if what == 'sweep' else 'evaluate'}` wrote"
        raise InputError(path, reason, remedy, f"{what}_unreadable") from error


def _of_settings(sweep: str | Path) -> list[dict[str, Any]]:
    """The tables of settings, in the published shapes, of the evaluation in a sweep's folder."""
    tables = _read(join(sweep, "evaluation"), EVALUATION, "tables")["tables"]
    return [table for compared in tables[:1] for table in compared.get("settings", [])]


def _read_checkpoint(folder: str | Path) -> dict[str, Any]:
    checkpoint = load_checkpoint(folder)
    return {"meta": checkpoint.meta, "digest": checkpoint.digest}


def _examples(renders: Sequence[Render], data: DatasetVersion | None) -> list[Example]:
    with Sandbox() as sandbox:
        made = [_example(of_score, data, sandbox) for of_score in choose(renders, EXAMPLES)]
    return [example for example in made if example]


def _example(renders: list[Render], data: DatasetVersion | None, sandbox: Sandbox) -> Example | None:
    """Figures of one score's renders; None when a file of theirs is damaged, which evaluation tells."""
    sounds = not why_silent()
    try:
        piece = _piece(renders[0], data)
        if piece is None:
            return score_example(renders, sandbox, sounds=sounds)
        return piece_example(piece, renders, sandbox, sounds=sounds)
    except InputError:
        return None


def _generated(judgement: Mapping[str, Any], inputs: ReportInputs, data: DatasetVersion | None) -> dict[str, Any]:
    folders = by_name(inputs.renders, inputs.external)
    with Sandbox() as sandbox:
        return generated_section(
            judgement, generated_examples(judgement, folders, data, sandbox, sounds=not why_silent())
        )


def _denoising(inputs: ReportInputs, renders: Sequence[Render], data: DatasetVersion | None) -> dict[str, Any] | None:
    """The checkpoint at work on the first piece that was rendered, or why it is not shown; None when there is none.

    It starts as that render did: from a performance, where that was made from one.
    """
    render = choose(renders, 1)[0][0]
    piece = _piece(render, data)
    if piece is None:
        return None
    score, keys = excerpt(piece), [row["key"] for row in piece.performances]
    start, source = "noise", None
    if render.source in keys:
        row, notes = keys.index(render.source), slice(len(score.notes))
        start, source = "a performance", (piece.performance[row][notes], piece.matched[row][notes])
    about = {"start": start, "title": piece.title or piece.key, "why_not": ""}
    try:
        path = trajectory(score, str(inputs.checkpoint), inputs.sampling, source)
    except InputError as error:
        return about | {"why_not": f"The checkpoint is not shown at work: {error.reason}."}
    moving, still = animation(piece, path)
    return about | {"moving": moving, "still": still, "notes": len(score.notes), "steps": len(path.times) - 1}


def _piece(render: Render, data: DatasetVersion | None) -> Piece | None:
    known = data is not None and (render.corpus, render.piece) in set(
        data.catalogue.select("corpus", "key").iter_rows()
    )
    return data.piece(render.corpus, render.piece) if data and known else None


def _lead(data: DatasetVersion | None, evaluation: Mapping[str, Any] | None, examples: list[Example]) -> str:
    parts = []
    if data:
        parts.append(f"Data set {data.id}")
    if evaluation:
        labels = ((system.get("checkpoint") or {}).get("label") or system["name"] for system in evaluation["systems"])
        makers = set(map(str, labels))
        parts.append(
            f"Renders by {', '.join(f'“{maker}”' for maker in sorted(makers))} against the data set's performances"
        )
    if examples:
        parts.append("Some renders to look at" + ("" if why_silent() else " and to hear"))
    return f"{'. '.join(parts)}." if parts else "Nothing but what ran."


def _banners(evaluation: Mapping[str, Any] | None) -> list[str]:
    tables = evaluation["tables"] if evaluation else ()
    return [
        f"{count(table['pieces'], 'evaluated piece')} of synthetic performances, made by rules: "
        "their table shows the plumbing, not the model."
        for table in tables
        if table["synthetic"]
    ]
