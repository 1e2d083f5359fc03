"""When a run is worse than an earlier one, and when it only looks like it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dexter_model.errors import InputError
from dexter_model.metrics.main_figures import MAIN_FIGURES, by_human, by_piece
from dexter_model.metrics.regression import BETTER, REGRESSION, UNCLEAR, WORSE, headline, regression, told
from dexter_model.metrics.tables import measures_frame
from dexter_model.metrics.tolerance import Tolerance

DEFAULT = Tolerance()
PIECES = [f"p{number:02d}" for number in range(12)]


def row(piece: str, feature: str, measure: str, value: float, human: str = "h", **more: Any) -> dict[str, Any]:
    about = {"system": "ours", "reference": False, "corpus": "C", "synthetic": False, "render": piece, "sample": 0}
    figures = {"feature": feature, "measure": measure, "value": value, "undefined": "", "n": 9, "near_zero": 0.0}
    return about | figures | {"piece": piece, "human": human} | more


def run(velocity: float, spread: float = 0.9, *, noise: float = 0.0, seed: int = 0, **more: Any) -> pl.DataFrame:
    """A run over all pieces, each of a difficulty of its own that every run shares."""
    difficulty = np.random.default_rng(9).normal(0, 0.2, len(PIECES))
    jitter = np.random.default_rng(seed).normal(0, noise, len(PIECES)) if noise else np.zeros(len(PIECES))
    rows = []
    for number, piece in enumerate(PIECES):
        rows.append(row(piece, "velocity", "correlation", velocity + difficulty[number] + jitter[number], **more))
        rows.append(row(piece, "velocity", "mean_absolute_error", 12 + 5 * difficulty[number], **more))
        rows.append(row(piece, "velocity", "spread", spread, **more))
    return measures_frame(rows)


def verdicts(now: pl.DataFrame, before: pl.DataFrame, tolerance: Tolerance = DEFAULT) -> dict[str, str]:
    found = regression(now, before, [("ours", "ours")], tolerance, seed=1)
    return {comparison["figure"]: comparison["verdict"] for comparison in found["comparisons"]}


def test_pairing_sees_what_the_pieces_difficulty_hides() -> None:
    found = regression(run(0.40, noise=0.01, seed=2), run(0.45), [("ours", "ours")], DEFAULT, seed=1)
    worst = found["comparisons"][0]
    assert not found["passed"]
    assert (worst["figure"], worst["verdict"]) == ("velocity_correlation", REGRESSION)
    assert worst["change"] == pytest.approx(-0.05, abs=0.01)
    assert -0.06 < worst["low"] < worst["change"] < worst["high"] < -0.04
    # unpaired, the pieces' difficulty makes intervals of a quarter
    changes = [piece["change"] for piece in worst["pieces"]]
    assert changes == sorted(changes)
    assert len(changes) == len(PIECES)
    assert [c["verdict"] for c in found["comparisons"][1:]] == [UNCLEAR, UNCLEAR]
    json.dumps(found, allow_nan=False)


def test_tolerance_and_interval_must_both_speak() -> None:
    assert verdicts(run(0.43), run(0.45))["velocity_correlation"] == WORSE
    assert verdicts(run(0.43), run(0.45), Tolerance(correlation=0.01))["velocity_correlation"] == REGRESSION
    assert verdicts(run(0.40, noise=0.5, seed=3), run(0.45))["velocity_correlation"] == UNCLEAR
    assert verdicts(run(0.50), run(0.45))["velocity_correlation"] == BETTER
    assert verdicts(run(0.45), run(0.45))["velocity_correlation"] == UNCLEAR


@pytest.mark.parametrize(("now", "verdict"), [(0.2, REGRESSION), (1.9, REGRESSION), (1.05, BETTER), (1.12, WORSE)])
def test_flat_and_wild_are_both_worse(now: float, verdict: str) -> None:
    assert verdicts(run(0.4, now), run(0.4, 0.9))["velocity_spread"] == verdict


def test_a_constant_prediction_is_no_way_out() -> None:
    flat = measures_frame(
        [row(p, "velocity", "correlation", math.nan, undefined="constant prediction") for p in PIECES]
    )
    found = regression(flat, run(0.45), [("ours", "ours")], DEFAULT, seed=1)
    assert found["comparisons"][0]["after"] == 0
    assert found["comparisons"][0]["verdict"] == REGRESSION
    constant_human = measures_frame(
        [row(p, "velocity", "correlation", math.nan, undefined="constant reference") for p in PIECES]
    )
    assert verdicts(constant_human, run(0.45)) == {}


def test_only_what_both_know_is_compared() -> None:
    easy = run(0.9, human="newcomer")
    now = pl.concat([run(0.45), easy]).filter(pl.col("piece") != "p03")
    found = regression(now, run(0.45), [("ours", "ours")], DEFAULT, seed=1)
    velocity = next(c for c in found["comparisons"] if c["figure"] == "velocity_correlation")
    assert velocity["change"] == pytest.approx(0)
    assert len(velocity["pieces"]) == 11


def test_a_lost_piece_is_a_regression() -> None:
    def without(*pieces: str) -> pl.DataFrame:
        return run(0.45).filter(~pl.col("piece").is_in(pieces))

    found = regression(without("p03"), run(0.45), [("ours", "ours")], DEFAULT, seed=1)
    found["baseline"] = {"name": "last week"}
    assert not found["passed"]
    assert found["lost"] == [{"system": "ours", "corpus": "C", "piece": "p03"}]
    remedy = "Render them too, or compare with a baseline of the same pieces"
    assert told(found) == [f"1 of 12 pieces of the baseline have no figures of ours now: C/p03. {remedy}"]
    assert headline(found) == "Pieces of baseline last week are lost; no other regression: 3 figures on 11 pieces."
    many = regression(without(*PIECES[:7]), run(0.6), [("ours", "ours")], DEFAULT, seed=1)
    many["baseline"] = {"name": "last week"}
    assert told(many)[0].endswith(f"C/p03, C/p04 and 2 more. {remedy}")
    assert headline(many).endswith("1 of 3 figures on 5 pieces. Pieces are lost.")
    every = regression(without(*PIECES), run(0.6), [("ours", "ours")], DEFAULT, seed=1)
    every["baseline"] = {"name": "last week"}
    assert headline(every) == "All pieces of baseline last week are lost."
    assert told(every)[0].startswith("12 of 12 pieces of the baseline have no figures of ours now: C/p00")
    both = regression(without("p03"), without("p03"), [("ours", "ours")], DEFAULT, seed=1)
    assert (both["passed"], both["lost"]) == (True, [])
    gained = regression(run(0.45), without("p03"), [("ours", "ours")], DEFAULT, seed=1)
    assert (gained["passed"], gained["lost"]) == (True, [])


def test_inter_onset_intervals_are_watched() -> None:
    before = measures_frame([row(p, "log_ioi", "correlation", 0.3) for p in PIECES])
    now = before.with_columns(pl.col("value") - 0.05)
    assert verdicts(now, before) == {"log_ioi_correlation": REGRESSION}
    assert verdicts(now, before, Tolerance(correlation=0.06)) == {"log_ioi_correlation": WORSE}


def test_one_piece_proves_nothing() -> None:
    one = pl.col("piece") == "p00"
    found = regression(run(0.1).filter(one), run(0.6).filter(one), [("ours", "ours")], DEFAULT, seed=1)
    velocity = next(c for c in found["comparisons"] if c["figure"] == "velocity_correlation")
    assert (velocity["low"], velocity["verdict"]) == (None, UNCLEAR)
    assert found["passed"]


def test_synthetic_pieces_do_not_judge_a_model() -> None:
    now = pl.concat([run(0.45), run(0.0, synthetic=True, corpus="MADE")])
    assert (
        verdicts(now, pl.concat([run(0.45), run(0.9, synthetic=True, corpus="MADE")]))["velocity_correlation"]
        == UNCLEAR
    )
    alone = regression(run(0.0, synthetic=True), run(0.9, synthetic=True), [("ours", "ours")], DEFAULT, seed=1)
    assert not alone["passed"]  # where there is nothing else, they are compared


def test_it_is_told_in_words() -> None:
    found = regression(run(0.30), run(0.45), [("ours", "ours")], DEFAULT, seed=1)
    found["baseline"] = {"name": "last week"}
    (line,) = told(found, most=1)
    assert line.startswith("Velocity correlation of ours: ")
    assert "(-0.150, 95 % -0.150 ... -0.150; tolerance 0.03); worst on C/p" in line
    assert headline(found) == "Worse than baseline last week beyond tolerance: 1 of 3 figures on 12 pieces."


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_tolerance_is_a_number(value: float) -> None:
    with pytest.raises(InputError, match=r"tolerance\.spread"):
        Tolerance(spread=value)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(-0.5, 0.5))
def test_a_run_is_never_worse_than_itself_and_order_is_nothing(values: list[float], shift: float) -> None:
    before = measures_frame([row(f"p{k}", "velocity", "correlation", v) for k, v in enumerate(values)])
    now = before.with_columns(pl.col("value") + shift)
    assert set(verdicts(before, before).values()) == {UNCLEAR}
    told_of = [regression(f, before, [("ours", "ours")], DEFAULT, seed=1) for f in (now, now.reverse())]
    assert told_of[0]["passed"] == told_of[1]["passed"] == (shift > -0.03 - 1e-9)


def test_the_mean_of_a_piece_is_over_samples_then_humans() -> None:
    figure = MAIN_FIGURES[0]
    frame = measures_frame(
        [
            row("p", "velocity", "correlation", v, human=h, sample=s)
            for h, s, v in [("a", 0, 0.2), ("a", 1, 0.4), ("b", 0, 0.9)]
        ]
    )
    assert by_piece(by_human(frame, "ours", figure)) == {("C", "p"): pytest.approx(0.6)}
