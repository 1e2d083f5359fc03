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
import torch
from made_up_renders import made_up_piece, publish
from torch import distributed

from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError
from dexter_model.expression.config import DenoiserConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.data import resident_split
from dexter_model.expression.train_arrays import train_on_arrays
from dexter_model.training.checkpoint import load_checkpoint
from tasks.cluster import ray_session
from tasks.train import _fault, _scaling, describe_training, train

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
    training = resident_split(opened, "train", config)
    assert training is not None
    dataset = {"version": opened.id, "digest": opened.digest}
    return train_on_arrays(training, resident_split(opened, "validation", config), config, out, dataset=dataset).digest


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
def test_two_workers_share_a_batch(store: str, tmp_path: Path) -> None:
    """``test_nodes`` kills one of two."""
    result = train(store, CONFIG, tmp_path / "two", workers=2)
    assert [row[0] for row in load_checkpoint(result.checkpoint).meta["history"]] == list(range(5, 61, 5))
    assert result.dataset == open_version(store).digest
    assert train_plainly(store, tmp_path / "alone") != result.digest  # a batch in halves is drawn otherwise
    assert result.loss == pytest.approx(load_checkpoint(tmp_path / "alone").meta["history"][-1][1], rel=0.5)


@pytest.mark.cluster
def test_storage_that_fails_a_worker_is_tried_again_and_a_fault_is_raised_at_once(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker waits for it in an exchange, and would for half an hour."""

    def one_fails(environment: dict[str, str], settings: dict[str, Any]) -> None:
        import ray.train
        from torch import distributed

        if ray.train.get_context().get_world_rank() == 1:
            with (tmp_path / "tries").open("a+") as tries:
                tries.write(".")
                if tries.tell() == 1:
                    raise InputError("s3://lab/model", "cannot be written", "Try again", "s3_unreachable")
            raise ValueError("a bug")
        distributed.barrier()

    monkeypatch.setattr("tasks.train.train_worker", one_fails)
    with pytest.raises(ValueError, match="a bug"):
        train(store, CONFIG, tmp_path / "out", workers=2)
    assert (tmp_path / "tries").read_text() == ".."


@pytest.mark.cluster
def test_what_ends_a_training_and_what_it_survives() -> None:
    ray_session()  # before anything else of Ray is imported
    from ray.exceptions import ActorDiedError
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    lost = WorkerHealthCheckFailedError("Worker 1 failed", ActorDiedError())
    storage = InputError("s3://lab/model", "cannot be written", "Try again", "s3_unreachable")
    another = InputError("training", "ended on another worker", "See what that one says", "other_rank_failed")
    wrong = InputError("s3://lab/dataset", "has no training split", "Build it", "empty_split")
    cuda = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    gloo = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1")
    nccl = distributed.DistBackendError("NCCL communicator was aborted on rank 0.")
    for survived in ([lost], [gloo, lost], [nccl, gloo], [another, storage], [ConnectionResetError()], [cuda, lost]):
        assert _fault(WorkerGroupError("failed", dict(enumerate(survived)))) is None
    for fault, others in ((wrong, another), (cuda, gloo), (wrong, storage)):
        assert _fault(WorkerGroupError("failed", {0: others, 1: fault})) is fault
    assert _fault(ControllerError(ActorDiedError())) is None


@pytest.mark.cluster
def test_gpus_that_this_machine_does_not_have_are_told(store: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this machine has 0 of them for 2 workers") as caught:
        train(store, CONFIG, tmp_path, workers=2, gpus=True)
    assert caught.value.code == "no_gpu"


@pytest.mark.cluster
def test_a_cluster_that_may_grow_is_asked_for_gpus_when_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As far as what each worker asks for: the cluster has none."""
    ray = ray_session()
    monkeypatch.setenv("RAY_ADDRESS", "wherever")
    for gpus, asked, told in ((None, False, ""), (False, False, ""), (True, True, "2 times 1 GPUs, more than the")):
        caplog.clear()
        scaling = _scaling(ray, 1, 2, gpus)
        assert (scaling.use_gpu, scaling.num_workers) == (asked, 2)
        assert told in caplog.text
        assert bool(told) == ("GPUs" in caplog.text)
