"""Flow: a grid of ways to render in, all rendered, evaluated and compared, one page out."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dexter_model.errors import InputError
from dexter_model.expression.plan import Sampling
from dexter_model.expression.rendering import default_checkpoint
from dexter_model.expression.score_files import distinct_names
from flows.configuration import load
from flows.evaluate import evaluate
from flows.parameters import EvaluateParameters, RenderParameters, SweepParameters
from flows.render import render
from tasks.orchestration import flow, publish_link, publish_markdown
from tasks.progress import say
from tasks.report import ReportInputs, write_report
from tasks.sweep import Setting, compare_sweep, renders_there

STEPS_SHOWN = 20


@dataclass(frozen=True)
class PlannedSetting:
    """A point of the grid and how to render with it."""

    setting: Setting
    render: RenderParameters


@dataclass(frozen=True)
class SweepResult:
    """What was written: the folder, ``sweep.json``, and whether every setting and render is in it."""

    out: Path
    content: dict[str, Any]
    whole: bool


@flow(name="sweep", flow_run_name="sweep {parameters.out}")
def sweep(parameters: SweepParameters) -> SweepResult:
    """Render a data set's split with every setting of a grid, evaluate all, and tell which is worth its cost.

    What is rendered already is kept. A setting that cannot be rendered is told, and the others go on.

    Raises:
        InputError: no setting can be rendered.
    """
    settings = planned(parameters)
    rendered, refused, first = [], [], None
    for number, plan in enumerate(settings, start=1):
        say(f"-- {number} of {len(settings)}: {plan.setting.name}")
        try:
            render(plan.render)
            rendered.append(plan)
        except InputError as error:
            first = first or error
            refused.append({"name": plan.setting.name, "code": error.code, "reason": f"{error.path}: {error.reason}"})
            say(f"refused ({error.code}) {plan.setting.name}: {error}")
    if first is not None and not rendered:
        raise first
    evaluation = {
        "store": parameters.render.store,
        "version": parameters.render.version,
        "renders": [plan.render.out for plan in rendered],
        "out": f"{parameters.out}/evaluation",
        "workers": parameters.workers,
    }
    measured = evaluate(EvaluateParameters.model_validate(evaluation))
    grid = {name: [_word(value) for value in values] for name, values in parameters.grid.items()}
    content = compare_sweep(grid, [plan.setting for plan in rendered], refused, measured.out, parameters.out)
    _tell(content, _page(parameters, rendered, content))
    return SweepResult(Path(parameters.out), content, whole=not (refused or measured.refused))


def planned(parameters: SweepParameters) -> list[PlannedSetting]:
    """Every combination of the grid, in its order; folders are called by the values, so a larger grid finds them again.

    Raises:
        InputError: a name is no parameter of rendering, or a value is none for it.
    """
    words = {name: distinct_names(_word(value) for value in values) for name, values in parameters.grid.items()}
    common = parameters.render.model_dump(exclude_unset=True)
    found = []
    for places in itertools.product(*(range(len(values)) for values in parameters.grid.values())):
        values = {name: parameters.grid[name][place] for name, place in zip(parameters.grid, places, strict=True)}
        told = {name: words[name][place] for name, place in zip(parameters.grid, places, strict=True)}
        name = ",".join(f"{key}={word}" for key, word in told.items())
        how = load(RenderParameters, options={**common, **values, "out": f"{parameters.out}/renders/{name}"})
        found.append(PlannedSetting(Setting(name, told, evaluations(how)), how))
    return found


def evaluations(how: RenderParameters) -> int:
    """Forward passes of the network that a window takes; guidance takes two a step."""
    return how.steps * (1 if how.guidance == 1.0 else 2)


def dry_run(parameters: SweepParameters) -> list[str]:
    """A line a setting: its name, its cost and what is there of it. Nothing is written."""
    return [
        f"{plan.setting.name}\t{plan.setting.evaluations} function evaluations\t{renders_there(plan.render.out)}"
        for plan in planned(parameters)
    ]


def _sampling(how: RenderParameters) -> Sampling:
    """How the sampler is shown at work: in enough steps to see something."""
    given = {each.name: getattr(how, each.name) for each in fields(Sampling) if hasattr(how, each.name)}
    return Sampling(**{**given, "steps": max(how.steps, STEPS_SHOWN)})


def _word(value: Any) -> str:
    """A value as part of a folder's name: of a path its last part."""
    text = f"{value:g}" if isinstance(value, float) else str(value if value is not None else "default")
    return re.sub(r"[^\w.+-]+", "-", text.rstrip("/").rpartition("/")[2]).strip("-.") or "empty"


def _page(parameters: SweepParameters, rendered: list[PlannedSetting], content: dict[str, Any]) -> Path:
    """The sweep's report, with renders of the settings to choose from and the best one's sampler at work."""
    by_name = {plan.setting.name: plan for plan in rendered}
    chosen = [content["comparison"][which] for which in ("best", "frugal")]
    plans = [by_name[name] for name in dict.fromkeys(chosen) if name is not None]
    inputs = ReportInputs(
        store_url=parameters.render.store,
        version=parameters.render.version,
        checkpoint=(plans[0].render.checkpoint or default_checkpoint()) if plans else None,
        sampling=_sampling(plans[0].render) if plans else None,
        renders=[plan.render.out for plan in plans],
        sweep=parameters.out,
        title="DExter: settings beside each other",
    )
    return write_report(inputs, parameters.out).resolve()


def _tell(content: dict[str, Any], page: Path) -> None:
    publish_markdown("sweep", f"{as_markdown(content)}\n\nReport: `{page}`", "Settings beside each other")
    publish_link("report", page.as_uri(), page.name)
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
