"""A sweep's page: what to choose, every setting in one table, quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dexter_model.metrics.main_figures import MAIN_FIGURES, MainFigure
from dexter_model.metrics.sweeps import MOST_OFF
from dexter_model.report.figures import INK, RENDERS, STYLE, data_uri
from dexter_model.report.html import count, figure_cell, figure_heads, number, value_table

FRONT, OTHER = RENDERS[0], "#6b7280"

Row = dict[str, Any]


def sweep_section(sweep: Mapping[str, Any], tables: Sequence[Mapping[str, Any]]) -> Row:
    """``sweep.json`` as plain values for the page, with the settings' ``tables`` of its evaluation."""
    compared = sweep["comparison"]
    rows = sorted(compared["rows"], key=lambda row: -row["quality"]["mean"])
    shown = [figure for figure in MAIN_FIGURES if any(figure.name in row["figures"] for row in rows)]
    swept = {name: len(values) for name, values in sweep["grid"].items()}
    pieces = max((row["quality"]["pieces"] for row in rows), default=0)
    grid = " × ".join(f"{name} ({number_of})" for name, number_of in swept.items())
    return {
        "summary": f"{count(len(rows), 'setting')} of {grid}, each on {count(pieces, 'piece')}.",
        "choices": _choices(compared),
        "sure": any(row["calibrated"] for row in rows),
        "heads": figure_heads(shown),
        "rows": [_row(row, compared, shown) for row in rows],
        "chart": pareto(rows) if rows else None,
        "published": [value_table(table) for table in tables],
        "refused": sweep["refused"],
    }


def sweep_tiles(sweep: Mapping[str, Any]) -> list[Row]:
    """The few numbers that head the page."""
    compared = sweep["comparison"]
    best = next((row for row in compared["rows"] if row["system"] == compared["best"]), None)
    tiles = [{"label": "Settings", "value": number(len(compared["rows"])), "note": f"{len(sweep['refused'])} refused"}]
    if best is not None:
        quality = {"label": "Best quality", "value": number(best["quality"]["mean"]), "note": spaced(best["system"])}
        cost = {"label": "Function evaluations", "value": number(best["cost"]), "note": "of the best setting"}
        tiles += [quality, cost]
    return tiles


def spaced(system: str) -> str:
    """A setting's name as text that can be broken into lines."""
    return system.replace(",", ", ")


def _choices(compared: Mapping[str, Any]) -> list[str]:
    by_name = {row["system"]: row for row in compared["rows"]}
    best, frugal = (by_name.get(compared[which]) for which in ("best", "frugal"))
    if best is None or frugal is None:
        return ["No setting could be compared."]
    told = [f"Best: {spaced(best['system'])}; {_costing(best)}."]
    if frugal is not best:
        told += [f"Cheapest that is not clearly worse: {spaced(frugal['system'])}; {_costing(frugal)}."]
    if not best["calibrated"]:
        share = f"{MOST_OFF:.0%}"
        told += [f"No setting's velocity and tempo both vary within {share} of what humans do: choose with care."]
    return told


def _costing(row: Mapping[str, Any]) -> str:
    return f"quality {number(row['quality']['mean'], 3)} at {count(row['cost'], 'function evaluation')}"


def _row(row: Mapping[str, Any], compared: Mapping[str, Any], figures: Sequence[MainFigure]) -> Row:
    marks = [
        mark
        for mark, name in (("best", compared["best"]), ("cheapest as good", compared["frugal"]))
        if name == row["system"]
    ]
    marks += [] if row["calibrated"] else ["spread out of bounds"]
    return {
        "system": spaced(row["system"]),
        "marks": " · ".join(marks),
        "front": row["front"],
        "cost": number(row["cost"]),
        "cells": [figure_cell(row["quality"]), *(figure_cell(row["figures"].get(f.name), f) for f in figures)],
    }


@mpl.rc_context(STYLE)
def pareto(rows: Sequence[Mapping[str, Any]]) -> str:
    """Quality against function evaluations, the front as a line; settings with too much or little spread are hollow.

    Points have their row's number, since settings have long names and lie close together.

    Args:
        rows: of ``metrics.sweeps.compare_settings``, the best first.
    """
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        mean, low, high = (row["quality"][name] for name in ("mean", "low", "high"))
        colour = FRONT if row["front"] else OTHER
        if low is not None:
            axes.plot([row["cost"]] * 2, [low, high], color=colour, linewidth=1.2, alpha=0.35)
        face = colour if row["calibrated"] else "white"
        axes.plot(row["cost"], mean, "o", color=colour, markerfacecolor=face, markersize=7)
    front = sorted((row["cost"], row["quality"]["mean"]) for row in rows if row["front"])
    axes.plot(*zip(*front, strict=True), color=FRONT, linewidth=1.4, label="worth its cost")
    axes.set_xscale("log")
    costs = sorted({row["cost"] for row in rows})
    axes.set_xticks(costs, [str(cost) for cost in costs])
    axes.minorticks_off()
    axes.margins(x=0.08)
    axes.set(xlabel="function evaluations a window", ylabel="quality (mean correlation of velocity and tempo)")
    for rank, row in enumerate(rows, start=1):
        place, colour = (row["cost"], row["quality"]["mean"]), INK if row["front"] else OTHER
        axes.annotate(str(rank), place, (7, -4), textcoords="offset points", fontsize=9, color=colour)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.08))
    return data_uri(figure, "svg")
