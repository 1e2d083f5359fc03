"""Where the curves of a run go: TensorBoard event files always, Weights & Biases too when a project is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from dexter_model.digests import json_digest
from dexter_model.errors import InputError
from dexter_model.places import shown


class TrainingLog:
    """Scalars and images by step; a run that goes on from a step replaces what was logged after it."""

    def __init__(self, out: Path, step: int, wandb_project: str = "") -> None:
        """Raises ``InputError`` (``wandb_missing``) when a project is named and the package is not installed."""
        self._wandb = _wandb_run(out, wandb_project) if wandb_project else None
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray] | None = None) -> None:
        """Add numbers, and images (height, width, 3) of uint8, under the names they have in every run."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        for name, image in (images or {}).items():
            self._writer.add_image(name, image, step, dataformats="HWC")
        self._writer.flush()
        if self._wandb is not None:
            from wandb import Image

            pictures = {name: Image(image) for name, image in (images or {}).items()}
            self._wandb.log({**scalars, **pictures}, step=step)

    def close(self) -> None:
        """Finish the files."""
        self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()


def _wandb_run(out: Path, project: str) -> Any:
    """The run at Weights & Biases that belongs to an output folder, begun or gone on with."""
    try:
        import wandb
    except ImportError:
        remedy = "pip install 'dexter[wandb]', or leave training.wandb empty"
        raise InputError("training.wandb", "the package wandb is not installed", remedy, "wandb_missing") from None
    known = json_digest([shown(out.absolute())])[:16]
    return wandb.init(project=project, name=out.name, id=known, resume="allow", dir=str(out))
