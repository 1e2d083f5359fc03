"""Tables over works and tables in the paper's shapes, from made-up measures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dexter_model.metrics.contests import mean_of
from dexter_model.metrics.intervals import mean_over_units
from dexter_model.metrics.measures import Played
from dexter_model.metrics.published import (
    ATTRIBUTES,
    attribute_tables,
    setting_table,
    setting_tables,
    steering_table,
    steering_tables,
)
from dexter_model.metrics.steering import movements
from dexter_model.metrics.summaries import differences, performance_tables
from dexter_model.metrics.tables import measures_frame, tables


def row(system: str, piece: str, work: str, value: float, **other: Any) -> dict[str, Any]:
    about = {"system": system, "reference": system == "deadpan", "corpus": "C", "piece": piece, "work": work}
    rest = {"synthetic": False, "render": piece, "sample": 0, "human": "h", "feature": "velocity", "n": 9}
    undefined = "constant prediction" if math.isnan(value) else ""
    plain = {"measure": "correlation", "value": value, "undefined": undefined, "near_zero": math.nan}
    return about | rest | plain | other


ROWS = [
    row("ours", "a", "w", 0.2),
    row("ours", "a", "w", 0.4, human="g"),
    row("ours", "a repeat", "w", 0.5),
    row("ours", "b", "x", 0.8),
    *(row("deadpan", piece, work, math.nan) for piece, work in (("a", "w"), ("a repeat", "w"), ("b", "x"))),
    row("ours", "a", "w", 11.0, measure="mean_absolute_error"),
    row("ours", "b", "x", 13.0, measure="mean_absolute_error"),
    row("ours", "a", "w", 0.25, feature="ioi", measure="js", human=""),
]


def test_performance_tables_are_over_works() -> None:
    shared = [{"system": "ours", "feature": "ioi", "synthetic": False, "js": 0.125, "pieces": 3}]
    pearson, error, divergence = performance_tables(measures_frame(ROWS), ["ours", "deadpan"], shared, seed=1)
    ours, deadpan = (dict(zip(pearson["columns"], r["cells"], strict=True)) for r in pearson["rows"])
    assert ours["Velocity"]["mean"] == pytest.approx((0.4 + 0.8) / 2)  # work w: the mean of 0.3 and 0.5
    assert (ours["Velocity"]["low"], ours["Velocity"]["high"]) == pytest.approx((0.4, 0.8))
    assert deadpan["Velocity"] == {"mean": 0, "low": 0, "high": 0}  # a constant counts as 0
    assert ours["Pedal"] is None
    assert dict(zip(error["columns"], error["rows"][0]["cells"], strict=True))["MAE of velocity"]["mean"] == 12
    js = dict(zip(divergence["columns"], divergence["rows"][0]["cells"], strict=True))
    assert js["IOI, a piece"] == {"mean": 0.25, "low": None, "high": None}  # one work has no interval
    assert js["IOI, pooled"]["mean"] == 0.125
    assert js["Velocity, pooled"] is None


def test_differences_are_paired() -> None:
    (found,) = differences(measures_frame(ROWS), ["ours", "deadpan"], seed=1)
    assert {name: found[name] for name in ("system", "against", "feature", "works")} == {
        "system": "ours",
        "against": "deadpan",
        "feature": "velocity",
        "works": 2,
    }
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((0.6, 0.4, 0.8))


def test_mean_over_units() -> None:
    found = mean_over_units({"a": 1.0, "b": 3.0, "c": math.nan}, {"a": "w", "b": "w", "c": "x"})
    assert found.mean == 2
    assert math.isnan(found.low)
    assert math.isnan(mean_over_units({}).mean)


def test_tables_in_the_papers_shapes() -> None:
    (table,) = tables(measures_frame(ROWS), seed=1)
    humans, space = attribute_tables(table)
    assert (humans["heading"], space["heading"]) == ("ours, against each human", "ours, in the ground-truth space")
    assert humans["columns"] == ["Deviation", "|Deviation|", "KL", "Correlation", "paper"]
    assert [r["label"] for r in humans["rows"]] == list(ATTRIBUTES)
    assert all(len(r["cells"]) == 5 and r["cells"][-1] is None for t in (humans, space) for r in t["rows"])
    weights = setting_table({**table, "rows": curves(table["rows"])}, [("w = 1.2", "ours")], "correlation", "Guidance")
    (weight,) = weights["rows"]
    found = dict(zip(weights["columns"], weight["cells"], strict=True))
    assert found["vel_curve"]["mean"] == pytest.approx((0.3 + 0.5 + 0.8) / 3)
    assert (found["tempo_curve"], found["paper"]) == (None, None)


def test_settings_by_attribute() -> None:
    def system(name: str, **how: Any) -> dict[str, Any]:
        return {"name": name, "steps": 5, "guidance": 1.2, "checkpoint": {"label": "m", "digest": "ab" * 32}} | how

    def headings(*systems: dict[str, Any]) -> dict[str, list[str]]:
        found = setting_tables({"systems": [each["name"] for each in systems], "rows": []}, systems)
        assert [len(row["cells"]) for table in found for row in table["rows"]] == [11] * sum(
            len(table["rows"]) for table in found
        )
        return {table["heading"]: [row["label"] for row in table["rows"]] for table in found}

    source = {"controls": {"source": "0"}}
    assert headings(system("a"), system("b", steps=10)) == {}  # nothing of what the paper has tables of
    assert headings(system("a", depth=1.0, **source), system("b", depth=0.25, **source)) == {
        f"Transfer depth f: {measure}": ["f = 0.25", "f = 1"] for measure in ("Deviation", "KL", "Correlation")
    }
    grid = [system(f"{w} {k}", guidance=w, steps=k) for w in (3.0, 1.0) for k in (5, 10)]
    several = headings(*grid, system("mean", guidance=None))
    assert [heading for heading in several if "KL" in heading] == [
        "Guidance weight w (steps 5): KL",
        "Guidance weight w (steps 10): KL",
    ]
    assert set(map(tuple, several.values())) == {("w = 1", "w = 3")}
    two = [
        system(f"{w} {d}", guidance=w, checkpoint={"label": "m", "digest": d * 32})
        for w in (1, 2)
        for d in ("ab", "cd")
    ]
    assert "Guidance weight w (checkpoint m abababab): KL" in headings(*two)
    again = [system(name, depth=depth, **source) for name, depth in (("a", 0.25), ("b", 1.0), ("b (2)", 1.0))]
    again += [system("c", depth=0.50000001, **source), system("d", depth=0.5, **source)]
    assert headings(*again)["Transfer depth f: KL"] == [
        "f = 0.25",
        "f = 0.5 (d)",
        "f = 0.5 (c)",
        "f = 1 (b)",
        "f = 1 (b (2))",
    ]
    assert headings(*again[1:3]) == {}  # nothing is swept
    alone = setting_tables({"systems": ["a"], "rows": []}, [system("a"), system("b", guidance=2.0)])
    assert alone == []  # no figures of the other


def curves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**r, "feature": "velocity_curve"} for r in rows if r["feature"] == "velocity"]


def test_steering_table() -> None:
    moved = {"mean": 0.4, "low": 0.2, "high": 0.6}
    table = steering_table({"articulation": {"more": moved}})
    assert table["columns"] == ["less", "normal", "more", "paper"]
    cells = {r["label"]: r["cells"] for r in table["rows"]}
    assert cells["articulation"] == [None, None, moved, None]
    assert cells["minorness"] == [None] * 4


def test_steered_systems_are_put_beside_each_other() -> None:
    def system(name: str, guidance: float = 1.0, **steer: Any) -> dict[str, Any]:
        return {"name": name, "guidance": guidance, "controls": {"steer": steer}}

    systems = [
        system("a", articulation="less"),
        system("b", articulation=1.0),
        system("c", minorness=0),
        system("d", articulation=0.3),  # none of the three
        system("e", articulation="more", minorness="more"),  # which of the two would be heard
        {"name": "f", "guidance": 1.0, "controls": {}},
        {"name": "g", "midi_only": True},
    ]
    rows = [
        {"system": each["name"], "feature": f, "measure": "heard", "mean": k / 10, "low": None, "high": None}
        for k, each in enumerate(systems)
        for f in ("articulation", "minorness")
    ]
    table = {"systems": [each["name"] for each in systems], "rows": rows}
    (one,) = steering_tables(table, systems)
    means = {r["label"]: [cell and cell["mean"] for cell in r["cells"]] for r in one["rows"]}
    assert (means["articulation"], means["minorness"]) == ([0.0, None, 0.1, None], [None, 0.2, None, None])
    assert one["heading"] == "Steering"
    more = [*systems, system("h", 3.0, articulation="more")]
    table["systems"].append("h")
    assert [t["heading"] for t in steering_tables(table, more)] == [
        "Steering (guidance 1.0)",
        "Steering (guidance 3.0)",
    ]
    assert steering_tables(table, systems[3:]) == []


def test_movement_is_in_the_models_unit() -> None:
    humans = np.full((2, 4, 7), np.nan)
    humans[0, :, 1], humans[1, :2, 1] = [1, 2, 3, 4], [2.5, 2.5]  # mean 2.5
    render = np.full((1, 4, 7), np.nan)
    render[0, 1:, 1] = 3.5
    articulation, minorness = movements(render, humans, {"articulation": 0.5, "minorness": 0.1})
    assert (articulation.feature, articulation.name, articulation.n) == ("articulation", "heard", 3)
    assert articulation.value == pytest.approx((3.5 - 2.5) / 0.5)
    assert (math.isnan(minorness.value), minorness.undefined) == (True, "nothing is heard")


def test_the_mean_of_samples() -> None:
    codec = np.arange(20.0).reshape(1, 4, 5)
    one = Played(codec, np.array([[True, True, False, True]]), np.full((1, 4), np.nan))
    other = Played(codec + 2, np.array([[True, False, True, True]]), np.zeros((1, 4)))
    mean = mean_of([one, other])
    np.testing.assert_array_equal(mean.codec, codec + 1)
    assert mean.counts.tolist() == [[True, False, False, True]]
    assert np.isnan(mean.keydown).all()
