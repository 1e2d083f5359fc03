"""Train any system from arrays, without Ray and without the store: a command for a bare machine with a GPU.

::

    python -m dexter_model.training.on_arrays dexter train.npz config.json --out DIR --minutes 9 --device cuda

needs numpy, torch, safetensors and tensorboard alone. ``train.npz`` is what ``Resident.save`` of the system's ``data``
wrote of a split.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from dexter_model.systems import PACKAGES, config_type, module
from dexter_model.training.loop import Hooks, Progress


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Train from arrays, without Ray and without the store.")
    parser.add_argument("system", choices=PACKAGES)
    parser.add_argument("arrays", type=Path, help="training split (.npz)")
    parser.add_argument("config", type=Path, help="settings (.json)")
    parser.add_argument("--validation", type=Path, help="validation split (.npz)")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--minutes", type=float, help="stop, with a checkpoint, after this long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--label", default="trained")
    parser.add_argument("--dataset", default="{}", help="JSON of the data set's version and digest")
    options = parser.parse_args()
    load = module(options.system, "data").Resident.load
    result = module(options.system, "train_arrays").train_on_arrays(
        load(options.arrays),
        load(options.validation) if options.validation else None,
        config_type(options.system).from_dict(json.loads(options.config.read_text())),
        options.out,
        dataset=json.loads(options.dataset),
        label=options.label,
        device=options.device,
        hooks=Hooks(logged=_print_row),
        seconds=None if options.minutes is None else 60.0 * options.minutes,
    )
    print(f"{result.checkpoint} {result.digest} {result.step} steps {result.seconds:.0f} s")


def _print_row(row: Progress) -> None:
    validation = "" if row.validation_loss is None else f" validation {row.validation_loss:.4f}"
    validation += "" if row.criterion is None else f" criterion {row.criterion:.3f}"
    print(f"{row.step} loss {row.loss:.4f}{validation} {row.steps_per_sec:.1f} steps/s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
