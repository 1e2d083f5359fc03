"""The original's ``config.py``, key by key, as settings of this project.

What it says of places and of talking has no counterpart: folders are arguments here. Reading and writing are as
published (960 ticks a beat, none longer than 2,048, 60 beats a minute); other values of those keys are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dexter_model.composer.config import REFERENCE, ComposerConfig
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
FIXED = {
    "STANDARDIZE": True,
    "TICKS_PER_BEAT": 960,
    "BPM": 60,
    "MAX_DURATION": 2048,
    "MAX_DELTA": 2048,
    "SAVE_MODEL": True,
    "LOAD_MODEL": True,
}
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


def config_of_original(keys: Mapping[str, Any], segments: int) -> ComposerConfig:
    """The original's settings, those that ``keys`` does not name at its defaults, for so many segments of training.

    Raises:
        InputError: an unknown key, or a value that is not supported (``config_invalid``).
    """
    values = REFERENCE.to_dict()
    epochs = {"EPOCHS": EPOCHS, "EPOCHS_BEFORE_SAVE": EPOCHS_BEFORE_SAVE}
    for key, value in keys.items():
        if key in SETTINGS:
            part, name = SETTINGS[key]
            values[part][name] = value
        elif key == "USE_LOG_SCALE":
            values["data"]["frequency"] = "log" if value else "linear"
        elif key in epochs:
            require(isinstance(value, int) and value >= 1, key, value, "that is a whole number of at least 1")
            epochs[key] = value
        else:
            require(key in FIXED or key in ELSEWHERE, "config", key, f"among {', '.join(SETTINGS)}")
            require(FIXED.get(key, value) == value, key, value, f"of {FIXED.get(key)}")
    batch = values["training"]["batch_size"]
    require(isinstance(batch, int) and batch >= 1, "BATCH_SIZE", batch, "that is a whole number of at least 1")
    epoch = max(1, -(-segments // batch))
    saved = epoch * epochs["EPOCHS_BEFORE_SAVE"]
    values["training"] |= {"steps": epoch * epochs["EPOCHS"], "validate_every": saved, "checkpoint_every": saved}
    return ComposerConfig.from_dict(values)
