"""Flow: one night of the platform: the data set brought up to date, its split rendered anew, and a verdict.

A generator needs no score: its night makes pieces instead, and is judged by the data set's held-out music.

Every night has a folder of its own, ``nights/DATE_COMMIT``, so that nothing rendered by yesterday's code is taken for
today's; a night that was interrupted goes on in its folder while date and code are the same. ``nights.json`` tells of
the finished ones and which of them is accepted: the first (unless it is worse than a baseline that it was given), until
``accept`` names a later one. A night is held against the accepted one and not against the one before, or figures could
get worse by a tolerance every night.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dexter_model import places
from dexter_model.digests import code_version
from dexter_model.errors import InputError, RegressionError
from dexter_model.expression.rendering import default_checkpoint
from dexter_model.metrics import generated_regression as generated
from dexter_model.metrics import regression
from dexter_model.systems import default_model
from dexter_model.training.checkpoint import META
from flows import build as building
from flows.build import build
from flows.generate import generate
from flows.parameters import EvaluateParameters, NightlyParameters, ReportParameters
from flows.render import render
from flows.report import report
from flows.stages import evaluated, run_stage, table_of_stages, tell, write_run
from tasks.evaluate import EvaluationResult
from tasks.judge import JudgeResult
from tasks.orchestration import DAY, flow, link_to, only_writer, publish_markdown, tag_run
from tasks.progress import say
from tasks.render import RenderResult
from tasks.runs import FIRST, PASSED, REGRESSION, recorded, stages_done

HISTORY, NIGHTS = "nights.json", "nights"
_TOLD = 14  # nights in the artifact


@dataclass(frozen=True)
class Night:
    """A finished night: what it is called, its report, and the verdict (``first``, ``passed`` or ``regression``)."""

    name: str
    report: str
    verdict: str
    headline: str


@flow(name="nightly", flow_run_name="nightly {parameters.out}", timeout_seconds=5 * DAY)
@recorded("nightly", lambda parameters: parameters.out)
def nightly(parameters: NightlyParameters) -> Night:
    """Build, render or generate, evaluate beside the accepted night, report; the first good night is accepted.

    Raises:
        RegressionError: worse than the accepted night; everything was written and published before.
    """
    tag_run(store=parameters.build.store)
    with only_writer(parameters.out):
        night, worse = _night(parameters)
    if worse is not None:
        raise worse
    return night


def _night(parameters: NightlyParameters) -> tuple[Night, RegressionError | None]:
    history = read_history(parameters.out)
    name, baseline = begun(history), baseline_of(parameters, history)
    folder = places.join(parameters.out, NIGHTS, name)
    data = run_stage("build", lambda: build(parameters.build))
    made = _made(parameters, places.join(folder, "renders"), data.version)
    how = _evaluation(parameters, made.folder, data.version, places.join(folder, "evaluation"), baseline)
    evaluation, worse = run_stage("evaluate", lambda: evaluated(how))
    told = ReportParameters(
        out=folder,
        store=how.store,
        version=how.version,
        checkpoint=_checkpoint(parameters),
        renders=how.renders,
        evaluation=how.out,
        sweep=None,
    )
    page = run_stage("report", lambda: report(told, stages_done()))
    night = Night(name, page, *_verdict(evaluation))
    tell(verdict=night.verdict, headline=night.headline)
    row = {"verdict": night.verdict, "headline": night.headline, "baseline": baseline}
    row |= {"data_set": data.version, "model": made.checkpoint["label"], "code_version": code_version()}
    write_run(folder, parameters, night=name, **row)
    history = read_history(parameters.out)  # again: a person may have accepted another night meanwhile
    history["nights"].append({"name": name, **row})
    if worse is None:
        history["accepted"] = history["accepted"] or name
    _write_history(parameters.out, history)
    tag_run(store=parameters.build.store, model=row["model"], verdict=night.verdict)
    publish_markdown("nightly", as_markdown(night, history), "The night's verdict")
    say(f"{night.verdict}: {night.headline}")
    return night, worse


def _made(parameters: NightlyParameters, out: str, version: str) -> RenderResult:
    """Renders of the data set's split, or a generator's pieces."""
    if parameters.generate is None:
        rendering = parameters.render.model_copy(update={"out": out, "version": version})
        made = run_stage("render", lambda: render(rendering))
    else:
        generation = parameters.generate.model_copy(update={"out": out})
        made = run_stage("generate", lambda: generate(generation))
    tell(seed=(parameters.generate or parameters.render).seed)
    return made


def _checkpoint(parameters: NightlyParameters) -> str | None:
    """The checkpoint whose training the report tells; of bundles none is known."""
    if parameters.generate is None:
        return parameters.render.checkpoint or str(default_checkpoint())
    named = parameters.generate.checkpoint or str(default_model(parameters.generate.system))
    return named if any(name.endswith(META) for name in places.names(named)) else None


def _evaluation(
    parameters: NightlyParameters, made: str, version: str, out: str, baseline: str | None
) -> EvaluateParameters:
    return EvaluateParameters(
        store=parameters.build.store,
        version=version,
        renders=[made],
        external=parameters.external,
        baseline=baseline,
        tolerance=parameters.tolerance,
        generated_tolerance=parameters.generated_tolerance,
        out=out,
        workers=parameters.workers,
    )


def _verdict(evaluation: EvaluationResult | JudgeResult) -> tuple[str, str]:
    if evaluation.regression is None:
        return FIRST, "Nothing to compare with yet: later nights are held against this one."
    told = generated if isinstance(evaluation, JudgeResult) else regression
    return PASSED if evaluation.regression["passed"] else REGRESSION, told.headline(evaluation.regression)


def read_history(out: str) -> dict[str, Any]:
    """``nights.json``: ``accepted``, the name of a night or None, and ``nights``, a row a finished night, oldest first.

    Raises:
        InputError: the file is damaged (``history_unreadable``).
    """
    path = places.join(out, HISTORY)
    try:
        history = json.loads(places.read(path))
        assert history["accepted"] in [None, *(str(row["name"]) for row in history["nights"])]
    except FileNotFoundError:
        return {"accepted": None, "nights": []}
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        reason = f"is no history of nights ({type(error).__name__})"
        raise InputError(path, reason, "Restore it, or name another folder with --out", "history_unreadable") from error
    return history


def _write_history(out: str, history: dict[str, Any]) -> None:
    places.write(places.join(out, HISTORY), (json.dumps(history, indent=1) + "\n").encode())


def begun(history: dict[str, Any]) -> str:
    """What tonight is called: date (UTC) and commit, numbered when there is a finished night of these already."""
    code = code_version()
    name = f"{datetime.now(UTC):%Y-%m-%d}_{code.partition('+')[2] or code}"
    taken = {row["name"] for row in history["nights"]}
    numbered = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
    return next(each for each in numbered if each not in taken)


def baseline_of(parameters: NightlyParameters, history: dict[str, Any]) -> str | None:
    """The folder tonight is held against: the one that is named, else the accepted night's, else none."""
    if parameters.baseline is not None or history["accepted"] is None:
        return parameters.baseline
    return places.join(parameters.out, NIGHTS, history["accepted"])


