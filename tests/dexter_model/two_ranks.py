"""Two ranks that train together over gloo: undisturbed, killed half-way, resumed, and diverging; it forks, hence alone.

``python two_ranks.py FOLDER`` leaves a run in FOLDER/whole and one in FOLDER/cut, in FOLDER/undisturbed the losses of
each step and rank of the first, and what each rank says in FOLDER/validation and FOLDER/weights, where these diverge.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # optimisers import it, which takes seconds: here once for all ranks
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from dexter_model.errors import InputError
from dexter_model.training.config import LoopConfig
from dexter_model.training.loop import Hooks, Predict, Validation, fit

CONFIG = LoopConfig(
    steps=12, learning_rate=0.01, ema_decay=0.5, log_every=5, validate_every=6, checkpoint_every=4, keep_checkpoints=1
)
PATIENCE = 60.0  # seconds
META = {"label": "line", "config": {}, "statistics": {"mean": [0.0], "std": [1.0]}, "dataset": {}}


def one_rank(rank: int, out: Path, meeting: Path, dies_at: int | None, diverging: str) -> None:
    """Train as one of two; rank 1 is gone when it is asked for the batch of step ``dies_at``."""
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
    losses: list[float] = []

    def loss(predict: Predict, generator: torch.Generator) -> Tensor:
        x = torch.randn(16, 4, generator=generator)
        return (predict(x) - x.sum(dim=1, keepdim=True)).square().mean()

    def batch_loss(predict: Predict, generator: torch.Generator) -> Tensor:
        if rank == 1 and len(losses) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        value = loss(predict, generator)
        losses.append(value.item())
        return value * torch.nan if diverging == "weights" else value

    def validation_loss(predict: Predict) -> Tensor:
        return loss(predict, torch.Generator().manual_seed(5)) * (torch.nan if diverging == "validation" else 1)

    hooks, validation = Hooks(wrap=DistributedDataParallel), Validation(validation_loss)
    try:
        fit(model, batch_loss, CONFIG, out, META, validation=validation, hooks=hooks, rank=rank)
    except InputError as error:
        (meeting.parent / f"error_{rank}.txt").write_text(error.code)
    (meeting.parent / f"losses_{rank}.json").write_text(json.dumps(losses))
    distributed.destroy_process_group()


def together(folder: Path, name: str, run: str, dies_at: int | None = None, diverging: str = "") -> list[int | None]:
    """Both ranks to their end, or until patience ends; their exit codes."""
    scratch = folder / name
    scratch.mkdir()
    fork = multiprocessing.get_context("fork")
    arguments = folder / run, scratch / "meeting", dies_at, diverging
    ranks = [fork.Process(target=one_rank, args=(rank, *arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    ranks[1].join(PATIENCE)
    ranks[0].join(PATIENCE if dies_at is None else 5)
    for process in ranks:
        process.kill()  # as a host does when one of its workers is lost
        process.join()
    return [process.exitcode for process in ranks]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    assert together(folder, "undisturbed", "whole") == [0, 0]
    assert together(folder, "disturbed", "cut", dies_at=7)[1] == -signal.SIGKILL
    assert together(folder, "resumed", "cut") == [0, 0]
    for what in ("validation", "weights"):
        assert together(folder, what, f"{what}_out", diverging=what) == [0, 0]
