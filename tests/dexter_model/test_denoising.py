"""The sampler at work as a moving picture: what it shows is what happened."""

from __future__ import annotations

import base64
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_renders import made_up_piece
from PIL import Image, ImageSequence
from tiny_models import write_random_checkpoint

from dexter_model.errors import InputError
from dexter_model.expression.config import TrainingConfig
from dexter_model.expression.plan import Render, Sampling, score_digest
from dexter_model.expression.rendering import perform, render
from dexter_model.report.denoising import FRAMES, NOTES, Trajectory, animation, excerpt, trajectory

PIECE = made_up_piece("a", seed=1)


def pictures(uri: str) -> list[np.ndarray]:
    kind, _, data = uri.partition(";base64,")
    assert kind == "data:image/webp"
    return [
        np.asarray(frame.convert("RGB"))
        for frame in ImageSequence.Iterator(Image.open(io.BytesIO(base64.b64decode(data))))
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("models") / "random")


def test_the_trajectory_ends_in_what_is_rendered(checkpoint: Path) -> None:
    score, sampling = excerpt(PIECE), Sampling(steps=4)
    path = trajectory(score, checkpoint, sampling)
    assert path.noisy.shape == path.clean.shape == (5, len(score.notes), 5)
    assert path.times[0] == 999
    assert path.times[-1] == 0
    assert np.array_equal(path.times, sorted(path.times, reverse=True))
    _, rendered = render(score, checkpoint, sampling)
    _, shown = perform(score, path.clean[-1])
    assert np.array_equal(rendered.p_codec, shown.p_codec)
    noise = Render(score, score_digest(score)).noise()
    assert np.corrcoef(path.noisy[0][:, 0], noise[:, 0])[0, 1] > 0.9999  # where it begins


@pytest.mark.parametrize("train_target", ["transfer", "gen_noise"])
def test_a_trajectory_starts_where_its_render_does(tmp_path: Path, train_target: Any) -> None:
    """Transfer at the source itself, which was its noise; a model of noise at the noised source."""
    model = write_random_checkpoint(tmp_path, training=TrainingConfig(train_target=train_target))
    score = excerpt(PIECE)
    source = PIECE.performance[0], PIECE.matched[0]
    path = trajectory(score, model, Sampling(steps=4, depth=0.5), source)
    again = trajectory(score, model, Sampling(steps=4, depth=0.5), source)
    np.testing.assert_array_equal(path.noisy, again.noisy)
    if train_target == "transfer":
        assert path.times[0] == 999
        np.testing.assert_allclose(path.noisy[0][:, 1], PIECE.performance[0][:, 1], atol=1e-6)
        with pytest.raises(InputError) as caught:
            trajectory(score, model, Sampling(steps=4))
        assert caught.value.code == "source_missing"
    else:
        assert path.times[0] == 499
        assert 0.1 < np.corrcoef(path.noisy[0][:, 1], PIECE.performance[0][:, 1])[0, 1] < 0.9


def test_a_mean_has_no_way_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        trajectory(excerpt(PIECE), write_random_checkpoint(tmp_path, target="mean"))
    assert caught.value.code == "nothing_to_show"


def test_an_excerpt_ends_with_a_chord() -> None:
    whole = excerpt(PIECE)
    assert np.array_equal(whole.note_id, PIECE.note_id)
    long = made_up_piece("b", seed=2)
    times = 4
    score = np.concatenate([long.score] * times)
    score["onset_div"] += np.repeat(np.arange(times), len(long.score)) * 1000
    ids = np.array([f"n{k}" for k in range(len(score))])
    cut = excerpt(type(long)(**vars(long) | {"score": score, "note_id": ids}))
    assert len(cut.notes) <= NOTES
    assert score["onset_div"][len(cut.notes)] > cut.notes["onset_div"][-1]


def test_the_picture_moves_and_its_last_frame_stands_still(checkpoint: Path) -> None:
    path = trajectory(excerpt(PIECE), checkpoint, Sampling(steps=6))
    moving, still = animation(PIECE, path)
    frames = pictures(moving)
    assert len(frames) == 7
    assert all((a != b).any() for a, b in itertools.pairwise(frames))
    assert all(frame.shape[1] > 800 for frame in frames)
    (last,) = pictures(still)
    assert np.array_equal(last, frames[-1])
    assert animation(PIECE, path) == (moving, still)


def test_of_many_steps_some_are_shown() -> None:
    steps = 300
    random = np.random.default_rng(0)
    codecs = np.stack(
        [PIECE.performance[0] + (steps - k) / steps * random.normal(0, 1, (len(PIECE.score), 5)) for k in range(steps)]
    )
    moving, _ = animation(PIECE, Trajectory(list(range(steps, 0, -1)), codecs, codecs))
    assert len(pictures(moving)) == FRAMES


def test_a_model_that_cannot_work_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        trajectory(excerpt(PIECE), write_random_checkpoint(tmp_path / "broken", scale=float("nan")), Sampling(steps=2))
    assert caught.value.code == "checkpoint_unusable"
