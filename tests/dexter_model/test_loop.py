"""What the loop does beside fitting: best checkpoints, logs, compiled and dropped-out networks."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from dexter_model.errors import InputError
from dexter_model.training.checkpoint import load_checkpoint
from dexter_model.training.config import LoopConfig
from dexter_model.training.loop import Evaluation, FitResult, Hooks, Predict, Progress, Validation, fit
from dexter_model.training.run import BEST

CONFIG = LoopConfig(
    steps=12, learning_rate=0.01, ema_decay=0.5, log_every=2, validate_every=3, checkpoint_every=4, keep_checkpoints=1
)
SEEN_BY_ONE = ("validation", "weights")
META = {"label": "line", "config": {}, "statistics": {"mean": [0.0], "std": [1.0]}, "dataset": {}}


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def batch_loss(predict: Predict, generator: torch.Generator) -> Tensor:
    x = torch.randn(16, 4, generator=generator)
    return (predict(x) - x.sum(dim=1, keepdim=True)).square().mean()


def loss_on_fixed_batch(predict: Predict) -> Tensor:
    return batch_loss(predict, torch.Generator().manual_seed(5))


def run(out: Path, config: LoopConfig = CONFIG, model: nn.Module | None = None, **options: Any) -> FitResult:
    return fit(model or network(), batch_loss, config, out, META, **options)


class Judge:
    """An evaluation whose criteria are made up; it keeps a file and shows a picture."""

    def __init__(self, criteria: list[float]) -> None:
        self.criteria = criteria
        self.folders: list[Path] = []

    def __call__(self, model: nn.Module, folder: Path) -> Evaluation:
        assert not model.training
        folder.mkdir(parents=True)
        self.folders.append(folder)
        criterion = self.criteria[len(self.folders) - 1]
        return Evaluation(criterion, {"Val/made_up": criterion}, {"Val/grey": np.full((4, 6, 3), 128, np.uint8)})


def logged(out: Path) -> EventAccumulator:
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return events


def test_the_best_checkpoint_is_that_of_the_lowest_criterion(tmp_path: Path) -> None:
    judge = Judge([3.0, 1.0, 1.0, 2.0])
    result = run(tmp_path, validation=Validation(loss_on_fixed_batch, judge))
    assert [row[3] for row in result.history] == [None, 3.0, None, 1.0, None, 1.0, None, 2.0]
    best = load_checkpoint(tmp_path / BEST)
    assert best.meta["step"] == 6
    assert load_checkpoint(tmp_path).meta["step"] == 12  # the last one
    assert [folder.name for folder in judge.folders] == [f"step_{step:08}" for step in (3, 6, 9, 12)]
    half = run(tmp_path / "half", replace(CONFIG, steps=6))
    weights, expected = best.state, load_checkpoint(half.checkpoint).state
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)


def test_without_an_evaluation_the_validation_loss_decides(tmp_path: Path) -> None:
    result = run(tmp_path, replace(CONFIG, steps=60), validation=Validation(loss_on_fixed_batch))
    losses = {row[0]: row[2] for row in result.history if row[2] is not None}
    assert load_checkpoint(tmp_path / BEST).meta["step"] == min(losses, key=lambda step: losses[step] or 0.0)
    assert not (tmp_path / "validation").exists()


def test_a_model_that_makes_no_numbers_is_told_and_is_not_the_best(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="criterion is nan at step 6") as caught:
        run(tmp_path, validation=Validation(loss_on_fixed_batch, Judge([3.0, np.nan])))
    assert caught.value.code == "training_diverged"
    assert load_checkpoint(tmp_path / BEST).meta["step"] == 3


def test_no_validation_no_best(tmp_path: Path) -> None:
    run(tmp_path)
    assert not (tmp_path / BEST).exists()


def test_an_interrupted_run_finds_the_same_best(tmp_path: Path) -> None:
    """Killed after the best was written and before the next checkpoint, and with a worse model validated later."""
    criteria = {3: 2.0, 6: 1.0, 9: 3.0, 12: 1.5}

    def judge(_: nn.Module, folder: Path) -> Evaluation:
        return Evaluation(criteria[int(folder.name[5:])])

    def stop(progress: Progress) -> None:
        if progress.step == 10:
            raise KeyboardInterrupt

    validation = Validation(loss_on_fixed_batch, judge)
    whole = run(tmp_path / "whole", validation=validation)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", validation=validation, hooks=Hooks(logged=stop))
    resumed = run(tmp_path / "cut", validation=validation)
    assert resumed.history == whole.history
    ours, theirs = (load_checkpoint(tmp_path / name / BEST) for name in ("cut", "whole"))
    assert (ours.digest, ours.meta) == (theirs.digest, theirs.meta)


def test_dropout_is_the_same_after_an_interruption_and_absent_from_validation(tmp_path: Path) -> None:
    validation = Validation(loss_on_fixed_batch)
    whole = run(tmp_path / "whole", model=network(0.5), validation=validation)
    run(tmp_path / "cut", replace(CONFIG, steps=4), model=network(0.5), validation=validation)
    torch.manual_seed(99)
    resumed = run(tmp_path / "cut", model=network(0.5), validation=validation)
    assert resumed.digest == whole.digest
    again = network(0.0)
    again.load_state_dict({name: torch.from_numpy(w) for name, w in load_checkpoint(whole.checkpoint).state.items()})
    with torch.no_grad():
        assert float(loss_on_fixed_batch(again)) == whole.validation_loss


def test_tensorboard_has_curves_and_pictures(tmp_path: Path) -> None:
    run(tmp_path, validation=Validation(loss_on_fixed_batch, Judge([3.0, 1.0, 1.0, 2.0])))
    events = logged(tmp_path)
    assert [event.step for event in events.Scalars("loss/train")] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert [event.value for event in events.Scalars("Val/made_up")] == [3.0, 1.0, 1.0, 2.0]
    assert [event.step for event in events.Scalars("loss/validation")] == [3, 6, 9, 12]
    assert events.Images("Val/grey")[0].width == 6


@pytest.mark.cluster
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_writes_and_reads_the_same_checkpoints(tmp_path: Path) -> None:
    """Weights keep their names, so that a compiled run is as good as another to whoever loads it, and it resumes."""
    compiled, plain = replace(CONFIG, compile=True), run(tmp_path / "plain")
    run(tmp_path / "compiled", replace(compiled, steps=4))
    result = run(tmp_path / "compiled", compiled)
    ours, theirs = (load_checkpoint(each.checkpoint).state for each in (result, plain))
    assert ours.keys() == theirs.keys()
    assert all(np.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


def test_weights_and_biases_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="wandb") as caught:
        run(tmp_path, replace(CONFIG, wandb="project"))
    assert caught.value.code == "wandb_missing"


@pytest.fixture
def offline_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("offline_wandb")
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_weights_and_biases_gets_the_curves_too(tmp_path: Path) -> None:
    config = replace(CONFIG, wandb="project")
    run(tmp_path, config, validation=Validation(loss_on_fixed_batch, Judge([3.0, 1.0, 1.0, 2.0])))
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert logged(tmp_path).Scalars("loss/train")
    assert "wandb" not in json.dumps(load_checkpoint(tmp_path).meta["config"])


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``two_ranks.py`` leaves."""
    folder = tmp_path_factory.mktemp("two_ranks")
    script = Path(__file__).with_name("two_ranks.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, timeout=300)
    return folder


def test_two_ranks_of_which_one_is_killed_end_where_two_undisturbed_ones_do(two_ranks: Path) -> None:
    """Over gloo, between two checkpoints: the loss curve is the mean of both ranks, and the same to the bit."""
    whole, cut = (load_checkpoint(two_ranks / name) for name in ("whole", "cut"))
    assert cut.meta["history"] == whole.meta["history"]
    assert cut.digest == whole.digest
    losses = np.array([json.loads((two_ranks / f"undisturbed/losses_{rank}.json").read_text()) for rank in range(2)])
    means = [losses[:, first:last].mean() for first, last in ((0, 5), (5, 6), (6, 10), (10, 12))]
    assert [row[1] for row in whole.meta["history"]] == pytest.approx(means, rel=1e-5)
    resumed = json.loads((two_ranks / "resumed/losses_1.json").read_text())
    assert resumed == losses[1, 4:].tolist()  # the checkpoint after step 4 was the last one


def test_ranks_that_only_one_of_them_sees_diverge_end_together(two_ranks: Path) -> None:
    """Rank 0 alone validates and looks at the weights before a checkpoint; the other one must not wait for it."""
    told = {what: [(two_ranks / what / f"error_{rank}.txt").read_text() for rank in range(2)] for what in SEEN_BY_ONE}
    assert list(told.values()) == [["training_diverged", "other_rank_failed"]] * 2
