"""The plan of a rendering job: what decides each performance, and which performances a worker makes together.

Everything random is fixed here, before anything runs, and belongs to a render: its noise is drawn for the whole piece,
a stream for every step, from a seed of its own. Batches are whole renders, so each comes back finished.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from dexter_model.digests import array_digest
from dexter_model.errors import InputError
from dexter_model.expression.config import ExpressionConfig
from dexter_model.notes import CODEC_COLUMNS, Score

Sampler = Literal["ddim", "ddpm", "dpm-solver++"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
BATCH_SIZE = 16  # windows: enough to keep a worker's cores busy, few enough to spread a small job over workers
SEED = 13


@dataclass(frozen=True)
class Sampling:
    """How performances are sampled: what the renders of a job share.

    Raises:
        InputError: a value that makes no sense (``option_invalid``).
    """

    steps: int = 10  # evaluations of the denoiser
    guidance: float = 1.5  # weight of classifier-free guidance; 1 is none, 1.2 the published
    sampler: Sampler = "dpm-solver++"  # 10 steps say what DDPM says in hundreds, DDIM in 20 not quite
    eta: float = 0.0  # of DDIM: share of DDPM's noise
    depth: float = 0.75  # share of the schedule to which a performance is noised that sampling starts from

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", "is less than 1", "Give 1 or more")
        _require(self.sampler in SAMPLERS, "sampler", "is not known", f"Take one of {', '.join(SAMPLERS)}")
        _require(math.isfinite(self.guidance), "guidance", "is not a number", "Give a number, such as 1.2")
        _require(0.0 <= self.eta <= 1.0, "eta", "is not between 0 and 1", "Give a number between them")
        _require(0.0 <= self.depth <= 1.0, "depth", "is not between 0 and 1", "Give a number between them")
        _require(not self.eta or self.sampler == "ddim", "eta", "is DDIM's alone", "Add --sampler ddim")

    def told(self) -> dict[str, Any]:
        """The settings, as ``renders.json`` tells them."""
        return {each.name: getattr(self, each.name) for each in fields(Sampling)}


def refuse_unfit(sampling: Sampling, config: ExpressionConfig) -> None:
    """Refuse ways to sample that a model was not trained for, before anything is done.

    Raises:
        InputError: more steps than the model's diffusion has, or noise for a model of transfer (``option_invalid``).
    """
    most = config.diffusion.steps
    few = sampling.steps <= most or config.denoiser.target == "mean"
    _require(few, "steps", f"{sampling.steps} is more than the checkpoint's diffusion has", f"Give at most {most}")
    noisy = config.training.train_target == "transfer" and (sampling.sampler == "ddpm" or sampling.eta > 0)
    reason = "draws noise, and the checkpoint was trained for transfer, without any"
    _require(not noisy, "sampler", reason, "Take ddim with eta 0, or dpm-solver++")


def evaluations(sampling: Sampling, config: ExpressionConfig, *, source: bool = False) -> int:
    """Forward passes of the network that a window takes: two a step with guidance, one of the conditional mean.

    Args:
        sampling: how performances are sampled.
        config: the model's settings.
        source: sampling starts from performances, and takes no more steps than there are up to its depth.
    """
    if config.denoiser.target == "mean":
        return 1
    steps = sampling.steps
    if source and config.training.train_target != "transfer":
        steps = min(steps, last_time(sampling, config) + 1)
    return steps * (1 if sampling.guidance == 1.0 else 2)


def last_time(sampling: Sampling, config: ExpressionConfig) -> int:
    """The time of the diffusion to which a performance is noised that sampling starts from."""
    return int((config.diffusion.steps - 1) * sampling.depth)


@dataclass(frozen=True, eq=False)
class Render:
    """One performance to make: a score of n notes, its digest, the job's seed, and which sample of it.

    ``perceptual`` (n, 7) float32 is how it is to sound, in standard deviations of the training data, NaN where that is
    open; ``start`` (n, 5) float32 the codec of a performance to start from, which played the notes ``start_played``
    (n,) bool.
    """

    score: Score
    digest: str
    seed: int = SEED
    sample: int = 0
    perceptual: np.ndarray | None = None
    start: np.ndarray | None = None
    start_played: np.ndarray | None = None

    def noise(self, step: int = 0) -> np.ndarray:
        """(n, 5) float32 standard normal noise: 0 is where sampling starts, k what the k-th step draws."""
        own_seed = hashlib.sha256(f"{self.seed}:{self.digest}:{self.sample}".encode()).digest()
        philox = np.random.Philox(key=int.from_bytes(own_seed[:16], "little"), counter=[0, 0, 0, step])
        shape = len(self.score.notes), len(CODEC_COLUMNS)
        return np.random.Generator(philox).standard_normal(shape, dtype=np.float32)


def window_overlap(length: int) -> int:
    """Notes that neighbouring windows of N = ``length`` notes share at least."""
    return length // 20


def score_digest(score: Score) -> str:
    """Digest of what a score says (note ids and note array), whatever file it was read from."""
    return array_digest(np.array(score.note_id.tolist()), score.notes)


def plan_batches(notes: Sequence[int], length: int, batch_size: int = BATCH_SIZE) -> list[list[int]]:
    """Pack renders into batches, in order.

    Args:
        notes: notes of each render.
        length: N, notes of a window.
        batch_size: windows of a batch, their overlap not counted; a render that has more is a batch of its own.

    Returns:
        Indices of the renders of each batch.
    """
    batches: list[list[int]] = []
    room = 0
    for index, count in enumerate(notes):
        windows = -(-count // length)
        if windows > room:
            batches.append([])
            room = batch_size
        batches[-1].append(index)
        room -= windows
    return batches


def _require(holds: bool, option: str, reason: str, remedy: str) -> None:
    if not holds:
        raise InputError(f"--{option}", reason, remedy, "option_invalid")
