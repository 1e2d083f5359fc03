"""Perceptual features from ``*_cep_features.csv``, the files DExter's authors made from audio with their network.

Their column ``frame_start_time`` holds the end of each window of 469 frames; a row comes every 156 frames. The scale
of the values is not known: standardise them by the corpus.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from dexter_model.errors import InputError
from dexter_model.notes import PERCEPTUAL_FEATURES
from dexter_model.perceptual.features import PerceptualFeatures, unknown_values

MAX_BYTES = 16 << 20  # an hour of music has 0.1 MB
TIME = "frame_start_time"
FRAMES_WINDOW = 469 * 704 / 22050  # s
# Where in the window the file's time lies: what leads from there to its centre.
TIME_SEMANTICS = {"window_end": -FRAMES_WINDOW / 2, "window_start": FRAMES_WINDOW / 2, "centre": 0.0}
ALIASES = {"melody": "melodiousness", "mode": "minorness", "atonality": "tonal_stability"}
OPPOSITES = ("atonality",)


def load_cep_csv(path: str | Path, time_semantics: str = "window_end") -> PerceptualFeatures:
    """Read a file of perceptual features.

    Args:
        path: a CSV file with a header: ``frame_start_time`` and the seven features (or their ``ALIASES``) in any order;
            other columns are not read. A row with an empty cell or NaN counts as not known.
        time_semantics: what the time is of each row's window: ``window_end``, ``window_start`` or ``centre``.

    Raises:
        InputError: ``perceptual_unreadable``.
    """
    try:
        rows = list(csv.reader(io.StringIO(_read(path)), strict=True))
        table = _numbers(rows, _columns(rows[0] if rows else []))
        return _features(table, TIME_SEMANTICS[time_semantics])
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except (ValueError, csv.Error) as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: str | Path, reason: str) -> InputError:
    return InputError(path, reason, "Give a *_cep_features.csv, or compute the features", "perceptual_unreadable")


def _read(path: str | Path) -> str:
    size = Path(path).stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size >> 20} MiB is too large for a table of features (limit {MAX_BYTES >> 20} MiB)")
    try:
        return Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is no text") from error


def _columns(header: list[str]) -> list[tuple[int, float]]:
    """Column and sign of the time and of each feature."""
    names = [name.strip().lower() for name in header]
    meanings = [ALIASES.get(name, name) for name in names]
    columns = []
    for wanted in (TIME, *PERCEPTUAL_FEATURES):
        if meanings.count(wanted) != 1:
            raise ValueError(f"{'no' if wanted not in meanings else 'more than one'} column is {wanted}")
        column = meanings.index(wanted)
        columns.append((column, -1.0 if names[column] in OPPOSITES else 1.0))
    return columns


def _numbers(rows: list[list[str]], columns: list[tuple[int, float]]) -> np.ndarray:
    """The time and the features (M, 8); empty cells are NaN."""
    table = np.full((len(rows) - 1, len(columns)), np.nan)
    for index, row in enumerate(rows[1:]):
        if len(row) != len(rows[0]):
            raise ValueError(f"row {index + 2} has {len(row)} cells, the header {len(rows[0])}")
        for place, (column, sign) in enumerate(columns):
            if row[column].strip():
                table[index, place] = sign * float(row[column])
    return table


def _features(table: np.ndarray, to_centre: float) -> PerceptualFeatures:
    times, values = table[:, 0], table[:, 1:]
    if not len(times):
        raise ValueError("it holds no row")
    if not np.isfinite(times).all() or np.any(np.diff(times) <= 0) or abs(times).max() > 1e6:
        raise ValueError("its times are not rising seconds")
    if np.abs(np.nan_to_num(values, nan=0.0)).max() > 1e6:
        raise ValueError("it holds values that no feature takes")
    mask = np.isfinite(values).all(axis=1)
    values = np.where(mask[:, None], values, np.nan).astype(np.float32)
    return PerceptualFeatures(times + to_centre, values, unknown_values(len(times)), mask, "cep_csv", FRAMES_WINDOW)
