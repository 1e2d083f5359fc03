"""The original's ``config.py``, key by key, as settings of this project.

What it says of places and of talking has no counterpart: folders are arguments here. Reading and writing are as
published: other values of ``STANDARDIZE``, ``TICKS_PER_BEAT`` and ``BPM`` are refused, limits above 2,048 ticks too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dexter_model.composer.config import REFERENCE, ComposerConfig
from dexter_model.composer.extraction import LONGEST_TICKS, TICKS_PER_BEAT
from dexter_model.errors import InputError
from dexter_model.training.config import require

SETTINGS = {  # the keys that are settings here, under another name
    "NOTES_LENGTH": ("data", "notes"),
    "N_HEADS": ("network", "heads"),
    "TIME_EMBEDDING_SIZE": ("network", "time_embedding"),
    "NOISE_STEPS": ("diffusion", "steps"),
    "BETA_START": ("diffusion", "beta_start"),
    "BETA_END": ("diffusion", "beta_end"),
    "BATCH_SIZE": ("training", "batch_size"),
    "LEARNING_RATE": ("training", "learning_rate"),
    "N_SAMPLES": ("training", "samples"),
}
LIMITS = {"MAX_DURATION": "longest_note", "MAX_DELTA": "longest_delta"}  # in ticks; in beats here
FIXED = {"STANDARDIZE": True, "TICKS_PER_BEAT": TICKS_PER_BEAT, "BPM": 60, "SAVE_MODEL": True, "LOAD_MODEL": True}
ELSEWHERE = {
    "VERBOSE",
    "RUN_EAGERLY",
    "NOTES_CONVERSION_TABLE_PATH",
    "DATAFRAME_PATH",
    "STATISTICS_PATH",
    "DATASET_PATH",
    "WEIGHTS_PATH",
    "UNET_WEIGHTS_PATH",
    "SAMPLES_PATH",
}
EPOCHS, EPOCHS_BEFORE_SAVE = 20, 2


def keys_of(path: str | Path) -> dict[str, Any]:
    """What a ``config.py`` assigns to names at its top level, places aside; it is read and not run.

    Raises:
        InputError: it is no Python, or a value is to be computed (``config_invalid``).
    """
    keys: dict[str, Any] = {}
    name = ""
    try:
        for statement in ast.parse(Path(path).read_bytes()).body:
            match statement:
                case ast.Assign(targets=[ast.Name(name)], value=value) if name not in ELSEWHERE:
                    keys[name] = ast.literal_eval(value)
    except (OSError, SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        reason = f"{name or 'it'} cannot be read ({' '.join(str(error).split())[:200]})"
        raise InputError(path, reason, "Write plain values, KEY = 1", "config_invalid") from None
    return keys


def config_of_original(keys: Mapping[str, Any], notes: Iterable[int]) -> ComposerConfig:
    """The original's settings, those that ``keys`` does not name at its defaults, its epochs as steps.

    Args:
        keys: of ``config.py``.
        notes: how many each piece of the training split has.

    Raises:
        InputError: an unknown key, or a value that is not supported (``config_invalid``).
    """
    values = REFERENCE.to_dict()
    epochs = {"EPOCHS": EPOCHS, "EPOCHS_BEFORE_SAVE": EPOCHS_BEFORE_SAVE}
    for key, value in keys.items():
        if key in SETTINGS:
            part, name = SETTINGS[key]
            values[part][name] = value
        elif key in LIMITS:
            limit = isinstance(value, int) and 1 <= value <= LONGEST_TICKS
            require(limit, key, value, f"between 1 and {LONGEST_TICKS}: longer ones are not read into data sets")
            values["data"][LIMITS[key]] = value / TICKS_PER_BEAT
        elif key == "USE_LOG_SCALE":
            values["data"]["frequency"] = "log" if value else "linear"
        elif key in epochs:
            require(isinstance(value, int) and value >= 1, key, value, "that is a whole number of at least 1")
            epochs[key] = value
        else:
            known = {**SETTINGS, **LIMITS, **FIXED, **epochs, "USE_LOG_SCALE": False}
            require(key in FIXED or key in ELSEWHERE, "config", key, f"among {', '.join(known)}")
            require(FIXED.get(key, value) == value, key, value, f"of {FIXED.get(key)}")
    config = ComposerConfig.from_dict(values)
    segments = sum(count // config.data.notes for count in notes)
    epoch = max(1, -(-segments // config.training.batch_size))
    steps, saved = (epoch * epochs[name] for name in ("EPOCHS", "EPOCHS_BEFORE_SAVE"))
    training = replace(config.training, steps=steps, validate_every=saved, checkpoint_every=saved)
    return replace(config, training=training)
