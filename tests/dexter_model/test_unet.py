"""The U-Net denoiser: its size, what padding does to it (nothing), and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.errors import InputError
from dexter_model.expression.condition import drop_condition
from dexter_model.expression.config import DenoiserConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.data import ResidentNotes
from dexter_model.expression.denoiser import build_denoiser
from dexter_model.expression.loss import diffusion_loss
from dexter_model.expression.sampling import load_denoiser, sample_windows
from dexter_model.expression.train_arrays import train_on_arrays
from dexter_model.expression.unet import DenoiserUnet, MaskedNorm
from dexter_model.notes import SCORE_NOTE
from dexter_model.training.checkpoint import load_checkpoint

PUBLISHED = DenoiserConfig(network="unet", channels=48, layers=3, perceptual="absolute")
SMALL = replace(PUBLISHED, channels=8, layers=2, window=16)


def lively(config: DenoiserConfig = SMALL) -> DenoiserUnet:
    """A U-Net whose zero-initialised output says something."""
    torch.manual_seed(0)
    model = DenoiserUnet(config).eval()
    torch.nn.init.normal_(model.output.weight, std=0.3)
    return model


def inputs(notes: int, rows: int = 11, windows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(notes)
    x = torch.randn(windows, notes, 5, generator=generator)
    return x, torch.arange(windows) * 400, torch.rand(windows, notes, rows, generator=generator)


def padded(values: Tensor, notes: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, notes - values.shape[1]))


def test_published_size_within_five_per_cent() -> None:
    with torch.device("meta"):
        model = build_denoiser(PUBLISHED)
    assert isinstance(model, DenoiserUnet)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(23_900_694, rel=0.05)


def test_an_untrained_unet_says_nothing() -> None:
    model = DenoiserUnet(SMALL)
    assert torch.equal(model(*inputs(16)), model.output.bias.expand(2, 16, 5))


@pytest.mark.parametrize("notes", [1, 2, 3, 7, 16, 33])
def test_any_number_of_notes(notes: int) -> None:
    with torch.no_grad():
        predicted = lively(replace(SMALL, layers=3))(*inputs(notes))
    assert predicted.shape == (2, notes, 5)
    assert bool(predicted.isfinite().all())


@pytest.mark.parametrize(("condition", "perceptual"), [("published", "none"), ("extended", "delta")])
def test_any_number_of_rows(condition: Any, perceptual: Any) -> None:
    model = lively(replace(SMALL, condition=condition, perceptual=perceptual))
    rows = model.null.rows.numel()
    with torch.no_grad():
        assert model(*inputs(16, rows)).shape == (2, 16, 5)


@pytest.mark.parametrize("notes", [5, 15, 16])
@torch.no_grad()
def test_how_far_a_window_is_padded_changes_nothing(notes: int) -> None:
    model, (x, t, condition) = lively(replace(SMALL, layers=3)), inputs(notes)
    condition[:, 0] = 0.0  # a first note may look like padding in its condition, and notes in between in all
    x[:, 3] = condition[:, 3] = 0.0
    alone = model(x, t, condition)
    for longer in (17, 24, 40):
        far = model(padded(x, longer), t, padded(condition, longer))[:, :notes]
        assert torch.allclose(far, alone, atol=2e-4)
        unknown = model(padded(x, longer), t, drop_condition(padded(condition, longer)))[:, :notes]
        assert torch.allclose(unknown, model(x, t, drop_condition(condition)), atol=2e-4)


def test_loss_does_not_see_what_lies_in_padding() -> None:
    config = ExpressionConfig(replace(SMALL, window=24))
    rng = np.random.default_rng(1)
    score = np.zeros(15, SCORE_NOTE)
    score["onset_div"], score["pitch"] = np.arange(15), rng.integers(40, 80, 15)
    features = rng.normal(size=(1, 15, 7)).astype(np.float32)
    piece = SimpleNamespace(
        score=score,
        performance=rng.normal(size=(1, 15, 5)),
        matched=np.ones((1, 15), bool),
        perceptual_notes=lambda delta: features,
    )
    notes = ResidentNotes.from_pieces([piece], config.denoiser)
    windows = notes.normalised(notes.statistics()).tiles(24, 1)
    elsewhere = windows._replace(x0_BN5=torch.where(windows.mask_BN[..., None], windows.x0_BN5, 99.0))
    losses = [
        diffusion_loss(lively(config.denoiser), each, noise_schedule(config.diffusion), config, generator)
        for each, generator in ((each, torch.Generator().manual_seed(3)) for each in (windows, elsewhere))
    ]
    assert losses[0] == losses[1]


@torch.no_grad()
def test_prediction_depends_on_everything_it_is_given() -> None:
    model, (x, t, condition) = lively(), inputs(16)
    told = model(x, t, condition)
    without_perceptual = condition.clone()
    without_perceptual[..., 4:] = math.nan
    for other in (
        model(x + 0.1, t, condition),
        model(x, t + 100, condition),
        model(x, t, condition * 0.5),
        model(x, t, without_perceptual),
        model(x, t, drop_condition(condition)),
    ):
        assert bool(other.isfinite().all())
        assert not torch.allclose(told, other, atol=1e-3)
    assert torch.allclose(model(x.flip(0), t.flip(0), condition.flip(0)), told.flip(0), atol=1e-5)


@torch.no_grad()
def test_each_note_sees_the_whole_window() -> None:
    model, (x, t, condition) = lively(), inputs(400)
    changed = x.clone()
    changed[:, -1] += 5.0
    assert bool((model(changed, t, condition)[:, 0] != model(x, t, condition)[:, 0]).any())


@torch.no_grad()
def test_norm_without_padding_is_group_norm() -> None:
    x, ours, theirs = torch.randn(2, 6, 9, 4), MaskedNorm(6), torch.nn.GroupNorm(1, 6)
    assert torch.allclose(ours(x, torch.ones(2, 1, 9, 1)), theirs(x), atol=1e-5)


def test_a_window_of_which_nothing_is_known_has_finite_gradients() -> None:
    """As the conditional mean is trained on windows whose condition was dropped."""
    model = lively()
    x, t, condition = inputs(16)
    model(torch.zeros_like(x), t, drop_condition(condition)).square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def test_sizes_that_cannot_be_are_told() -> None:
    for wrong in ({"layers": 12}, {"channels": 768}):
        with pytest.raises(InputError, match="published U-Net"):
            replace(PUBLISHED, **wrong)  # type: ignore[arg-type]


def test_one_window_can_be_learnt_by_heart(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    score = np.zeros(16, SCORE_NOTE)
    score["onset_div"], score["pitch"] = np.arange(16) * 4, rng.integers(30, 90, 16)
    piece = SimpleNamespace(score=score, performance=rng.normal(size=(1, 16, 5)), matched=np.ones((1, 16), bool))
    notes = ResidentNotes.from_pieces([piece])
    training = TrainingConfig(
        steps=40, batch_size=4, learning_rate=1e-2, ema_decay=0.9, log_every=40, condition_dropout=0.0, loss="l2"
    )  # fmt: skip
    config = ExpressionConfig(replace(SMALL, perceptual="none", target="x_0"), training=training)
    result = train_on_arrays(notes, None, config, tmp_path, dataset={})
    model, _, statistics = load_denoiser(load_checkpoint(result.checkpoint))
    window = notes.normalised(statistics).tiles(16, 1)
    noise = torch.randn(4, 16, 5, generator=torch.Generator().manual_seed(0))
    sampled = sample_windows(
        model,
        window.condition_BNR.expand(4, -1, -1),
        window.mask_BN.expand(4, -1),
        noise,
        schedule=noise_schedule(config.diffusion),
        steps=10,
        guidance=1.0,
    )
    assert float((sampled - window.x0_BN5).square().mean().sqrt()) < 0.1  # of a standard deviation
