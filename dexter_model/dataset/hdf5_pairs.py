"""The lists of pairs beside an exported HDF5 file: plain integers where the original pickles objects.

``..._paired_K={K}.npy`` is (K, 4) int64: the ``index`` of the source's group and the row of its window there, those of
the target. ``..._unpaired_K={K}.npy`` is (k, 2): ``index`` and row of windows without a partner, and of mixups.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dexter_model.dataset.hdf5 import stem
from dexter_model.dataset.hdf5_reading import read_pairs
from dexter_model.dataset.pairs import pair_index, pair_table, pair_tables
from dexter_model.dataset.windows import window_count
from dexter_model.digests import write_atomically
from dexter_model.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from dexter_model.dataset.store import DatasetVersion
    from dexter_model.reading.sandbox import Sandbox


def export_pairs(
    version: DatasetVersion, folder: str | Path, window: int, count: int, seed: int, *, mixups: bool = False
) -> tuple[Path, Path]:
    """Write ``count`` pairs drawn by a seed, and the unpaired windows, for an export of this version.

    Returns:
        The files of the paired and of the unpaired windows.
    """
    paired, unpaired = pair_tables(version, window, count=count, seed=seed, mixups=mixups)
    shape = _Shape(version, window)
    segment = paired["start"].to_numpy() // window
    a, b = unpaired["a"].to_numpy(), unpaired["b"].fill_null(-1).to_numpy()
    variant = np.where(b < 0, 0, shape.place[np.maximum(b, 0)] - shape.place[a])
    arrays = {
        "paired": np.stack([paired["a"].to_numpy(), segment, paired["b"].to_numpy(), segment], axis=1),
        "unpaired": np.stack([a, unpaired["start"].to_numpy() // window + variant * shape.segments[a]], axis=1),
    }
    paths = []
    for kind, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array.astype(np.int64), allow_pickle=False)
        paths.append(Path(folder) / f"{stem(window, mixups)}_{kind}_K={paired.height}.npy")
        write_atomically(paths[-1], file.getvalue())
    return paths[0], paths[1]


def import_pairs(path: str | Path, version: DatasetVersion, window: int, sandbox: Sandbox) -> pl.DataFrame:
    """Pairs, or unpaired windows, beside an HDF5 file as a table of the version that came of it.

    Raises:
        InputError: the file is a pickle (``pickled``), holds no pairs (``array_unreadable``), or numbers windows that
            the version does not have (``other_pairs``).
    """
    pairs = sandbox.call(read_pairs, str(path))
    shape = _Shape(version, window)
    performances = pairs[:, ::2]
    if pairs.size and (pairs.min() < 0 or performances.max() >= len(shape.segments)):
        raise _other(path)
    variant, segment = np.divmod(pairs[:, 1], shape.segments[performances[:, 0]])
    if pairs.shape[1] == 4:
        if variant.any() or (pairs[:, 1] != pairs[:, 3]).any():
            raise _other(path)
        return pair_table(shape.told, pairs[:, 0], pairs[:, 2], segment * window)
    place = shape.place[pairs[:, 0]] + variant
    if pairs.size and place.max() >= len(shape.order):
        raise _other(path)
    partner = np.where(variant > 0, shape.order[np.where(variant > 0, place, 0)], -1)
    return pair_table(shape.told, pairs[:, 0], partner, segment * window)


class _Shape:
    """Of each performance of a version, by its row: ``segments``; ``place`` among the real ones in ``order``."""

    def __init__(self, version: DatasetVersion, window: int) -> None:
        pieces = version.catalogue.select("corpus", "notes", "split", piece="key").with_row_index("number")
        self.told = version.performances.join(pieces, on=["corpus", "piece"], how="left", maintain_order="left")
        notes = self.told["notes"].to_numpy().astype(np.int64)
        real = ~self.told["synthetic"].to_numpy()
        self.segments = window_count(notes, window)
        self.order = pair_index(self.told["number"].to_numpy(), notes, window, among=real).performance
        self.place = np.zeros(len(notes), np.int64)
        self.place[self.order] = np.arange(len(self.order))


def _other(path: str | Path) -> InputError:
    remedy = "Draw pairs with `dexter dataset pairs`"
    return InputError(path, "numbers windows that the data set does not have", remedy, "other_pairs")
