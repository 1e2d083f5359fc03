"""Training on a data set by Ray Train."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_renders import made_up_piece, publish

from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError
from dexter_model.expression.config import DenoiserConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.train_arrays import train_on_arrays
from dexter_model.training.checkpoint import load_checkpoint
from tasks.train import describe_training, resident_split, train

CONFIG = ExpressionConfig(
    DenoiserConfig(channels=8, layers=2, window=32),
    training=TrainingConfig(steps=60, batch_size=4, learning_rate=1e-3, log_every=5, checkpoint_every=10),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = str(tmp_path_factory.mktemp("store") / "dataset")
    publish(url, [made_up_piece(f"piece{i}", performers=2, seed=i) for i in range(28, 40)])  # 39 validates
    return url


def train_plainly(store: str, out: Path, config: ExpressionConfig = CONFIG) -> str:
    """What Ray Train has to equal: the loop in this process; returns the checkpoint's digest."""
    opened = open_version(store)
    training = resident_split(opened, "train", config.denoiser)
    assert training is not None
    dataset = {"version": opened.id, "digest": opened.digest}
    return train_on_arrays(
        training, resident_split(opened, "validation", config.denoiser), config, out, dataset=dataset
    ).digest


@pytest.fixture
def trained(store: str, tmp_path: Path) -> Path:
    train_plainly(store, tmp_path, replace(CONFIG, training=replace(CONFIG.training, steps=10)))
    return tmp_path


def test_a_finished_training_is_returned_without_ray(
    store: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    short = replace(CONFIG, training=replace(CONFIG.training, steps=10))
    result = train(store, short, trained)
    assert result.steps == 10
    assert result.digest == load_checkpoint(trained).digest
    assert result.loss > 0
    assert result.validation_loss is not None


def test_another_training_in_the_folder_is_told_before_ray_starts(store: str, trained: Path) -> None:
    with pytest.raises(InputError) as caught:
        train(store, replace(CONFIG, denoiser=replace(CONFIG.denoiser, channels=16)), trained)
    assert caught.value.code == "resume_mismatch"


def test_another_label_or_fewer_steps_are_told(store: str, trained: Path) -> None:
    ten, nine = (replace(CONFIG, training=replace(CONFIG.training, steps=steps)) for steps in (10, 9))
    for options, reason in (({"config": ten, "label": "final"}, "another label"), ({"config": nine}, "has 10 steps")):
        with pytest.raises(InputError, match=reason) as caught:
            train(store, out=trained, **options)
        assert caught.value.code == "resume_mismatch"


def test_workers_that_cannot_share_a_batch_are_told(store: str, tmp_path: Path) -> None:
    """Batches of 3 for three workers would be another training than the batches of 4 that were asked for."""
    with pytest.raises(InputError, match="3 cannot share a batch") as caught:
        train(store, CONFIG, tmp_path, workers=3)
    assert caught.value.code == "option_invalid"


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        train(str(tmp_path / "nothing"), CONFIG, tmp_path / "out")
    assert caught.value.code == "no_dataset"


def test_a_dry_run_tells_what_would_be_trained(store: str) -> None:
    text = describe_training(store, ExpressionConfig())
    assert "62,407,685 parameters" in text
    assert "train: " in text


def publish_heard(url: str, *sources: str) -> None:
    """A data set whose pieces' perceptual features come from these sources in turn."""
    pieces = [made_up_piece(f"piece{i}", performers=2, seed=i) for i in range(28, 40)]
    for index, piece in enumerate(pieces):
        for row in piece.performances:
            row["perceptual"] = sources[index % len(sources)]
    publish(url, pieces)


@pytest.mark.parametrize(
    ("sources", "code"),
    [
        (("cep_csv", "estimate:symbolic-v1"), "mixed_perceptual"),
        (("cep_csv", "none"), "no_deadpan"),
        (("cnn:0123456789ab",), "no_deadpan"),
    ],
)
def test_perceptual_features_that_cannot_be_learnt_from_are_told_before_ray_starts(
    sources: tuple[str, ...], code: str, tmp_path: Path
) -> None:
    url = str(tmp_path / "dataset")
    publish_heard(url, *sources)
    delta = replace(CONFIG, denoiser=replace(CONFIG.denoiser, perceptual="delta"))
    for refuses in (lambda: train(url, delta, tmp_path / "out"), lambda: describe_training(url, delta)):
        with pytest.raises(InputError, match=r"denoiser\.perceptual") as caught:
            refuses()
        assert caught.value.code == code
    assert describe_training(url, CONFIG)  # which looks at none of them


def test_features_of_one_source_are_learnt_from_whatever_the_test_split_has(tmp_path: Path) -> None:
    url = str(tmp_path / "dataset")
    publish_heard(url, "estimate:symbolic-v1", "none")
    assert describe_training(url, replace(CONFIG, denoiser=replace(CONFIG.denoiser, perceptual="delta")))


def kill_a_worker(out: Path) -> tuple[threading.Thread, list[int]]:
    """Kill one Ray Train worker as soon as ``out`` holds a checkpoint; the thread, and what it killed."""
    killed: list[int] = []

    def wait_and_kill() -> None:
        import psutil

        while not list(out.glob("checkpoints/step_*")):
            time.sleep(0.02)
        children = psutil.Process(os.getpid()).children(recursive=True)
        workers = [process for process in children if "RayTrainWorker" in " ".join(process.cmdline())]
        killed.append(workers[-1].pid)
        workers[-1].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=wait_and_kill, daemon=True)
    killer.start()
    return killer, killed


