"""Renders that are steered, start from a performance, or are to sound like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import music21
import numpy as np
import pytest
from made_up_renders import made_up_piece, publish
from tiny_models import write_random_checkpoint

from dexter_model.codec.files import load_codec
from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError
from dexter_model.expression.config import TrainingConfig
from tasks.controls import Controls
from tasks.render import RenderResult, RenderSettings, render_scores, render_split

SCORE = Path(music21.__file__).parent / "corpus/bach/bwv66.6.mxl"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    transfer = TrainingConfig(train_target="transfer")
    return {
        "plain": write_random_checkpoint(folder / "plain"),
        "steerable": write_random_checkpoint(folder / "steerable", perceptual="delta"),
        "transfer": write_random_checkpoint(folder / "transfer", training=transfer, perceptual="delta"),
    }


def rendered(out: Path, model: Path, controls: Controls | None = None, **how: Any) -> RenderResult:
    settings = RenderSettings(checkpoint=model, controls=controls or Controls(), **{"steps": 2, **how})
    return render_scores([SCORE], out, settings)


def codec_of(result: RenderResult) -> np.ndarray:
    return load_codec(Path(result.folder) / result.renders[0]["codec"]).p_codec


@pytest.fixture(scope="module")
def played(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RenderResult:
    """A performance of the score, as MIDI and as a codec."""
    return rendered(tmp_path_factory.mktemp("played"), models["plain"], seed=99)


def test_steering_is_heard_and_recorded_and_decides_what_is_made(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("fraction,minorness\n0,-1\n1,1\n")
    asked = Controls({"articulation": "more", "dissonance": -0.5}, str(tmp_path / "curve.csv"))
    plain = codec_of(rendered(tmp_path / "plain", models["steerable"]))
    steered = rendered(tmp_path / "steered", models["steerable"], asked)
    assert not np.array_equal(codec_of(steered), plain)
    content = json.loads((tmp_path / "steered/renders.json").read_text())
    assert content["perceptual_std"] == [1.0] * 7  # what steering is in
    assert content["controls"] == {
        "steer": {"articulation": "more", "dissonance": -0.5},
        "steer_curve": str(tmp_path / "curve.csv"),
    }
    assert rendered(tmp_path / "steered", models["steerable"], asked).made == 0
    (tmp_path / "curve.csv").write_text("fraction,minorness\n0,-1\n1,0.5\n")
    assert rendered(tmp_path / "steered", models["steerable"], asked).made == 1


@pytest.mark.parametrize("asked", [Controls({"articulation": 1}), Controls(like="x.mid"), Controls(source="x.npz")])
def test_what_the_checkpoint_cannot_do_is_told(models: dict[str, Path], tmp_path: Path, asked: Controls) -> None:
    with pytest.raises(InputError) as caught:
        rendered(tmp_path, models["plain"], asked)
    assert caught.value.code == ("codec_unreadable" if asked.source else "not_steerable")


def test_how_much_of_the_source_stays_is_a_matter_of_depth(
    models: dict[str, Path], played: RenderResult, tmp_path: Path
) -> None:
    source = codec_of(played)
    far = []
    for depth in (0.0, 0.25, 0.5, 1.0):
        controls = Controls(source=str(Path(played.folder) / played.renders[0]["codec"]))
        result = rendered(tmp_path / str(depth), models["plain"], controls, depth=depth)
        far.append(float(np.abs(codec_of(result)[:, 1] - source[:, 1]).mean()))
    assert far == sorted(far)
    assert far[0] < 0.005 < far[1] * 2 < far[3]


def test_depth_without_a_source_is_of_nothing(models: dict[str, Path], played: RenderResult, tmp_path: Path) -> None:
    assert rendered(tmp_path, models["plain"]).made == 1
    assert rendered(tmp_path, models["plain"], depth=0.1).made == 0
    assert "depth" not in json.loads((tmp_path / "renders.json").read_text())
    controls = Controls(source=str(Path(played.folder) / played.renders[0]["codec"]))
    assert rendered(tmp_path, models["plain"], controls, depth=0.1).made == 1
    assert json.loads((tmp_path / "renders.json").read_text())["depth"] == 0.1
    assert rendered(tmp_path, models["plain"], controls, depth=0.2).made == 1
    assert rendered(tmp_path / "t", models["transfer"], controls, depth=0.1).made == 1
    assert rendered(tmp_path / "t", models["transfer"], controls, depth=0.2).made == 0  # nothing is noised


def test_a_source_may_be_midi_without_an_alignment(
    models: dict[str, Path], played: RenderResult, tmp_path: Path
) -> None:
    """Nearly all notes are found again, though a random network plays them wildly."""
    controls = Controls(source=str(Path(played.folder) / played.renders[0]["midi"]))
    result = rendered(tmp_path, models["plain"], controls, depth=0.0)
    assert np.isclose(codec_of(result)[:, 1], codec_of(played)[:, 1], atol=0.01).mean() > 0.9


def test_another_pieces_performance_is_told(models: dict[str, Path], played: RenderResult, tmp_path: Path) -> None:
    other = SCORE.with_name("bwv269.mxl")
    settings = RenderSettings(
        checkpoint=models["plain"], controls=Controls(source=str(Path(played.folder) / played.renders[0]["midi"]))
    )
    with pytest.raises(InputError) as caught:
        render_scores([other], tmp_path, settings)
    assert caught.value.code in ("other_score", "no_matches")
    with pytest.raises(InputError, match="one score"):
        render_scores([SCORE, other], tmp_path, settings)


def test_transfer_starts_from_the_source_without_noise(
    models: dict[str, Path], played: RenderResult, tmp_path: Path
) -> None:
    source = str(Path(played.folder) / played.renders[0]["codec"])
    more = Controls({"articulation": "more"}, source=source)
    first, again, other = (
        codec_of(rendered(tmp_path / name, models["transfer"], controls, seed=seed))
        for name, controls, seed in (("1", more, 1), ("2", more, 2), ("3", Controls(source=source), 1))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(InputError, match="--source"):
        rendered(tmp_path / "4", models["transfer"])
    with pytest.raises(InputError, match="draws noise"):
        rendered(tmp_path / "5", models["transfer"], more, sampler="ddpm")


def test_a_model_to_sound_like(models: dict[str, Path], played: RenderResult, tmp_path: Path) -> None:
    """Its features are estimated; in transfer the condition is how they differ from the source's."""
    like = str(Path(played.folder) / played.renders[0]["midi"])
    unsteered = codec_of(rendered(tmp_path / "0", models["steerable"]))
    assert not np.array_equal(codec_of(rendered(tmp_path / "1", models["steerable"], Controls(like=like))), unsteered)
    itself = codec_of(rendered(tmp_path / "2", models["transfer"], Controls(source=like, like=like)))
    level = Controls(dict.fromkeys(("articulation", "minorness"), "normal"), source=like)
    np.testing.assert_allclose(itself, codec_of(rendered(tmp_path / "3", models["transfer"], level)), atol=1e-5)


def test_pieces_of_a_split_name_their_performances_by_number(models: dict[str, Path], tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    publish(store, [made_up_piece("two", performers=2), made_up_piece("one", performers=1, seed=1)])
    kept, refused = [], []
    for split in sorted({row["split"] for row in open_version(store).catalogue.iter_rows(named=True)}):
        settings = RenderSettings(steps=2, checkpoint=models["plain"], depth=0.0, controls=Controls(source="1"))
        result = render_split(store, split, tmp_path / split, settings)
        kept += [row["piece"] for row in result.renders]
        refused += [row["code"] for row in result.quarantined]
        for row in result.renders:
            assert (row["source"], "like" in row) == ("two/p1.mid", False)
            human = next(p for p in open_version(store).pieces(split) if p.key == row["piece"]).performance[1]
            made = load_codec(tmp_path / split / row["codec"]).p_codec
            np.testing.assert_allclose(made[:, 1], human[:, 1], atol=0.02)
    assert (kept, refused) == (["two"], ["missing_performance"])
    with pytest.raises(InputError, match="a data set is rendered"):
        render_split(store, split, tmp_path / "x", RenderSettings(controls=Controls(source="x.mid")))
