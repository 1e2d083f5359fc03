"""Settings beside each other: what is worth its cost, and what may be chosen at all."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dexter_model.metrics.sweeps import compare_settings
from dexter_model.metrics.tables import measures_frame

PIECES = [f"p{number:02d}" for number in range(10)]
DIFFICULTY = np.random.default_rng(1).normal(0, 0.1, len(PIECES))


def measures(system: str, quality: float, spread: float = 1.0, noise: float = 0.001) -> pl.DataFrame:
    """A system's figures on all pieces, of a quality that differs by the piece's difficulty and a little noise."""
    jitter = np.random.default_rng(len(system)).normal(0, noise, len(PIECES)) if noise else np.zeros(len(PIECES))
    rows: list[dict[str, Any]] = []
    for piece, change in zip(PIECES, DIFFICULTY + jitter, strict=True):
        figures = [("velocity", "correlation", quality + change), ("log_beat_period", "correlation", quality + change)]
        figures += [("velocity", "spread", spread), ("log_beat_period", "spread", spread)]
        about = {"system": system, "reference": False, "corpus": "C", "piece": piece, "synthetic": False}
        about |= {"render": piece, "sample": 0, "human": "h", "undefined": "", "n": 9, "near_zero": 0.0}
        rows += [about | {"feature": f, "measure": m, "value": v} for f, m, v in figures]
    return measures_frame(rows)


def test_the_front_is_what_nothing_beats_at_its_cost() -> None:
    frame = pl.concat(
        [measures("cheap", 0.3), measures("dear", 0.5), measures("dearer", 0.45), measures("wasteful", 0.2)]
    )
    found = compare_settings(frame, {"cheap": 5, "dear": 20, "dearer": 40, "wasteful": 10}, seed=1)
    rows = {row["system"]: row for row in found["rows"]}
    assert {name: row["front"] for name, row in rows.items()} == {
        "cheap": True,
        "dear": True,
        "dearer": False,
        "wasteful": False,
    }
    assert (found["best"], found["frugal"]) == ("dear", "dear")  # paired, 0.3 is clearly less than 0.5
    assert rows["dear"]["quality"]["low"] < rows["dear"]["quality"]["mean"] < rows["dear"]["quality"]["high"]
    assert rows["dear"]["quality"]["pieces"] == len(PIECES)
    json.dumps(found, allow_nan=False)


def test_the_cheapest_that_is_not_clearly_worse() -> None:
    frame = pl.concat([measures("few", 0.498, noise=0.05), measures("many steps", 0.5), measures("bad", 0.1)])
    found = compare_settings(frame, {"few": 5, "many steps": 100, "bad": 1}, seed=1)
    assert found["frugal"] == "few"


def test_flat_and_wild_settings_are_not_chosen_while_there_are_others() -> None:
    frame = pl.concat(
        [measures("flat", 0.9, spread=0.5), measures("wild", 0.8, spread=1.6), measures("sane", 0.4, 1.1)]
    )
    costs = {"flat": 1, "wild": 2, "sane": 20}
    found = compare_settings(frame, costs, seed=1)
    assert (found["best"], found["frugal"]) == ("sane", "sane")
    assert [row["system"] for row in found["rows"] if row["front"]] == ["sane"]
    alone = compare_settings(frame.filter(pl.col("system") != "sane"), {"flat": 1, "wild": 2}, seed=1)
    assert alone["best"] == "flat"
    assert not any(row["calibrated"] for row in alone["rows"])


def test_a_constant_render_counts_as_0_and_what_has_no_figures_is_left_out() -> None:
    flat = measures("flat", 0.5).with_columns(
        value=pl.when(pl.col("measure") == "correlation").then(None).otherwise("value"),
        undefined=pl.when(pl.col("measure") == "correlation")
        .then(pl.lit("constant prediction"))
        .otherwise("undefined"),
    )
    found = compare_settings(pl.concat([flat, measures("ours", 0.3)]), {"flat": 1, "ours": 2, "lost": 3}, seed=1)
    assert {row["system"]: round(row["quality"]["mean"], 1) for row in found["rows"]} == {"flat": 0.0, "ours": 0.3}
    nothing = compare_settings(measures("other", 0.3), {"lost": 3}, seed=1)
    assert nothing == {"rows": [], "best": None, "frugal": None}


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-0.5, 0.9)), min_size=1, max_size=8))
def test_the_front_rises_with_cost_and_holds_the_best(points: list[tuple[int, float]]) -> None:
    names = [f"s{number}" for number in range(len(points))]
    frame = pl.concat([measures(name, quality, noise=0) for name, (_, quality) in zip(names, points, strict=True)])
    found = compare_settings(frame, {name: cost for name, (cost, _) in zip(names, points, strict=True)}, seed=1)
    front = sorted((row["cost"], row["quality"]["mean"]) for row in found["rows"] if row["front"])
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(front))
    best = max(row["quality"]["mean"] for row in found["rows"])
    assert math.isclose(front[-1][1], best)
    assert next(row["quality"]["mean"] for row in found["rows"] if row["system"] == found["best"]) == pytest.approx(
        best
    )