@pytest.mark.cluster
def test_ray_train_equals_the_plain_loop_though_its_worker_is_killed(store: str, tmp_path: Path) -> None:
    """A worker dies by SIGKILL after its first checkpoint; Ray restarts it and the weights come out the same."""
    out = tmp_path / "ray"
    killer, killed = kill_a_worker(out)
    result = train(store, CONFIG, out)
    killer.join()
    assert killed
    assert result.steps == 60
    assert result.digest == train_plainly(store, tmp_path / "plain")
    assert result.best == str(out / "best")
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.cluster
def test_two_workers_go_on_from_where_they_were_when_one_is_killed(store: str, tmp_path: Path) -> None:
    """The loss curve, validation included, and the weights are those of two workers that nobody disturbed."""
    whole = train(store, CONFIG, tmp_path / "whole", workers=2)
    killer, killed = kill_a_worker(tmp_path / "cut")
    result = train(store, CONFIG, tmp_path / "cut", workers=2)
    killer.join()
    assert killed
    ours, theirs = load_checkpoint(result.checkpoint), load_checkpoint(whole.checkpoint)
    assert ours.meta["history"] == theirs.meta["history"]
    assert [row[0] for row in ours.meta["history"]] == list(range(5, 61, 5))
    assert result.digest == whole.digest
    assert train_plainly(store, tmp_path / "alone") != whole.digest  # a batch in halves is drawn otherwise
    assert whole.loss == pytest.approx(load_checkpoint(tmp_path / "alone").meta["history"][-1][1], rel=0.5)


@pytest.mark.cluster
def test_a_worker_that_fails_alone_says_why_and_ends_the_others(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one waits for it in an exchange, and would for half an hour."""

    def one_fails(environment: dict[str, str], settings: dict[str, Any]) -> None:
        import ray.train
        from torch import distributed

        if ray.train.get_context().get_world_rank() == 1:
            raise InputError("s3://lab/dataset", "cannot be opened", "Look at this node's network", "no_dataset")
        distributed.barrier()

    monkeypatch.setattr("tasks.train.train_worker", one_fails)
    with pytest.raises(InputError, match="s3://lab/dataset: cannot be opened") as caught:
        train(store, CONFIG, tmp_path / "out", workers=2)
    assert caught.value.code == "no_dataset"
