"""What heads the report when an evaluation was held against an earlier one: what got worse, by how much, where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dexter_model.metrics.regression import BETTER, REGRESSION, WORSE, headline, lost_lines
from dexter_model.report.figures import STYLE, data_uri
from dexter_model.report.html import number

COLOURS = {REGRESSION: "#b91c1c", WORSE: "#c2780c", BETTER: "#15803d"}
UNCLEAR_COLOUR = "#6b7280"
DRAWN = 14.0  # tolerances; farther points stand at the edge

Row = dict[str, Any]


def verdict_section(verdict: Mapping[str, Any]) -> Row:
    """The verdict as plain values for the page."""
    baseline = verdict["baseline"]
    notes = []
    if not baseline["same_data_set"]:
        known = (baseline.get("data_set") or {}).get("version", "unknown")
        notes.append(f"The baseline was measured on data set version {known}: only performances in both are compared.")
    return {
        "passed": verdict["passed"],
        "headline": headline(verdict),
        "lost": lost_lines(verdict),
        "notes": notes,
        "chart": _chart(verdict["comparisons"]) if verdict["comparisons"] else None,
        "several": len({row["system"] for row in verdict["comparisons"]}) > 1,
        "rows": [_row(row) for row in verdict["comparisons"]],
    }


def _row(row: Mapping[str, Any]) -> Row:
    interval = f"{signed(row['low'])} … {signed(row['high'])}" if row["low"] is not None else "one piece"
    pieces = [
        {
            "name": f"{piece['corpus']} · {piece['piece']}",
            "before": number(piece["before"], 3),
            "after": number(piece["after"], 3),
            "change": signed(piece["change"]),
        }
        for piece in row["pieces"]
    ]
    return {
        "label": row["label"],
        "unit": row["unit"],
        "system": row["system"],
        "before": number(row["before"], 3),
        "after": number(row["after"], 3),
        "change": signed(row["change"]),
        "interval": interval,
        "tolerance": f"{row['tolerance']:g}",
        "verdict": row["verdict"],
        "colour": COLOURS.get(row["verdict"], UNCLEAR_COLOUR),
        "regressed": row["verdict"] == REGRESSION,
        "pieces": pieces,
    }


def signed(value: float) -> str:
    """A change for people: with its sign, and a dash for none."""
    text = number(value, 3)
    return f"+{text}" if value > 0 and text != number(0.0, 3) else text


@mpl.rc_context(STYLE)
def _chart(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every figure's change for the worse, in tolerances, with its interval."""
    figure = Figure(figsize=(9, 0.9 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    several = len({row["system"] for row in rows}) > 1
    for place, row in enumerate(rows):
        colour = COLOURS.get(row["verdict"], UNCLEAR_COLOUR)
        worse = 1 if row["worse_by"] == row["change"] else -1
        scale = worse / max(row["tolerance"], 1e-9)
        if row["low"] is not None:
            ends = [max(-DRAWN, min(DRAWN, scale * row[end])) for end in ("low", "high")]
            axes.plot(ends, [place, place], color=colour, linewidth=2, alpha=0.6)
        axes.plot(max(-DRAWN, min(DRAWN, scale * row["change"])), place, "o", color=colour, markersize=7)
    axes.axvline(0, color="#9ca3af", linewidth=1)
    axes.axvline(1, color=COLOURS[REGRESSION], linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [f"{r['label']} ({r['system']})" if several else r["label"] for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    widest = max(1.5, *(abs(edge) for edge in axes.get_xlim()))
    axes.set_xlim(-widest, widest)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("← better      change in tolerances      worse →")
    return data_uri(figure, "svg")
