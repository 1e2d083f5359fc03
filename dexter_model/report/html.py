"""The page: what was gathered, put into one HTML file that needs nothing but a browser.

Everything is embedded (images and sounds as data URIs, styles inline, no script), and the page says so to the browser
with a content security policy, so that it cannot ask for anything even by mistake. Texts from files (titles, reasons)
are escaped by the template engine.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dexter_model.metrics.curves import FEATURES
from dexter_model.metrics.distributions import STATED
from dexter_model.metrics.main_figures import KINDS, MAIN_FIGURES, MainFigure
from dexter_model.metrics.measures import TEMPO_VELOCITY

NEAR_ZERO_TOLD = 0.01  # share of denominators near zero from which a deviation is marked
MEASURES = (
    ("correlation", "Correlation", "Pearson, note by note (curves: onset by onset). Higher is better; 1 is perfect."),
    ("mean_absolute_error", "Mean absolute error", "In the unit of the feature. Lower is better."),
    (
        "spread",
        "Spread",
        "Standard deviation relative to the human's. 1 is as varied, near 0 is flat, above 1 is wilder.",
    ),
    ("deviation", "Deviation", "Mean of (render − human) / human, and in brackets of its absolute value; capped at 5."),
    (
        "kl",
        "KL divergence",
        "Of the distributions of values, at 300 points drawn from the render's. 0 is the same distribution; but a flat "
        "render comes near 0 too: read it beside the spread.",
    ),
    (
        "js",
        "Jensen-Shannon divergence",
        f"Base 2, of a piece's values and those of its mean human. 0 is the same distribution. Bins: {STATED}.",
    ),
)


def render_page(contents: Mapping[str, Any]) -> str:
    """The HTML of a report.

    Args:
        contents: as ``tasks.report`` gathers them; parts that are missing are None or empty.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "duration": duration, "short": short, "parts": parts}
    return environment.get_template("report.html.j2").render(contents)


def number(value: float | int | None, digits: int = 2) -> str:
    """A number for people: thousands separated, a true minus, a dash for none, small ones with more digits."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    decimals = 0 if abs(value) >= 1000 else digits
    while 0 < abs(value) < 10.0 ** (1 - decimals) and decimals < 4:
        decimals += 1
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else f"{0:.{digits}f}"


def count(number_of: int, what: str) -> str:
    """A number of things: ``1 piece``, ``2,345 pieces``."""
    return f"{number(number_of)} {what}{'' if number_of == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def short(digest: str | None) -> str:
    """The beginning of a digest, enough to compare by eye."""
    return (digest or "–")[:12]


def main_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """The few figures a system is judged by, a row a system, a column a figure (``metrics.main_figures``)."""
    known = {(row["measure"], row["feature"], row["system"]): row for row in table["rows"]}
    shown = [f for f in MAIN_FIGURES if any(key[:2] == (f.measure, f.feature) for key in known)]
    rows = [
        {"label": system, "cells": [figure_cell(known.get((f.measure, f.feature, system)), f) for f in shown]}
        for system in table["systems"]
    ]
    return {"heads": figure_heads(shown), "rows": rows}


def figure_heads(figures: Sequence[MainFigure]) -> dict[str, Any]:
    """The two header rows of a table of main figures: kinds with how many columns each spans, and the columns."""
    groups = [(KINDS[kind], len(list(some))) for kind, some in groupby(figures, lambda figure: figure.kind)]
    return {"groups": groups, "columns": [figure.of for figure in figures]}


def figure_cell(found: Mapping[str, Any] | None, figure: MainFigure | None = None) -> dict[str, str]:
    """A figure with its interval, narrow enough for a table of many columns."""
    if found is None or found["mean"] is None:
        return {"text": "–", "interval": "" if found is None else found["why"], "remark": ""}
    digits = 1 if figure is not None and figure.unit else 2
    mean, low, high = (_fixed(found[name] or 0.0, digits) for name in ("mean", "low", "high"))
    return {"text": mean, "interval": "" if found["low"] is None else f"{low}…{high}", "remark": ""}


def value_table(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table of cells {mean, low, high} or None (``metrics.summaries``, ``metrics.published``) as people read it."""
    rows = [
        {"label": row["label"], "cells": [figure_cell(cell and {"why": "", **cell}) for cell in row["cells"]]}
        for row in table["rows"]
    ]
    return {**table, "rows": rows}


