"""The denoiser, its condition, its loss and its sampler."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dexter_model.diffusion.sampling import evaluation_times
from dexter_model.diffusion.schedule import NoiseSchedule, noise_from_x0, noise_schedule, v_from
from dexter_model.errors import InputError
from dexter_model.expression.condition import PERCEPTUAL_NULL, SCORE_NULL, drop_condition, score_condition, score_table
from dexter_model.expression.config import DenoiserConfig, DiffusionConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.data import LIMIT, Windows
from dexter_model.expression.denoiser import ClassifierFreeDenoiser, step_embedding
from dexter_model.expression.loss import diffusion_loss, unlearn
from dexter_model.expression.sampling import sample_windows
from dexter_model.notes import SCORE_NOTE

SMALL = DenoiserConfig(channels=16, layers=4, window=24)


def lively(config: DenoiserConfig = SMALL) -> ClassifierFreeDenoiser:
    """A denoiser whose zero-initialised output says something."""
    torch.manual_seed(0)
    model = ClassifierFreeDenoiser(config).eval()
    torch.nn.init.normal_(model.output.weight, std=0.3)
    return model


@pytest.fixture
def windows() -> Windows:
    generator = torch.Generator().manual_seed(5)
    mask = torch.ones(3, 24, dtype=torch.bool)
    mask[2, 15:] = False
    matched = mask.clone()
    matched[0, [3, 9]] = False
    table = torch.randint(0, 100, (3, 24, 4), generator=generator).float()
    codec = torch.randn(3, 24, 5, generator=generator) * mask[..., None]
    return Windows(codec, score_condition(table, mask), mask, matched)


@pytest.mark.parametrize(("channels", "parameters"), [(768, 62_407_685), (512, 29_000_709)])
def test_published_parameter_counts(channels: int, parameters: int) -> None:
    with torch.device("meta"):
        model = ClassifierFreeDenoiser(DenoiserConfig(channels=channels, layers=12))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_an_untrained_denoiser_says_nothing(windows: Windows) -> None:
    torch.manual_seed(0)
    model = ClassifierFreeDenoiser(SMALL)
    predicted = model(torch.randn(3, 24, 5), torch.tensor([0, 500, 999]), windows.condition_BNR)
    assert predicted.shape == (3, 24, 5)
    assert model.output.bias is not None
    assert torch.equal(predicted, model.output.bias.expand(3, 24, 5))


def test_items_of_a_batch_do_not_see_each_other(windows: Windows) -> None:
    model, t, order = lively(), torch.tensor([5, 400, 999]), torch.tensor([2, 0, 1])
    x = torch.randn(3, 24, 5)
    together = model(x, t, windows.condition_BNR)
    permuted = model(x[order], t[order], windows.condition_BNR[order])
    assert torch.allclose(permuted, together[order], atol=1e-5)


def test_prediction_depends_on_step_and_score(windows: Windows) -> None:
    model, x = lively(), torch.randn(3, 24, 5)
    early, late = (model(x, torch.full((3,), t), windows.condition_BNR) for t in (10, 900))
    unknown = model(x, torch.full((3,), 10), drop_condition(windows.condition_BNR))
    assert not torch.allclose(early, late, atol=1e-3)
    assert not torch.allclose(early, unknown, atol=1e-3)


def test_step_embedding_by_hand() -> None:
    embedding = step_embedding(torch.tensor([0, 999]))
    assert embedding.shape == (2, 128)
    assert embedding[0].tolist() == [0.0] * 64 + [1.0] * 64
    assert float(embedding[1, 0]) == pytest.approx(np.sin(999.0), abs=1e-6)
    assert float(embedding[1, 63]) == pytest.approx(np.sin(9.99e6), abs=1e-6)


def test_condition_is_scaled_over_real_notes_only() -> None:
    table = torch.tensor([[[10.0, 5.0], [20.0, 5.0], [30.0, 5.0], [999.0, -999.0]]])
    scaled = score_condition(table, torch.tensor([[True, True, True, False]]))
    assert scaled[0, :, 0].tolist() == [0.0, 0.5, 1.0, 0.0]
    assert scaled[0, :, 1].tolist() == [0.0] * 4


def test_condition_columns_are_the_published_four() -> None:
    notes = np.zeros((2, 3), SCORE_NOTE)
    notes["onset_div"], notes["pitch"], notes["voice"] = 7, 60, 2
    assert score_table(notes).tolist() == [[[7, 0, 60, 2]] * 3] * 2


@pytest.mark.parametrize("null", ["fixed", "trainable"])
def test_what_is_not_known_is_the_null_condition(null: str) -> None:
    """Row by row: the network's own constants, which no known condition equals; trainable ones get gradients."""
    config = replace(SMALL, perceptual="delta", null=null)  # type: ignore[arg-type]
    model, x = lively(config), torch.randn(2, 24, 5)
    condition = torch.rand(2, 24, 4 + 7)
    condition[0, :, 4:] = torch.nan
    condition[1, 5:9, 6] = torch.nan
    spelled_out = condition.clone()
    spelled_out[0, :, 4:], spelled_out[1, 5:9, 6] = PERCEPTUAL_NULL, PERCEPTUAL_NULL
    t = torch.tensor([3, 700])
    assert torch.equal(model(x, t, condition), model(x, t, spelled_out))
    everything = model.null(drop_condition(condition))
    assert bool((everything[..., :4] == SCORE_NULL).all())
    assert bool((everything[..., 4:] == PERCEPTUAL_NULL).all())
    model(x, t, condition).sum().backward()
    trained = [name for name, weight in model.named_parameters() if name.startswith("null")]
    assert trained == (["null.rows"] if null == "trainable" else [])
    if null == "trainable":
        gradient = model.null.rows.grad
        assert gradient is not None
        assert (gradient != 0).tolist() == [False] * 4 + [True] * 7