def accept(out: str) -> str:
    """Make the latest finished night what later ones are held against; its name.

    Raises:
        InputError: there is none (``no_nights``).
    """
    history = read_history(out)
    if not history["nights"]:
        raise InputError(out, "holds no finished night", "Run `dexter nightly` first", "no_nights")
    history["accepted"] = history["nights"][-1]["name"]
    _write_history(out, history)
    return str(history["accepted"])


def dry_run(parameters: NightlyParameters) -> list[str]:
    """What a night would do, in lines: its name, what it is held against, and what the build would encode."""
    history = read_history(parameters.out)
    against = baseline_of(parameters, history) or "nothing: it would be the first, and accepted"
    how = parameters.generate or parameters.render
    if parameters.generate is None:
        work = f"renders the {parameters.render.split} split"
    else:
        work = f"makes {parameters.generate.pieces} pieces by {parameters.generate.system}"
    return [
        f"night {begun(history)} in {parameters.out}, after {len(history['nights'])} others",
        f"held against {against}",
        f"{work} with {how.checkpoint or 'the model that ships'}",
        *building.told(building.dry_run(parameters.build)),
    ]


def as_markdown(night: Night, history: dict[str, Any]) -> str:
    """The night and those before it, for Prefect's artifact."""
    rows = [
        f"| {row['name']}{' (accepted)' if row['name'] == history['accepted'] else ''} "
        f"| **{row['verdict']}** | {row['model']} | {row['data_set']} |"
        for row in reversed(history["nights"][-_TOLD:])
    ]
    table = ["| night | verdict | model | data set |", "|---|---|---|---|", *rows]
    link = f"[Report]({link_to(night.report)}): `{night.report}`"
    return "\n".join([f"**{night.verdict}**: {night.headline}", "", link, "", *table, "", table_of_stages()])
