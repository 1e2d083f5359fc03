"""Renders of validation windows while a model is trained, and the criterion that decides which model is best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pretty_midi
import pytest
import torch
from torch import Tensor, nn

from dexter_model.expression.config import DenoiserConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.data import ResidentNotes
from dexter_model.expression.train_arrays import train_on_arrays
from dexter_model.expression.validation import RenderedWindows
from dexter_model.notes import SCORE_NOTE
from dexter_model.training.checkpoint import load_checkpoint
from dexter_model.training.run import BEST

CONFIG = ExpressionConfig(
    DenoiserConfig(channels=8, layers=2, window=16, target="x_0"),
    training=TrainingConfig(steps=6, batch_size=4, validate_every=3, rendered_windows=5, seed=3),
)


def piece(notes: int, performances: int, seed: int) -> SimpleNamespace:
    """Two notes an onset, a beat apart, as a person might play them."""
    rng = np.random.default_rng(seed)
    score = np.zeros(notes, SCORE_NOTE)
    score["onset_div"] = np.arange(notes) // 2 * 4
    score["onset_beat"], score["duration_beat"] = np.arange(notes) // 2, 1.0
    score["pitch"] = 60 + 12 * (np.arange(notes) % 2) + rng.integers(0, 12, notes)
    codec = np.tile([0.5, 0.6, 0.0, 0.0, 0.3], (performances, notes, 1)).astype(np.float32)
    codec[..., 0] *= 2 ** np.repeat(rng.normal(0, 0.3, (performances, (notes + 1) // 2)), 2, axis=1)[:, :notes]
    codec[..., 1] += rng.normal(0, 0.1, (performances, notes))
    codec[..., 2:] += rng.normal(0, 0.02, (performances, notes, 3))
    heard = rng.normal(size=(performances, notes, 7)).astype(np.float32)
    return SimpleNamespace(
        score=score,
        performance=codec,
        matched=rng.random((performances, notes)) > 0.1,
        perceptual_notes=lambda *, delta: heard,
    )


def rendered(config: ExpressionConfig = CONFIG) -> tuple[RenderedWindows, ResidentNotes]:
    notes = ResidentNotes.from_pieces([piece(40, 2, 0), piece(11, 1, 1)], config.denoiser)
    statistics = notes.statistics(config.denoiser.codec_scale)
    return RenderedWindows(notes, notes.normalised(statistics), statistics, config), notes


class Oracle(nn.Module):
    """Knows the clean codecs, or is off by ``error`` standard deviations."""

    def __init__(self, clean_BN5: Tensor, error: float = 0.0) -> None:
        super().__init__()
        self.config, self.said = CONFIG.denoiser, clean_BN5 + error

    def forward(self, x_BN5: Tensor, t_B: Tensor, condition_BNR: Tensor) -> Tensor:
        return self.said


@pytest.mark.parametrize("scale", ["published", "robust"])
def test_a_model_that_knows_the_performances_has_no_loss(scale: Any, tmp_path: Path) -> None:
    renders, notes = rendered(replace(CONFIG, denoiser=replace(CONFIG.denoiser, codec_scale=scale)))
    evaluation = renders(Oracle(renders.windows.x0_BN5), tmp_path / "step")
    assert evaluation.criterion == pytest.approx(0.0, abs=1e-2)
    assert evaluation.measures["Val/tempo_vel_correlation"] == pytest.approx(2.0, abs=1e-3)
    assert len(renders.scores) == 5
    assert sum(renders.sizes) <= len(notes.codec)


def test_the_criterion_by_hand(tmp_path: Path) -> None:
    """Off by 0.1 s a beat and 10 steps of MIDI velocity everywhere."""
    renders, _ = rendered()
    std = renders.statistics.std
    off = torch.tensor([0.1 / std[0], 10 / 127 / std[1], 0.0, 0.0, 0.0])
    evaluation = renders(Oracle(renders.windows.x0_BN5 + off), tmp_path)
    expected = []
    for human, played, score in zip(renders.human, renders.played, renders.scores, strict=True):
        onset = score.notes["onset_beat"]
        periods = [human[: len(onset)][(onset == u) & played[: len(onset)], 0] for u in np.unique(onset)]
        means = np.array([period.mean() for period in periods if len(period)])
        expected.append(np.abs(60 / (means + 0.1) - 60 / means).mean())
    assert evaluation.measures["Val/velocity_loss"] == pytest.approx(10.0, rel=1e-3)
    assert evaluation.measures["Val/tempo_loss"] == pytest.approx(np.mean(expected), rel=1e-3)
    assert evaluation.criterion == pytest.approx(np.mean(expected) + 10.0, rel=1e-3)


def test_renders_are_kept_and_drawn(tmp_path: Path) -> None:
    renders, _ = rendered()
    evaluation = renders(Oracle(renders.windows.x0_BN5), tmp_path / "step")
    image = evaluation.images["Val/curves"]
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.std() > 1  # something is drawn
    with np.load(tmp_path / "step" / "renders.npz", allow_pickle=False) as kept:
        assert kept["predicted"].shape == kept["human"].shape == (5, 16, 5)
        assert kept["notes"].tolist() == renders.sizes
    files = sorted((tmp_path / "step").glob("*.mid"))
    assert len(files) == 4
    heard = pretty_midi.PrettyMIDI(str(files[0]))
    assert len(heard.instruments[0].notes) == renders.sizes[0]


def test_validation_is_the_same_every_time_and_worse_models_are_told(tmp_path: Path) -> None:
    renders, _ = rendered()
    clean = renders.windows.x0_BN5
    once, again, worse = (
        renders(Oracle(clean, error), tmp_path / str(index)) for index, error in enumerate((0.5, 0.5, 1.5))
    )
    assert once.measures == again.measures
    assert worse.criterion > once.criterion


@pytest.mark.parametrize("target", ["epsilon", "v", "mean"])
@pytest.mark.parametrize("network", ["diffwave", "unet"])
def test_training_validates_by_renders(tmp_path: Path, network: Any, target: Any) -> None:
    config = replace(CONFIG, denoiser=replace(CONFIG.denoiser, network=network, target=target, layers=1))
    notes = ResidentNotes.from_pieces([piece(40, 2, 0)], config.denoiser)
    result = train_on_arrays(notes, notes, config, tmp_path, dataset={})
    criteria = {row[0]: row[3] for row in result.history if row[3] is not None}
    assert list(criteria) == [3, 6]
    assert all(np.isfinite(list(criteria.values())))
    assert load_checkpoint(tmp_path / BEST).meta["step"] == min(criteria, key=lambda step: criteria[step] or 0.0)
    assert sorted(folder.name for folder in (tmp_path / "validation").iterdir()) == ["step_00000003", "step_00000006"]


def test_a_model_of_transfer_is_given_another_performance_to_start_from(tmp_path: Path) -> None:
    denoiser = replace(CONFIG.denoiser, perceptual="absolute")
    config = replace(CONFIG, denoiser=denoiser, training=replace(CONFIG.training, train_target="transfer"))
    renders, _ = rendered(config)
    assert renders.windows.partner_BN5 is not None
    assert torch.equal(renders.noise_BN5, renders.windows.partner_BN5)
    notes = ResidentNotes.from_pieces([piece(40, 2, 0), piece(11, 1, 1)], denoiser)
    result = train_on_arrays(notes, notes, config, tmp_path, dataset={})
    assert result.history[-1][3] is not None


@pytest.mark.parametrize("target", ["gen_noise", "transfer"])
def test_windows_of_which_nothing_was_played_are_not_rendered(target: Any, tmp_path: Path) -> None:
    denoiser = replace(CONFIG.denoiser, perceptual="absolute")
    config = replace(CONFIG, denoiser=denoiser, training=replace(CONFIG.training, train_target=target))
    begun = piece(40, 2, 0)
    begun.matched[0, 16:], begun.matched[:, 32:] = False, False  # one gave up after a window, the other after two
    training = ResidentNotes.from_pieces([piece(40, 2, 1)], denoiser)
    notes = ResidentNotes.from_pieces([begun], denoiser)
    statistics = notes.statistics()
    renders = RenderedWindows(notes, notes.normalised(statistics), statistics, config)
    assert len(renders) == len(renders.noise_BN5) == {"gen_noise": 3, "transfer": 2}[target]
    assert np.isfinite(train_on_arrays(training, notes, config, tmp_path / "some", dataset={}).history[-1][3] or np.nan)
    begun.matched[:] = False
    silent = ResidentNotes.from_pieces([begun], denoiser)
    *_, validation_loss, criterion = train_on_arrays(training, silent, config, tmp_path / "none", dataset={}).history[
        -1
    ]
    assert criterion == validation_loss
    assert not (tmp_path / "none" / "validation").exists()


def test_nothing_is_rendered_when_nothing_is_asked_for(tmp_path: Path) -> None:
    config = replace(CONFIG, training=replace(CONFIG.training, rendered_windows=0))
    notes = ResidentNotes.from_pieces([piece(40, 2, 0)])
    result = train_on_arrays(notes, notes, config, tmp_path, dataset={})
    assert result.history[-1][3] == result.history[-1][2]
    assert not (tmp_path / "validation").exists()
