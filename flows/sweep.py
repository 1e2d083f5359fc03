"""Flow: a grid of ways to render in, all rendered, evaluated and compared, one page out."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dexter_model.errors import InputError
from dexter_model.expression.config import ExpressionConfig
from dexter_model.expression.plan import Sampling, evaluations, refuse_unfit
from dexter_model.expression.rendering import default_checkpoint
from dexter_model.expression.score_files import distinct_names
from dexter_model.places import absolute, join, name_of
from dexter_model.training.checkpoint import load_checkpoint
from flows.configuration import load
from flows.evaluate import evaluate
from flows.parameters import EvaluateParameters, RenderParameters, SweepParameters
from flows.render import render
from tasks.orchestration import DAY, flow, only_writer, publish_link, publish_markdown
from tasks.progress import say
from tasks.report import ReportInputs, write_report
from tasks.runs import recorded
from tasks.sweep import Setting, compare_sweep, renders_there

STEPS_SHOWN = 20


@dataclass(frozen=True)
class Model:
    """What a sweep knows of a checkpoint before it renders: what it is called, and its settings."""

    name: str
    config: ExpressionConfig


@dataclass(frozen=True)
class PlannedSetting:
    """A point of the grid, how to render with it and with which model, and why that cannot be done where it cannot."""

    setting: Setting
    render: RenderParameters
    model: Model | None
    refusal: InputError | None


@dataclass(frozen=True)
class SweepResult:
    """What was written: the folder, ``sweep.json``, and whether every setting and render is in it."""

    out: str
    content: dict[str, Any]
    whole: bool


@flow(name="sweep", flow_run_name="sweep {parameters.out}", timeout_seconds=30 * DAY)
@recorded("sweep", lambda parameters: parameters.out)
def sweep(parameters: SweepParameters) -> SweepResult:
    """Render a data set's split with every setting of a grid, evaluate all, and tell which is worth its cost.

    What is rendered already is kept. A setting that cannot be rendered is told, and the others go on.

    Raises:
        InputError: no setting can be rendered.
    """
    settings = planned(parameters)
    refused = [_refused(plan, plan.refusal) for plan in settings if plan.refusal is not None]
    _refuse_all(settings)
    with only_writer(parameters.out):
        return _sweep(parameters, settings, refused)


def _sweep(parameters: SweepParameters, settings: list[PlannedSetting], refused: list[dict[str, str]]) -> SweepResult:
    possible = [plan for plan in settings if plan.refusal is None]
    rendered, first = [], None
    for number, plan in enumerate(possible, start=1):
        say(f"-- {number} of {len(possible)}: {plan.setting.name}")
        try:
            render(plan.render)
            rendered.append(plan)
        except InputError as error:
            first = first or error
            refused.append(_refused(plan, error))
    if first is not None and not rendered:
        raise first
    evaluation = {
        "store": parameters.render.store,
        "version": parameters.render.version,
        "renders": [plan.render.out for plan in rendered],
        "out": join(parameters.out, "evaluation"),
        "workers": parameters.workers,
    }
    measured = evaluate(EvaluateParameters.model_validate(evaluation))
    grid = {name: list(dict.fromkeys(plan.setting.values[name] for plan in settings)) for name in parameters.grid}
    content = compare_sweep(grid, [plan.setting for plan in rendered], refused, measured.out, parameters.out)
    _tell(content, _page(parameters, rendered, content))
    return SweepResult(parameters.out, content, whole=not (refused or measured.refused))


def planned(parameters: SweepParameters) -> list[PlannedSetting]:
    """Every combination of the grid, in its order; folders are called by the values, so a larger grid finds them again.

    Checkpoints are called by what they are, so that another grid finds them too.

    Raises:
        InputError: a name is no parameter of rendering, or a value is none for it.
    """
    common, grid = parameters.render.model_dump(exclude_unset=True), parameters.grid
    points = list(itertools.product(*(range(len(values)) for values in grid.values())))
    hows = []
    for point in points:
        values = {name: grid[name][place] for name, place in zip(grid, point, strict=True)}
        hows.append(load(RenderParameters, options={**common, **values}))
    models = {how.checkpoint: _model(how.checkpoint) for how in hows}
    words = {name: distinct_names(map(_word, values)) for name, values in grid.items()}
    if "checkpoint" in grid:
        known = ((each, models[each]) for each in grid["checkpoint"])
        words["checkpoint"] = distinct_names(m.name if isinstance(m, Model) else _word(each) for each, m in known)
    found = []
    for point, how in zip(points, hows, strict=True):
        told = {name: words[name][place] for name, place in zip(grid, point, strict=True)}
        name = ",".join(f"{key}={word}" for key, word in told.items())
        how = how.model_copy(update={"out": join(parameters.out, "renders", name)})
        found.append(_planned(name, told, how, models[how.checkpoint]))
    return found


def _planned(name: str, told: dict[str, Any], how: RenderParameters, model: Model | InputError) -> PlannedSetting:
    """A setting with its cost, or refused if its model cannot be read or cannot be sampled so."""
    try:
        if isinstance(model, InputError):
            raise model
        refuse_unfit(_sampling(how), model.config)
        cost = evaluations(_sampling(how), model.config, source=how.source is not None)
        return PlannedSetting(Setting(name, told, cost), how, model, None)
    except InputError as error:
        return PlannedSetting(Setting(name, told, 0), how, None, error)


def _model(checkpoint: str | None) -> Model | InputError:
    try:
        found = load_checkpoint(checkpoint or default_checkpoint())
        name = _word(f"{_run(found.path)}-step{int(found.meta['step'])}-{found.digest:.8}")
        return Model(name, ExpressionConfig.from_dict(found.config))
    except InputError as error:
        return error


def _run(checkpoint: Path) -> str:
    """The folder that training wrote to, of which a checkpoint is ``best`` or ``checkpoints/step_...``."""
    folder = checkpoint.resolve()
    inside = 1 if folder.name == "best" else 2 if folder.parent.name == "checkpoints" else 0
    return (folder, *folder.parents)[inside].name


def _refused(plan: PlannedSetting, error: InputError) -> dict[str, str]:
    """Tell that a setting cannot be rendered, and why."""
    say(f"refused ({error.code}) {plan.setting.name}: {error}")
    return {"name": plan.setting.name, "code": error.code, "reason": f"{error.path}: {error.reason}"}


def _refuse_all(settings: list[PlannedSetting]) -> None:
    """Raise the first refusal where every setting is refused."""
    refusals = [plan.refusal for plan in settings if plan.refusal is not None]
    if len(refusals) == len(settings):
        raise refusals[0]


def dry_run(parameters: SweepParameters) -> list[str]:
    """A line a setting: its name, its cost and what is there of it, or why it is refused. Nothing is written.

    Raises:
        InputError: every setting is refused.
    """
    settings = planned(parameters)
    _refuse_all(settings)
    return [
        f"{plan.setting.name}\t{plan.setting.evaluations} function evaluations\t{renders_there(plan.render.out)}"
        if plan.refusal is None
        else f"{plan.setting.name}\trefused ({plan.refusal.code})\t{plan.refusal}"
        for plan in settings
    ]


def _sampling(how: RenderParameters) -> Sampling:
    return Sampling(**{each.name: getattr(how, each.name) for each in fields(Sampling)})


def _shown(plan: PlannedSetting) -> Sampling:
    """How the sampler is shown at work: in enough steps to see something, if the model's diffusion has as many."""
    most = plan.model.config.diffusion.steps if plan.model else STEPS_SHOWN
    return replace(_sampling(plan.render), steps=min(max(plan.render.steps, STEPS_SHOWN), most))