@pytest.mark.parametrize(("share", "expected"), [("condition_dropout", 1.0), ("perceptual_dropout", 7 / 11)])
def test_parts_of_the_condition_are_dropped_as_often_as_asked(share: str, expected: float) -> None:
    """Whole samples: either all rows of a window, or its perceptual part; single features on their own."""
    shares = {"condition_dropout": 0.0, "perceptual_dropout": 0.0, share: 0.25}
    config = ExpressionConfig(replace(SMALL, perceptual="delta"), training=TrainingConfig(**shares))  # type: ignore[arg-type]
    dropped = unlearn(torch.zeros(4000, 3, 11), config, torch.Generator().manual_seed(0)).isnan()
    per_window = dropped.float().mean(dim=(1, 2))
    assert per_window.unique().tolist() == pytest.approx([0.0, expected])
    assert float((per_window > 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    single = ExpressionConfig(
        replace(SMALL, perceptual="delta"),
        training=TrainingConfig(condition_dropout=0.0, perceptual_dropout=0.0, feature_dropout=0.3),
    )
    features = unlearn(torch.zeros(4000, 3, 11), single, torch.Generator().manual_seed(0)).isnan()
    assert not bool(features[..., :4].any())
    assert features[:, 0, 4:].float().mean(dim=0).tolist() == pytest.approx([0.3] * 7, abs=0.03)
    assert torch.equal(features[:, 0], features[:, 2])


def test_null_condition_is_one_and_the_same_in_training_and_sampling(windows: Windows) -> None:
    seen: list[Tensor] = []

    class Spy(torch.nn.Module):
        config = SMALL

        def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
            seen.append(condition)
            return x

    config = ExpressionConfig(SMALL, training=TrainingConfig(condition_dropout=0.999))
    diffusion_loss(Spy(), windows, noise_schedule(config.diffusion), config, torch.Generator().manual_seed(0))
    noise, schedule = torch.randn(3, 24, 5), noise_schedule(config.diffusion)
    spy: Any = Spy()
    sample_windows(spy, windows.condition_BNR, windows.mask_BN, noise, schedule=schedule, steps=1, guidance=1.2)
    trained, conditional, unconditional = seen
    assert bool(trained.isnan().all())
    assert bool(unconditional.isnan().all())
    assert torch.equal(conditional, windows.condition_BNR)


@pytest.mark.parametrize("target", ["epsilon", "x_0", "ex_0", "v", "mean"])
@pytest.mark.parametrize("loss", ["l1", "l2", "huber"])
def test_rows_nobody_played_have_no_gradient(windows: Windows, target: str, loss: str) -> None:
    config = ExpressionConfig(DenoiserConfig("diffwave", 16, 4, 24, target=target), training=TrainingConfig(loss=loss))  # type: ignore[arg-type]
    predicted = torch.randn(3, 24, 5, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    diffusion_loss(lambda *_: predicted, windows, noise_schedule(config.diffusion), config, generator).backward()
    gradient = predicted.grad
    assert gradient is not None
    assert bool((gradient[~windows.matched_BN] == 0).all())
    assert bool((gradient[windows.matched_BN] != 0).any(dim=1).all())


def test_loss_of_a_perfect_prediction_is_nothing(windows: Windows) -> None:
    config = ExpressionConfig(DenoiserConfig("diffwave", 16, 4, 24, target="x_0"))
    schedule, generator = noise_schedule(config.diffusion), torch.Generator().manual_seed(0)
    assert float(diffusion_loss(lambda *_: windows.x0_BN5, windows, schedule, config, generator)) == 0.0


@pytest.mark.parametrize("target", ["epsilon", "ex_0", "v"])
def test_loss_of_the_true_noise_or_velocity_is_nothing(windows: Windows, target: str) -> None:
    """Whoever sees the schedule and the truth can say what would be right; padding is exempt."""
    config = ExpressionConfig(DenoiserConfig("diffwave", 16, 4, 24, target=target))  # type: ignore[arg-type, misc]
    schedule, generator = noise_schedule(config.diffusion), torch.Generator().manual_seed(0)

    def oracle(x_t: Tensor, t_B: Tensor, condition: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar_T[t_B]
        noise = noise_from_x0(x_t, windows.x0_BN5, alpha_bar)
        return v_from(windows.x0_BN5, noise, alpha_bar) if target == "v" else noise

    assert float(diffusion_loss(oracle, windows, schedule, config, generator)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("target", ["epsilon", "x_0", "ex_0", "v"])
@pytest.mark.parametrize("steps", [1000, 1500])
def test_the_noisier_published_schedule_has_a_finite_loss_and_is_sampled_from_its_end(
    windows: Windows, target: str, steps: int
) -> None:
    """Variances up to 0.2, as some published runs have them, leave no signal that float32 could hold."""
    config = ExpressionConfig(replace(SMALL, target=target), DiffusionConfig(steps, 1e-4, 0.2))  # type: ignore[arg-type]
    schedule, generator = noise_schedule(config.diffusion), torch.Generator().manual_seed(0)
    last = NoiseSchedule(schedule.beta_T[-1:], schedule.alpha_bar_T[-1:])  # all windows at the noisy end
    for part in (schedule, last):
        assert bool(diffusion_loss(lively(), windows, part, config, generator).isfinite())
    for sampler in ("ddim", "dpm-solver++"):
        first = evaluation_times(schedule, sampler, 10)[0]
        assert schedule.alpha_bar_T[first] == schedule.alpha_bar_T[-1]  # pure noise, as at T - 1


def test_transfer_starts_at_the_partner_instead_of_noise(windows: Windows) -> None:
    """At the last time what the network sees is the partner's codec."""
    seen: list[Tensor] = []

    def spy(x_t: Tensor, t_B: Tensor, condition: Tensor) -> Tensor:
        seen.append(x_t[t_B == t_B.max()][0])
        return x_t

    partner = torch.full_like(windows.x0_BN5, 2.0) * windows.mask_BN[..., None]
    config = ExpressionConfig(DenoiserConfig("diffwave", 16, 4, 24, target="x_0"), DiffusionConfig(1000, 0.5, 0.9))
    paired = windows._replace(partner_BN5=partner)
    diffusion_loss(spy, paired, noise_schedule(config.diffusion), config, torch.Generator().manual_seed(0))
    assert seen[0].unique().tolist() == pytest.approx([2.0], abs=1e-3) or 0.0 in seen[0].unique().tolist()


def test_column_weights_of_the_reconstruction_by_hand(windows: Windows) -> None:
    off = windows.x0_BN5.clone()
    off[..., 1] += 1.0
    for weights, expected in (((1.0,) * 5, 0.2), ((0.0, 1.0, 0.0, 0.0, 0.0), 1.0), ((1.0, 0.0, 1.0, 1.0, 1.0), 0.0)):
        training = TrainingConfig(recon_loss_weight=1.0, column_weights=weights)
        config = ExpressionConfig(DenoiserConfig("diffwave", 16, 4, 24, target="x_0"), training=training)
        schedule, generator = noise_schedule(config.diffusion), torch.Generator().manual_seed(0)
        loss = diffusion_loss(lambda *_: off, windows, schedule, config, generator)
        assert float(loss) == pytest.approx(0.2 + expected)  # the L1 term, and this one


def test_loss_by_hand(windows: Windows) -> None:
    """x_0 target, L1: mean |error| plus 0.2 mean error^2, over played rows."""
    config = ExpressionConfig(DenoiserConfig("diffwave", 16, 4, 24, target="x_0"))
    schedule, generator = noise_schedule(config.diffusion), torch.Generator().manual_seed(0)
    off = windows.x0_BN5 + 0.5
    loss = diffusion_loss(lambda *_: off, windows, schedule, config, generator)
    assert float(loss) == pytest.approx(0.5 + 0.2 * 0.25)


def test_sampling_is_deterministic_bounded_and_blind_to_padding(windows: Windows) -> None:
    model, schedule = lively(), noise_schedule(ExpressionConfig().diffusion)
    noise = torch.randn(3, 24, 5, generator=torch.Generator().manual_seed(1))
    condition, mask = windows.condition_BNR, windows.mask_BN

    def sample(noise: Tensor, guidance: float = 1.2) -> Tensor:
        return sample_windows(model, condition, mask, noise, schedule=schedule, steps=5, guidance=guidance)

    once = sample(noise)
    assert torch.equal(once, sample(noise))
    assert bool((once[~mask] == 0).all())
    assert float(once.abs().max()) <= LIMIT
    elsewhere = noise.clone()
    elsewhere[~mask] = 77.0
    assert torch.equal(once, sample(elsewhere))
    assert not torch.allclose(once, sample(noise, guidance=3.0), atol=1e-3)


def test_settings_from_outside_are_bounded() -> None:
    config = ExpressionConfig.from_dict({"denoiser": {"channels": 32}})
    assert ExpressionConfig.from_dict(config.to_dict()) == config
    for values in (
        {"denoiser": {"channels": 10**9}},
        {"denoiser": {"layers": 10**9}},
        {"denoiser": {"chanels": 3}},
        {"denoiser": {"channels": "many"}},
        {"diffusion": {"beta_start": 0.5}},
        {"training": {"loss": "cosine"}},
        {"denoiser": 3},
    ):
        with pytest.raises(InputError) as caught:
            ExpressionConfig.from_dict(values)  # type: ignore[arg-type]
        assert caught.value.code == "config_invalid"
