"""Training on a data set by Ray Train: each worker opens the version, keeps the split in memory and fits.

The loop's own checkpoints in ``out`` are what a run goes on from, whether Ray restarts its workers or a person starts
the command again; Ray is told about them and stores nothing twice. With one worker the weights are those of the plain
loop (each system's ``train_arrays``), bit for bit.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError, storage_trouble
from dexter_model.places import absolute, is_url, join, local, names, read, remove, shown, write, writing
from dexter_model.s3 import endpoint_and_region
from dexter_model.systems import config_type, module
from dexter_model.training.checkpoint import BEST, CHECKPOINTS, META, last_meta, load_checkpoint
from dexter_model.training.resuming import Config, steps_taken
from tasks.cluster import is_ours, ray_session, settings_of_jobs, tell_to_share
from tasks.orchestration import task
from tasks.progress import bar
from tasks.telemetry import start_in_actor

if TYPE_CHECKING:
    from ray.train import Checkpoint, ScalingConfig

    from dexter_model.training.loop import Progress

MAX_FAILURES = 3  # losses between two checkpoints that a run survives; of announced ones, any number
PROGRESS = "progress.json"
_POLL_SECONDS = 0.5
_EXCHANGE = re.compile(r"gloo|NCCL|torch\.distributed\.Dist")  # of errors when a rank does not answer another

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """A trained model: its last checkpoint's folder and digest, the best one's folder if there was a validation split,
    the data set's digest, steps taken in all, final losses, seconds of this run.
    """

    checkpoint: str
    best: str | None
    digest: str
    dataset: str
    steps: int
    loss: float
    validation_loss: float | None
    seconds: float


@task(name="train")
def train(
    dataset_url: str,
    config: Config,
    out: str | Path,
    *,
    workers: int = 1,
    gpus: bool | None = None,
    label: str = "trained",
    version: str | None = None,
) -> TrainResult:
    """Train a system on a data set's training split, going on from the last checkpoint in ``out``.

    Args:
        dataset_url: the data set, a folder or an s3:// URL.
        config: the system's settings.
        out: folder or URL for checkpoints, the best model, renders of validation, TensorBoard event files and Ray's own
            state; a folder that all nodes share.
        workers: Ray Train workers that share each batch.
        gpus: whether each of them takes a GPU and waits for it; None if the cluster has GPUs at this moment, on this
            machine's own if it has one for each.
        label: what reports call the model.
        version: a version of the data set; the current one when None.

    Raises:
        InputError: no such data set, no training split, a data set that the system cannot learn from
            (``data.refuse_unfit`` of its package), a batch that ``workers`` does not divide, ``out`` holds
            another training (other settings, data or label, or more steps), or this machine has not so many GPUs
            (``no_gpu``).
    """
    if config.training.batch_size % workers:
        remedy = f"Take as many workers as divide training.batch_size, {config.training.batch_size}"
        raise InputError("workers", f"{workers} cannot share a batch evenly", remedy, "option_invalid")
    began, out, url = time.monotonic(), absolute(out), absolute(dataset_url)
    opened = open_version(url, version)
    dataset = {"version": opened.id, "digest": opened.digest}
    if steps_taken(out, config, dataset, label) < config.training.steps:
        module(config.system, "data").refuse_unfit(opened, config)
        settings = {"url": url, "dataset": dataset, "out": out, "label": label}
        settings |= {"system": config.system, "config": config.to_dict()}
        _train_by_ray(settings, workers, gpus)
    return _result(out, time.monotonic() - began)


def describe_training(dataset_url: str, config: Config, version: str | None = None) -> str:
    """What ``train`` would train, on what: the answer to a dry run."""
    opened = open_version(dataset_url, version)
    module(config.system, "data").refuse_unfit(opened, config)
    pieces, performances = opened.catalogue, opened.catalogue["performances"]
    lines = [f"data set {dataset_url} {opened.id} ({opened.digest[:12]})"]
    for split in ("train", "validation"):
        rows = pieces["split"] == split
        lines.append(f"  {split}: {rows.sum()} pieces, {performances.filter(rows).sum()} performances")
    training = config.training
    lines.append(module(config.system, "train_arrays").described(config))
    lines.append(f"training: {training.steps} steps of {training.batch_size} examples in {training.precision}")
    return "\n".join(lines)


def _train_by_ray(settings: dict[str, Any], workers: int, gpus: bool | None) -> None:
    """Fit; go on from the last checkpoint when workers were lost or storage failed, however often, if that gets on."""
    out = settings["out"]
    ray = ray_session(workers)
    tell_to_share(out, settings["url"])
    from ray.train import FailureConfig, RunConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    scaling, lost = _scaling(ray, settings["config"]["training"]["threads"], workers, gpus), 0
    with _followed(join(out, PROGRESS), settings["config"]["training"]["steps"]):
        while True:
            # Ray's list of what an earlier run reported names checkpoints that are gone by now; ours are what counts.
            remove(join(out, "checkpoint_manager_snapshot.json"))
            before = _steps(out)
            trainer = TorchTrainer(
                partial(train_worker, settings_of_jobs()),
                train_loop_config=settings,
                scaling_config=scaling,
                run_config=RunConfig(failure_config=FailureConfig(0), **_storage(out)),
            )
            try:
                trainer.fit()
                return
            except TrainingFailedError as error:  # also when workers are lost while they find each other
                if fault := _fault(error):
                    raise fault from error
                lost = lost + 1 if _steps(out) == before else 1
                if lost > MAX_FAILURES:
                    raise
                why = str(error).splitlines()[-1]
                log.warning("training goes on from its last checkpoint, as workers or storage failed: %s", why)


def _steps(out: str) -> int:
    """Steps that the last checkpoint has taken."""
    return int((last_meta(out) or {"step": 0})["step"])


def _storage(out: str) -> dict[str, Any]:
    """Where Ray keeps its own state: in ``out`` too."""
    if not is_url(out):
        return {"name": Path(out).name, "storage_path": str(Path(out).parent)}
    parent, _, name = out.removeprefix("s3://").rpartition("/")
    return {"name": name, "storage_path": parent, "storage_filesystem": _filesystem()}


def _filesystem() -> Any:
    from pyarrow.fs import S3FileSystem

    endpoint, region = endpoint_and_region()
    return S3FileSystem(endpoint_override=endpoint, region=region)


def _reported(out: str, folder: Path) -> Checkpoint:
    """A checkpoint as Ray knows it: where it lasts."""
    from ray.train import Checkpoint

    if not is_url(out):
        return Checkpoint(folder)
    return Checkpoint(join(out, CHECKPOINTS, folder.name).removeprefix("s3://"), _filesystem())


def _fault(error: Exception) -> Exception | None:
    """What a worker raised that would be raised again; None when workers were lost, or lost each other, or storage."""
    from ray.exceptions import RayError
    from ray.train.v2._internal.exceptions import RayTrainError

    failures = getattr(error, "worker_failures", {}).values()  # of a controller there are none: it met a loss
    if any(isinstance(each, RayError | RayTrainError) for each in failures):
        return None
    return next((each for each in failures if not (storage_trouble(each) or _parted(each))), None)


def _parted(error: Exception) -> bool:
    """Whether a worker failed only as another one did, and could not tell it anything any more."""
    return getattr(error, "code", None) == "other_rank_failed" or _EXCHANGE.search(f"{type(error)} {error}") is not None


def _scaling(ray: Any, threads: int, workers: int, gpus: bool | None) -> ScalingConfig:
    """What each of the workers asks for: a GPU if it is to have one, and CPUs for its threads."""
    from ray.train import ScalingConfig

    resources = ray.cluster_resources()
    has = {name: resources.get(name, 0.0) for name in ("CPU", "GPU")}
    if is_ours():  # our own machine shares its CPUs out; else workers would wait for ever
        if gpus and has["GPU"] < workers:
            remedy = "Leave gpus out, take fewer workers, or set RAY_ADDRESS"
            raise InputError("gpus", f"this machine has {has['GPU']:g} of them for {workers} workers", remedy, "no_gpu")
        cpu, gpu = min(float(threads), has["CPU"] / workers), has["GPU"] >= workers
    else:  # others may have nodes to add, and are waited for
        largest = max(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])
        cpu, gpu = min(float(threads), largest or threads), has["GPU"] > 0
    use_gpu = gpu if gpus is None else gpus
    for name, each in ("CPU", cpu), ("GPU", float(use_gpu)):
        if has[name] < each * workers and not is_ours():
            told = workers, each, name, has[name]
            log.warning("training asks for %d times %g %ss, more than the cluster's %g: it waits", *told)
    return ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": cpu})


def train_worker(environment: dict[str, str], settings: dict[str, Any]) -> None:
    """One Ray Train worker; what it raises ends the others, which would wait for it.

    The environment, which may hold secrets, is not among the settings, as Ray shows these.
    """
    os.environ.update(environment)
    start_in_actor()
    import ray.train
    from ray.train.torch import get_device, prepare_model

    from dexter_model.training.loop import Hooks

    context, out = ray.train.get_context(), settings["out"]

    def logged(progress: Progress) -> None:
        write(join(out, PROGRESS), json.dumps(asdict(progress)).encode())

    def checkpointed(folder: Path | None, progress: Progress) -> None:
        if written is not None:
            written.push()
        if folder is not None:
            log.info("checkpoint written", extra={"out": out, "step": progress.step})
        checkpoint = _reported(out, folder) if folder is not None else None
        mode = ray.train.CheckpointUploadMode.NO_UPLOAD
        ray.train.report(asdict(progress), checkpoint=checkpoint, checkpoint_upload_mode=mode)

    opened = open_version(settings["url"], settings["dataset"]["version"])
    config = config_type(settings["system"]).from_dict(settings["config"])
    resident_split = module(settings["system"], "data").resident_split
    training = resident_split(opened, "train", config)
    if training is None:
        raise InputError(opened.url, "has no training split", "Build it from more works", "empty_split")
    with writing(out) if context.get_world_rank() == 0 else contextlib.nullcontext() as written:
        module(settings["system"], "train_arrays").train_on_arrays(
            training,
            resident_split(opened, "validation", config),
            config,
            local(out, missing_ok=True) if written is None else written.folder,
            dataset=settings["dataset"],
            label=settings["label"],
            device=get_device(),
            rank=context.get_world_rank(),
            workers=context.get_world_size(),
            hooks=Hooks(logged, checkpointed, prepare_model),
        )


def _result(out: str, seconds: float) -> TrainResult:
    checkpoint = load_checkpoint(out)
    history = checkpoint.meta["history"]
    validated = [row[2] for row in history if row[2] is not None]
    best = join(out, BEST)
    return TrainResult(
        shown(checkpoint.path),
        best if META in names(best) else None,
        checkpoint.digest,
        checkpoint.meta["dataset"]["digest"],
        checkpoint.meta["step"],
        history[-1][1],
        validated[-1] if validated else None,
        seconds,
    )


@contextlib.contextmanager
def _followed(progress_file: str, steps: int) -> Iterator[None]:
    """A progress bar that follows what rank 0 writes, wherever it runs."""
    remove(progress_file)
    over, seconds = threading.Event(), _POLL_SECONDS * (10 if is_url(progress_file) else 1)

    def follow() -> None:
        while not over.wait(seconds):
            with contextlib.suppress(FileNotFoundError, InputError):
                advance_to(json.loads(read(progress_file))["step"])

    with bar("training", steps) as advance_to:
        follower = threading.Thread(target=contextvars.copy_context().run, args=(follow,), daemon=True)
        follower.start()
        try:
            yield
            advance_to(steps)
        finally:
            over.set()
            follower.join()
