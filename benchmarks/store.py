"""The data set's store against the two layouts that lost: a group a piece in Icechunk, and files of our own.

    python benchmarks/store.py [--pieces 240]

Pieces of (n)ASAP's mean size (2,700 notes, four performances) with random content. Wall seconds, so on a quiet machine.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import icechunk
import numpy as np
import zarr

from dexter_model.dataset.build import building, gathered, shard_name, write_shard
from dexter_model.dataset.packing import pack
from dexter_model.dataset.piece import Piece
from dexter_model.dataset.store import open_version
from dexter_model.digests import code_version, sha256_bytes, write_atomically
from dexter_model.notes import SCORE_NOTE

PERFORMANCE = {
    "performer": "p",
    "synthetic": False,
    "performance_digest": "d",
    "alignment_digest": "d",
    "unknown_ids": 0,
    "tempo_outlier": False,
    "mean_tempo": 100.0,
}


def make_piece(index: int, notes: int = 2700, performances: int = 4) -> Piece:
    rng = np.random.default_rng(index)
    score = np.zeros(notes, SCORE_NOTE)
    score["onset_div"] = np.sort(rng.integers(0, 10_000, notes))
    score["pitch"] = rng.integers(21, 109, notes)
    ids = np.array([f"n{n}" for n in range(notes)])
    rows = [{"key": f"{index}/{p}.mid", **PERFORMANCE} for p in range(performances)]
    names = ("BENCH", f"piece {index:05}", f"work {index}", "", "", "d")
    codec = rng.normal(size=(performances, notes, 5)).astype(np.float32)
    mask = rng.random((performances, notes)) > 0.07
    return Piece(*names, ids, score, codec, mask, mask, codec[..., 3].copy(), rows)


def shards_of(pieces: list[Piece], size: int = 15) -> list[list[Piece]]:
    return [pieces[i : i + size] for i in range(0, len(pieces), size)]


class Packed:
    """What we use: shards of pieces in Icechunk."""

    def __init__(self, folder: Path) -> None:
        self.url = str(folder)

    def write(self, pieces: list[Piece]) -> None:
        with building(self.url) as build:
            names = []
            for shard in shards_of(pieces):
                names.append(shard_name(piece.key for piece in shard))
                rows = [{"corpus": p.corpus, "key": p.key, "result": "", "fingerprint": ""} for p in shard]
                build.commit(write_shard(self.url, names[-1], shard, [], rows), names[-1])
            build.publish(gathered(map(build.manifest, names)))

    def read_all(self) -> Iterator[np.ndarray]:
        return (piece.performance for piece in open_version(self.url).pieces())

    def read_one(self, piece: Piece) -> np.ndarray:
        return open_version(self.url).piece(piece.corpus, piece.key).performance


class GroupAPiece:
    """Icechunk with a Zarr group a piece, as xarray would lay it out."""

    def __init__(self, folder: Path) -> None:
        self.repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)))

    def write(self, pieces: list[Piece]) -> None:
        session = self.repository.writable_session("main")
        root = zarr.group(session.store)
        for piece in pieces:
            group = root.create_group(piece.key)
            for name, array in pack([piece]).items():
                group.create_array(name, data=array, chunks=array.shape)
        session.commit("all pieces")

    def read_all(self) -> Iterator[np.ndarray]:
        root = zarr.open_group(self.repository.readonly_session("main").store, mode="r")
        for _, group in sorted(root.groups()):
            yield {name: array[...] for name, array in group.arrays()}["performance"]

    def read_one(self, piece: Piece) -> np.ndarray:
        root = zarr.open_group(self.repository.readonly_session("main").store, mode="r")
        return np.asarray(root[f"{piece.key}/performance"][...])


class OwnFiles:
    """Our own: shards as .npz files named by their digest, a version as one small file that is moved into place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, pieces: list[Piece]) -> None:
        names = []
        for shard in shards_of(pieces):
            file = io.BytesIO()
            np.savez_compressed(file, **pack(shard))
            names.append(sha256_bytes(file.getvalue()))
            write_atomically(self.folder / "shards" / names[-1], file.getvalue())
        write_atomically(self.folder / "versions" / "1", "\n".join(names).encode())

    def read_all(self) -> Iterator[np.ndarray]:
        for name in (self.folder / "versions" / "1").read_text().split():
            with np.load(self.folder / "shards" / name) as arrays:
                yield {name: arrays[name] for name in arrays}["performance"]

    def read_one(self, piece: Piece) -> np.ndarray:
        name = (self.folder / "versions" / "1").read_text().split()[0]
        with np.load(self.folder / "shards" / name) as arrays:
            return np.asarray(arrays["performance"])


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(layout: type[Packed | GroupAPiece | OwnFiles], pieces: list[Piece]) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        store = layout(Path(folder) / "store")
        times = [
            seconds(lambda: store.write(pieces)),
            seconds(lambda: list(store.read_all())),
            seconds(lambda: store.read_one(pieces[0])),
        ]
        files = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    told = " | ".join(f"{t:.2f}" for t in times)
    return f"| {layout.__name__} | {told} | {len(files)} | {sum(files) / 1e6:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=int, default=240)
    pieces = [make_piece(index) for index in range(parser.parse_args().pieces)]
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{len(pieces)} pieces, code {code_version()}, {time.strftime('%Y-%m-%d')}, {machine}\n")
    print("| layout | write s | read all s | open and read one piece s | files | MB |\n|---|---|---|---|---|---|")
    for layout in (Packed, GroupAPiece, OwnFiles):
        print(measure(layout, pieces))


if __name__ == "__main__":
    main()