def parts(name: str) -> list[str]:
    """A long name in parts that may stand on lines of their own: up to each underscore and point."""
    return re.split(r"(?<=[_.])", name)


def difference_table(differences: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How much better each system correlates than another: a row a pair, a column a feature."""
    labels = {feature.name: feature.label for feature in FEATURES}
    features = list(dict.fromkeys(row["feature"] for row in differences))
    pairs = list(dict.fromkeys((row["system"], row["against"]) for row in differences))
    found = {(row["system"], row["against"], row["feature"]): row for row in differences}
    return {
        "heading": "Differences in correlation",
        "note": "Paired bootstrap over works, 95 % intervals; above 0 the first one is better.",
        "columns": [labels[name] for name in features],
        "rows": [
            {"label": f"{one} − {other}", "cells": [found.get((one, other, name)) for name in features]}
            for one, other in pairs
        ],
    }


def _fixed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # adding 0 makes -0 a plain 0


def metric_tables(table: Mapping[str, Any], space: bool = False) -> list[dict[str, Any]]:
    """An evaluation table as people read it: one table a measure, a row a feature, a column a system.

    Args:
        table: of ``evaluation.json``.
        space: the measures against the ground-truth space instead of those against each human.
    """
    prefix = "space_" if space else ""
    known = {(row["measure"], row["feature"], row["system"]): row for row in table["rows"]}
    tables = []
    for measure, label, note in MEASURES:
        rows = []
        for feature in FEATURES:
            cells = [_cell(known, prefix + measure, feature.name, system) for system in table["systems"]]
            if any(cell["text"] != "–" for cell in cells):
                unit = feature.unit if measure == "mean_absolute_error" and not space else ""
                near_zero = [known[k]["near_zero"] or 0 for k in known if k[:2] == (prefix + measure, feature.name)]
                remark = f"{max(near_zero):.0%} of denominators near zero" if max(near_zero) > NEAR_ZERO_TOLD else ""
                rows.append({"label": feature.label, "unit": unit, "remark": remark, "cells": cells})
        tables.append({"label": label, "note": note, "rows": rows})
    return [t for t in tables if t["rows"]] + ([] if space else _joint(table, known))


def _joint(table: Mapping[str, Any], known: Mapping[tuple[str, str, str], Any]) -> list[dict[str, Any]]:
    rows = [
        {
            "label": label,
            "unit": "",
            "remark": "",
            "cells": [_cell(known, measure, TEMPO_VELOCITY, system) for system in table["systems"]],
        }
        for measure, label in (("loss", "Loss (lower is better)"), ("correlation", "Sum of correlations"))
    ]
    note = (
        "L1 of the tempo curves (beats/min) plus L1 of the velocity curves (MIDI velocity); sum of their correlations."
    )
    return [{"label": "Tempo and velocity together", "note": note, "rows": rows}]


def _cell(known: Mapping[tuple[str, str, str], Any], measure: str, feature: str, system: str) -> dict[str, str]:
    """The text of a cell, its interval, and what must be said beside it."""
    row = known.get((measure, feature, system))
    if row is None:
        return {"text": "–", "interval": "", "remark": ""}
    if row["mean"] is None:
        return {"text": "undefined", "interval": row["why"], "remark": ""}
    text = number(row["mean"])
    interval = f"{number(row['low'])} … {number(row['high'])}" if row["low"] is not None else "one piece"
    if measure.endswith("deviation"):
        absolute = known.get((measure.replace("deviation", "absolute_deviation"), feature, system))
        text += f" ({number(absolute['mean'])})" if absolute else ""
    remark = f"{row['undefined']} of {row['comparisons']} undefined: {row['why']}" if row["undefined"] else ""
    return {"text": text, "interval": interval, "remark": remark}


def icon() -> str:
    """The page's icon as a data URI, so that the browser asks for none."""
    path = '<path d="M1 7V2h2v5zm4 0V1h2v6z" fill="#c2410c"/>'
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">{path}</svg>'
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing.encode()).decode()}"
