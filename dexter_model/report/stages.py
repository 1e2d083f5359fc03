"""The table of what ran: each stage's time, what it held of machines, what that cost, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dexter_model.prices import currency, prices
from dexter_model.report.html import duration, number, short

TOOK = ("seconds", "cpu_seconds", "gpu_seconds", "cost")
_NONE = "–"

Row = dict[str, Any]


def stages_section(stages: Sequence[Mapping[str, Any]]) -> Row | None:
    """Stage records (name, seconds, CPU- and GPU-seconds, cost, whatever else came out) as a table; None of none.

    CPU and GPU time and cost have columns where they are known, and then there is a row of sums.
    """
    if not stages:
        return None
    shown = [name for name in TOOK if name == "seconds" or any(stage.get(name) for stage in stages)]
    known = "cost" in shown
    total = {name: sum(stage.get(name) or 0 for stage in stages) for name in shown}
    return {
        "heads": [_HEADS[name] if name != "cost" else f"Cost, {currency()} (est.)" for name in shown],
        "rows": [_stage_row(stage, shown) for stage in stages],
        "total": [_cell(name, total[name]) for name in shown] if known else [],
        "note": _cost_note(gpus="gpu_seconds" in shown) if known else "",
    }


_HEADS = {"seconds": "Time", "cpu_seconds": "CPU time", "gpu_seconds": "GPU time"}


def _stage_row(stage: Mapping[str, Any], shown: Sequence[str]) -> Row:
    """A stage record as a row: what it took in cells, the rest in words; figures and inputs are told elsewhere."""
    details = [(k.replace("_", " "), _plain(v)) for k, v in _flat(stage) if k not in ("name", "place", *TOOK)]
    return {"name": stage["name"], "cells": [_cell(name, stage.get(name)) for name in shown], "details": details}


def _cost_note(*, gpus: bool) -> str:
    """What the costs are, and where their prices come from."""
    listed = prices("compute")
    told = {"a CPU hour": listed["cpu_hour"]}
    if gpus:
        told |= {f"an hour of a GPU ({name})": price for name, price in listed["gpu_hour"].items()}
    by = "; ".join(f"{what} {each['price']} ({each['of']}; {each['date']})" for what, each in told.items())
    return (
        "Costs are estimates: the rent of the cluster's machines, or of this one, for as long as each stage took. CPU "
        f"and GPU time is what was held, busy or not; storage is not counted. Prices in {currency()}: {by}."
    )


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return _NONE
    if name != "cost":
        return duration(value)
    return "< 0.0001" if 0 < value < 0.0001 else number(value, 4 if value < 1 else 2)


def _flat(stage: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The items of a record, those of a ``result`` inside it in its place."""
    items: list[tuple[str, Any]] = []
    for name, value in stage.items():
        if isinstance(value, Mapping):
            items += list(value.items()) if name == "result" else []
        else:
            items.append((name, value))
    return items


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: _NONE}[value]
    if isinstance(value, int | float):
        return number(value)
    text = str(value)
    return short(text) if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
