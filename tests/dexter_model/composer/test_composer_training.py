"""Training: its loss, its schedule, what validation tells, and runs that were interrupted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dexter_model.composer.config import REFERENCE, ComposerConfig, DataConfig, NetworkConfig, TrainingConfig
from dexter_model.composer.data import Batch, ResidentSegments
from dexter_model.composer.generation import Composer
from dexter_model.composer.loss import diffusion_loss, errors, noise_errors
from dexter_model.composer.plan import REFERENCE as AS_THE_ORIGINAL
from dexter_model.composer.plan import Composing
from dexter_model.composer.train_arrays import train_on_arrays
from dexter_model.diffusion.config import DiffusionConfig
from dexter_model.diffusion.schedule import linear_schedule
from dexter_model.errors import InputError
from dexter_model.notes import RECORDED_NOTE
from dexter_model.training.checkpoint import load_checkpoint, load_training_state
from dexter_model.training.loop import FitResult, Hooks, Progress, learning_rate

QUICK = TrainingConfig(
    steps=4, batch_size=4, validation_segments=4, log_every=1, validate_every=2, checkpoint_every=2, transpose=3
)
CONFIG = ComposerConfig(DataConfig(notes=16), NetworkConfig(channels=16, target="epsilon"), training=QUICK)


def split(config: ComposerConfig = CONFIG, seed: int = 0) -> ResidentSegments:
    rng = np.random.default_rng(seed)
    notes = np.zeros(200, RECORDED_NOTE)
    notes["pitch"] = rng.integers(40, 80, 200)
    notes["onset_sec"] = np.cumsum(rng.exponential(0.2, 200))
    notes["offset_sec"] = notes["sustained_sec"] = notes["onset_sec"] + rng.gamma(2.0, 0.2, 200)
    notes["onset_beat"], notes["offset_beat"] = notes["onset_sec"], notes["offset_sec"]
    return ResidentSegments.of([("piece", notes)], config.data)


def train(out: Path, config: ComposerConfig = CONFIG, **how: Any) -> FitResult:
    return train_on_arrays(split(config), split(config, 1), config, out, dataset={"digest": "1"}, **how)


def test_the_schedule_is_the_originals() -> None:
    alpha_bar = linear_schedule(1000, 1e-4, 0.02).alpha_bar_T
    golden = {0: 0.9999, 1: 0.99978009, 99: 0.89701815, 249: 0.52408537, 499: 0.07858724, 749: 0.00335055}
    golden |= {998: 4.11819e-5, 999: 4.03583e-5}
    for t, value in golden.items():
        assert float(alpha_bar[t]) == pytest.approx(value, rel=2e-5)


def test_the_learning_rate_falls_at_three_quarters_of_the_steps() -> None:
    config = ComposerConfig().training
    rates = [learning_rate(config, step) for step in (1, 150_000, 150_001, 200_000)]
    assert rates == [1e-4, 1e-4, 1e-6, 1e-6]
    assert learning_rate(replace(config, milestone=1.0, warmup_steps=10), 5) == 5e-5


def test_the_loss_is_the_mean_squared_error_of_the_noise_at_times_that_are_learnt() -> None:
    batch = Batch(
        torch.randn(2000, 1, 8, 3), torch.zeros(2000, 1, dtype=torch.long), torch.ones(2000, 1, dtype=torch.bool)
    )
    seen = []

    def nothing(x: Tensor, t_B: Tensor, program: Tensor, active: Tensor) -> Tensor:
        seen.append(int(t_B.max()))
        return torch.zeros_like(x)

    schedule = linear_schedule()
    for config in (ComposerConfig(), REFERENCE):
        found = [diffusion_loss(nothing, batch, schedule, config, torch.Generator().manual_seed(s)) for s in range(5)]
        assert float(torch.stack(found).mean()) == pytest.approx(1.0, abs=0.02)
    assert max(seen[:5]) == 999
    assert max(seen[5:]) == 998


def test_errors_of_the_velocity_imply_those_of_the_noise() -> None:
    batch = Batch(torch.randn(9, 1, 8, 3), torch.zeros(9, 1, dtype=torch.long), torch.ones(9, 1, dtype=torch.bool))
    schedule, t_B, noise = linear_schedule(), torch.arange(0, 900, 100), torch.randn(9, 1, 8, 3)
    alpha_bar_B = schedule.alpha_bar_T[t_B]
    root, rest = alpha_bar_B.sqrt()[:, None, None, None], (1 - alpha_bar_B).sqrt()[:, None, None, None]

    def wrong(x_t: Tensor, *_: Tensor) -> Tensor:
        seen.append(x_t)
        return root * noise - rest * batch.values_BHN3 + torch.tensor([0.1, 0.2, 0.3])

    seen: list[Tensor] = []
    config = replace(CONFIG, network=replace(CONFIG.network, target="v"))
    found = errors(wrong, batch, schedule, config, t_B, noise)
    torch.testing.assert_close(found, torch.tensor([[0.01, 0.04, 0.09]]).expand(9, -1), atol=1e-5, rtol=0)
    implied = root * wrong(seen[0]) + rest * seen[0]
    expected = (implied - noise).square().mean(dim=(1, 2))
    torch.testing.assert_close(noise_errors(found, alpha_bar_B, config), expected, atol=1e-5, rtol=1e-3)


def test_rows_without_notes_count_for_nothing() -> None:
    active = torch.tensor([[True, False], [True, True], [False, False]])
    batch = Batch(torch.randn(3, 2, 8, 3), torch.zeros(3, 2, dtype=torch.long), active)
    noise = torch.randn(3, 2, 8, 3)

    def told(x: Tensor, *_: Tensor) -> Tensor:
        assert not x[~active].any()
        return torch.where(active[..., None, None], noise + 2.0, torch.nan).nan_to_num(1e6)

    found = errors(told, batch, linear_schedule(), CONFIG, torch.zeros(3, dtype=torch.long), noise)
    torch.testing.assert_close(found, torch.tensor([[4.0] * 3, [4.0] * 3, [0.0] * 3]))


PIPELINES = {
    "fixed": (CONFIG, Composing(steps=2)),
    "velocity": (replace(CONFIG, network=replace(CONFIG.network, target="v")), Composing(steps=2)),
    "two instruments": (
        replace(CONFIG, data=replace(CONFIG.data, rows=2, programs="all")),
        Composing(steps=2, programs=(0, 42)),
    ),
    "original": (
        replace(
            REFERENCE,
            data=replace(REFERENCE.data, notes=16),
            network=replace(REFERENCE.network, channels=16),
            diffusion=DiffusionConfig(steps=5),
            training=replace(
                REFERENCE.training,
                **{
                    name: getattr(QUICK, name)
                    for name in (
                        "steps",
                        "batch_size",
                        "validation_segments",
                        "log_every",
                        "validate_every",
                        "checkpoint_every",
                    )
                },
            ),
        ),
        replace(AS_THE_ORIGINAL, steps=5),
    ),
}


@pytest.mark.parametrize(("config", "how"), PIPELINES.values(), ids=PIPELINES)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been_and_composes(
    config: ComposerConfig, how: Composing, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", config)
    assert whole.step == 4
    half = train(tmp_path / "halves", config, seconds=0.0)
    assert half.step == 1
    rest = train(tmp_path / "halves", config)
    assert (rest.digest, rest.history) == (whole.digest, whole.history)
    states = [load_training_state(result.checkpoint) for result in (whole, rest)]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    made = [
        [n.tobytes() for n in Composer.of(load_checkpoint(result.checkpoint), how).compose(range(2))]
        for result in (whole, rest)
    ]
    assert len(set(made[0])) == 2
    assert made[0] == made[1]


def test_validation_tells_by_feature_and_time_and_composes_samples(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows: list[Progress] = []
    config = replace(CONFIG, training=replace(QUICK, steps=2, samples=2), diffusion=DiffusionConfig(steps=12))
    result = train(tmp_path, config, hooks=Hooks(logged=rows.append))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    told = {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"] if name.startswith("noise/")}
    features = [told.pop(f"noise/{name}") for name in ("pitch", "duration", "delta")]
    assert np.mean(features) == pytest.approx(result.validation_loss, rel=1e-5)
    assert np.mean(list(told.values())) == pytest.approx(result.validation_loss, rel=1e-5)
    assert len(told) == 4  # segments, each in a bucket of its own
    assert rows[-1].criterion == pytest.approx(result.validation_loss)
    assert len(list((tmp_path / "validation").glob("step_00000002/sample_*.mid"))) == 2


@pytest.mark.parametrize(("data", "expected"), [(CONFIG.data, Composing()), (REFERENCE.data, AS_THE_ORIGINAL)])
def test_samples_are_composed_as_the_original_where_it_was_trained(
    data: DataConfig, expected: Composing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Composing] = []

    class Listening(Composer):
        def __init__(self, model: Any, config: ComposerConfig, statistics: Any, settings: Composing) -> None:
            asked.append(settings)
            super().__init__(model, config, statistics, settings)

    monkeypatch.setattr("dexter_model.composer.validation.Composer", Listening)
    training = replace(QUICK, steps=1, samples=1)
    config = replace(CONFIG, data=replace(data, notes=16), training=training, diffusion=DiffusionConfig(steps=12))
    train(tmp_path, config)
    assert asked == [replace(expected, steps=12)]


def test_other_segments_and_other_settings_are_refused(tmp_path: Path) -> None:
    train(tmp_path, replace(CONFIG, training=replace(QUICK, steps=2)))
    with pytest.raises(InputError) as refused:
        train(tmp_path, replace(CONFIG, network=replace(CONFIG.network, causal=True)))
    assert refused.value.code == "resume_mismatch"
    cut = split(replace(CONFIG, data=replace(CONFIG.data, longest_note=2.0)))
    with pytest.raises(InputError, match=r"longest_note 2\.0, not 8\.0"):
        train_on_arrays(cut, None, CONFIG, tmp_path / "other", dataset={})


LIGHT = "dexter_model.composer.extraction, dexter_model.composer.plan, dexter_model.composer.original"
BARE = "dexter_model.composer.train_arrays, dexter_model.composer.generation"
HEAVY = {"ray", "prefect", "zarr", "icechunk", "partitura", "pydantic", "symusic", "matplotlib", "polars"}


@pytest.mark.parametrize(("modules", "without"), [(LIGHT, HEAVY | {"torch"}), (BARE, HEAVY)])
def test_training_needs_torch_alone_and_reading_not_even_that(modules: str, without: set[str]) -> None:
    code = f"import sys, {modules}; print(sorted({without!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