def _word(value: Any) -> str:
    """A value as part of a folder's name: of a path its last part."""
    text = f"{value:g}" if isinstance(value, float) else str(value if value is not None else "default")
    return re.sub(r"[^\w.+-]+", "-", text.rstrip("/").rpartition("/")[2]).strip("-.") or "empty"


def _page(parameters: SweepParameters, rendered: list[PlannedSetting], content: dict[str, Any]) -> str:
    """The sweep's report, with renders of the settings to choose from and the best one's sampler at work."""
    by_name = {plan.setting.name: plan for plan in rendered}
    chosen = [content["comparison"][which] for which in ("best", "frugal")]
    plans = [by_name[name] for name in dict.fromkeys(chosen) if name is not None]
    inputs = ReportInputs(
        store_url=parameters.render.store,
        version=parameters.render.version,
        checkpoint=(plans[0].render.checkpoint or default_checkpoint()) if plans else None,
        sampling=_shown(plans[0]) if plans else None,
        renders=[plan.render.out for plan in plans],
        sweep=parameters.out,
        title="DExter: settings beside each other",
    )
    return absolute(write_report(inputs, parameters.out))


def _tell(content: dict[str, Any], page: str) -> None:
    publish_markdown("sweep", f"{as_markdown(content)}\n\nReport: `{page}`", "Settings beside each other")
    publish_link("report", page, name_of(page))
    comparison = content["comparison"]
    say(f"best: {comparison['best']}; cheapest that is not clearly worse: {comparison['frugal']}")
    say(f"report: {page}")


def as_markdown(content: dict[str, Any]) -> str:
    """The comparison as a table, the best quality first, for Prefect's artifact."""
    rows = sorted(content["comparison"]["rows"], key=lambda row: -row["quality"]["mean"])
    lines = [f"| {row['system']} | {row['cost']} | {_interval(row['quality'])} |" for row in rows]
    choice = {"best": "Best", "frugal": "Cheapest that is not clearly worse"}
    told = [f"{label}: **{content['comparison'][which]}**" for which, label in choice.items()]
    refused = [f"- refused: {row['name']}: {row['reason']}" for row in content["refused"]]
    return "\n".join(["  \n".join(told), "", "| setting | NFE | quality |", "|---|---|---|", *lines, "", *refused])


def _interval(figure: dict[str, Any]) -> str:
    ends = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['mean']:.3f}{ends}"
