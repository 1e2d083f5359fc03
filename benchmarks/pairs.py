"""Pairs of a corpus as large as the largest published one, enumerated, drawn and written as tables.

    python benchmarks/pairs.py

The corpus is simulated by its shapes (pieces, performances of each, notes), which is all that pairs depend on: pieces
and performances about as many as ATEPP 1.1 has, and exactly as many pairs as DExter's authors had. Wall seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from dexter_model.dataset.pairs import PAIRED, pair_index, pair_tables, write_pairs
from dexter_model.dataset.windows import window_count
from dexter_model.digests import code_version

PAIRS = 2_374_872  # of DExter, over all its corpora
WINDOW = 200


PIECES = 1_600  # of ATEPP, played by 7.3 people on average, a few of them by very many


def simulated(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Performances and notes of each piece, both log-normal; what would make too many pairs is left out."""
    rng = np.random.default_rng(seed)
    members, notes, left = [], [], PAIRS
    for _ in range(PIECES):
        m, n = max(1, round(rng.lognormal(1.45, 1.2))), int(np.clip(rng.lognormal(7.0, 0.8), 60, 12_000))
        pairs = m * (m - 1) * int(window_count(n, WINDOW))
        if pairs <= left:
            members.append(m)
            notes.append(n)
            left -= pairs
    fill = [min(left // 2 - done, 50) for done in range(0, left // 2, 50)]  # pieces for two, to hit the number
    return np.array(members + [2] * len(fill)), np.array(notes + [WINDOW * windows for windows in fill])


def as_version(members: np.ndarray, notes: np.ndarray) -> Any:
    """The two tables of a data set version that pairs are made from."""
    keys = [f"Composer_{i % 60}/Collection of pieces, op. {i // 9}/No. {i}" for i in range(len(members))]
    corpus, rows = ["ATEPP"] * len(keys), np.repeat(np.arange(len(members)), members)
    catalogue = pl.DataFrame({"corpus": corpus, "key": keys, "notes": notes, "split": "train"})
    performances = pl.DataFrame(
        {
            "corpus": ["ATEPP"] * len(rows),
            "piece": np.array(keys)[rows],
            "key": [f"{keys[row]}/{number:05}.mid" for number, row in enumerate(rows)],
            "synthetic": False,
        }
    )
    return SimpleNamespace(catalogue=catalogue, performances=performances)


def timed(work: Callable[[], Any]) -> tuple[Any, str]:
    began = time.perf_counter()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return result, f"{time.perf_counter() - began:.2f} s | {peak:.2f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    members, notes = simulated()
    piece, length = np.repeat(np.arange(len(members)), members), np.repeat(notes, members)
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{time.strftime('%Y-%m-%d')}, commit {code_version()}, {machine}, windows of {WINDOW}\n")
    print(f"simulated: {len(members):,} pieces, {len(piece):,} performances, {length.sum():,} codec rows\n")
    print("| | pairs | wall | peak memory so far |\n|---|---|---|---|")
    index = pair_index(piece, length, WINDOW)
    pairs, told = timed(index.all)
    print(f"| all pairs as arrays of integers | {len(pairs.a):,} | {told} |")
    drawn, told = timed(lambda: index.draw(2_000_000, seed=13))
    print(f"| 2,000,000 of them by a seed | {len(drawn.a):,} | {told} |")
    drawn, told = timed(lambda: index.draw(1_600, seed=13))
    print(f"| 1,600 of them by a seed | {len(drawn.a):,} | {told} |")
    del pairs, drawn
    version = as_version(members, notes)
    (paired, unpaired), told = timed(lambda: pair_tables(version, WINDOW, mixups=True))
    print(f"| both tables, with all {unpaired.height:,} unpaired and mixed windows | {paired.height:,} | {told} |")
    with tempfile.TemporaryDirectory() as folder:
        _, told = timed(lambda: write_pairs(folder, paired, unpaired, {}))
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
        print(f"| the tables as Parquet, {size:.0f} MB | {pl.read_parquet(Path(folder) / PAIRED).height:,} | {told} |")


if __name__ == "__main__":
    main()
