"""Steering: levels, curves over a piece, and the perceptual rows that a model is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dexter_model.errors import InputError
from dexter_model.expression.config import DenoiserConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.steering import Curve, levels, load_curve, perceptual_rows
from dexter_model.notes import PERCEPTUAL_FEATURES

STEERABLE = ExpressionConfig(DenoiserConfig(perceptual="delta"))
LEARNT_SINGLY = ExpressionConfig(DenoiserConfig(perceptual="delta"), training=TrainingConfig(feature_dropout=0.2))
ONSETS = np.array([-1.0, 0.0, 1.0, 3.0], np.float32)


def test_levels_are_words_or_standard_deviations() -> None:
    asked = dict(zip(PERCEPTUAL_FEATURES, ("less", "normal", "more", 1.5, "-2", "0.25", 3), strict=True))
    assert list(levels(asked).values()) == [-1.0, 0.0, 1.0, 1.5, -2.0, 0.25, 3.0]


@pytest.mark.parametrize(
    ("name", "level"), [("articulation", "a lot"), ("articulation", "nan"), ("articulation", 3.5), ("loudness", 1)]
)
def test_levels_that_are_none_are_told(name: str, level: str | float) -> None:
    with pytest.raises(InputError, match=f"--steer {name}={level}") as caught:
        levels({name: level})
    assert caught.value.code == "option_invalid"


def test_a_curve_is_linear_between_its_points_and_level_beyond(tmp_path: Path) -> None:
    (tmp_path / "beats.csv").write_text("beat, articulation,minorness\n0,1,0\n\n2,-1,0.5\n")
    rows = load_curve(tmp_path / "beats.csv").rows(ONSETS)
    np.testing.assert_allclose(rows["articulation"], [1, 1, 0, -1])
    np.testing.assert_allclose(rows["minorness"], [0, 0, 0.25, 0.5])
    (tmp_path / "fractions.csv").write_text("fraction,articulation\n0,0\n1,1\n")
    np.testing.assert_allclose(load_curve(tmp_path / "fractions.csv").rows(ONSETS)["articulation"], [0, 0.25, 0.5, 1])
    assert load_curve(tmp_path / "fractions.csv").rows(ONSETS[:1])["articulation"].tolist() == [0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "beat\n0\n",
        "seconds,articulation\n0,1\n",
        "beat,loudness\n0,1\n",
        "beat,articulation,articulation\n0,1,1\n",
        "beat,articulation\n",
        "beat,articulation\n0\n",
        "beat,articulation\n0,1\n0,2\n",
        "beat,articulation\n0,nan\n",
        "beat,articulation\n0,4\n",
        "beat,articulation\n0,high\n",
        "\x00",
    ],
)
def test_what_is_no_curve_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "curve.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        load_curve(tmp_path / "curve.csv")
    assert caught.value.code == "curve_unreadable"
    with pytest.raises(InputError, match="No such file"):
        load_curve(tmp_path / "absent.csv")


def test_what_is_not_said_is_unknown_or_normal_as_the_model_was_trained() -> None:
    learnt, all_or_none = (
        perceptual_rows(ONSETS, config, asked={"rhythm_stability": 1.0}) for config in (LEARNT_SINGLY, STEERABLE)
    )
    assert learnt is not None
    assert all_or_none is not None
    column = PERCEPTUAL_FEATURES.index("rhythm_stability")
    assert learnt[:, column].tolist() == all_or_none[:, column].tolist() == [1.0] * 4
    assert bool(np.isnan(np.delete(learnt, column, axis=1)).all())
    assert bool((np.delete(all_or_none, column, axis=1) == 0).all())


def test_curves_go_before_levels_and_both_before_a_model_performance() -> None:
    like = np.tile(np.arange(7.0), (4, 1))
    curve = Curve("beat", np.array([0.0]), {"dissonance": np.array([-1.0])})
    asked = {"dissonance": 2.0, "minorness": 2.0}
    rows = perceptual_rows(ONSETS, STEERABLE, asked=asked, curve=curve, like=like)
    assert rows is not None
    assert rows.tolist() == [[0, 1, 2, 3, -1, 5, 2]] * 4


def test_nothing_asked_is_nothing_known() -> None:
    rows = perceptual_rows(ONSETS, STEERABLE, asked={})
    assert rows is not None
    assert bool(np.isnan(rows).all())
    assert perceptual_rows(ONSETS, ExpressionConfig(), asked={}) is None
