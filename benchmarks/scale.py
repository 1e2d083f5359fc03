"""A data set of 100,000 synthetic pieces at S3: how long a look, a build with nothing to do and a full read take.

    python benchmarks/scale.py [--pieces 100000] [--store s3://bucket/prefix] [--sources FOLDER]

Without ``--store`` it starts Ceph's gateway on this machine, which keeps all in memory (some 3 GB), and ends it. The
pieces are made up: random notes and performances of some 150 notes, and small files on disk that stand for their
sources; their shards are written by the same functions as a build's. Then the real commands run on them. Wall seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.sources import PieceSource
from dexter_model.dataset.build import Build, building, gathered, shard_name, write_shard
from dexter_model.dataset.encodings import Codecs
from dexter_model.dataset.piece import Piece
from dexter_model.dataset.plan import Run, fingerprint
from dexter_model.dataset.store import open_version
from dexter_model.digests import code_version
from dexter_model.notes import SCORE_NOTE

PIECES_IN_SHARD = 1_300  # some 10 MB stored, as a build writes
CONCURRENCY = 8
PERFORMANCE = {
    "synthetic": True,
    "performance_digest": "d",
    "alignment_digest": "",
    "unknown_ids": 0,
    "tempo_outlier": False,
    "mean_tempo": 100.0,
    "perceptual": "none",
}


def make_sources(root: Path, count: int) -> None:
    """Small files laid out as a FOLDER corpus: a score and two match files a piece."""
    for index in range(count):
        folder = root / f"{index // 1000:03}"
        if index % 1000 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        name = f"Composer{index % 97}_{index:06}"
        for file in (f"{name}.musicxml", f"{name}_p01.match", f"{name}_p02.match"):
            (folder / file).write_text(f"synthetic {file}\n")


def made_up(source: PieceSource, number: int) -> Piece:
    rng = np.random.default_rng(number)
    notes = int(rng.integers(100, 200))
    score = np.zeros(notes, SCORE_NOTE)
    score["onset_div"] = np.sort(rng.integers(0, 10_000, notes))
    score["pitch"] = rng.integers(21, 109, notes)
    ids = np.array([f"n{n}" for n in range(notes)])
    codec = rng.standard_normal((2, notes, 5), np.float32)
    mask = rng.random((2, notes), np.float32) > 0.07
    rows = [{"key": each.key, "performer": each.performer, **PERFORMANCE} for each in source.performances]
    names = (source.corpus, source.key, source.work, source.composer, "", "d")
    return Piece(*names, ids, score, codec, mask, mask, codec[..., 3].copy(), rows)


def write_shards(build: Build, sources: list[PieceSource]) -> None:
    """As a build does, but for what encodes."""
    finished = build.finished_shards()
    parts = []
    for start in range(0, len(sources), PIECES_IN_SHARD):
        runs = [
            Run(source, fingerprint(source, Codecs("none")), "new")
            for source in sources[start : start + PIECES_IN_SHARD]
        ]
        shard = shard_name(run.name for run in runs)
        if shard not in finished:
            pieces = [made_up(run.source, start + index) for index, run in enumerate(runs)]
            fork = write_shard(build.url, shard, pieces, (), [run.source_row() for run in runs])
            build.commit(fork, shard)
        parts.append(build.manifest(shard))
        if len(parts) % 25 == 0:
            print(f"  {len(parts)} shards", flush=True)
    build.publish(gathered(parts), Codecs("none").described())


@contextlib.contextmanager
def stored(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from s3_servers import ceph

    with ceph(memory=6 << 30) as server, server.used():
        yield f"{server.new_bucket()}/scale"


def timed(what: str, *command: str) -> None:
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "flows.cli", *command], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    last = (done.stdout + done.stderr).strip().splitlines()[-1:]
    print(
        f"| {what} | {time.monotonic() - started:.1f} s, {cpu:.1f} s CPU, {after.ru_maxrss / 1024:.0f} MB at most"
        f" | {done.returncode}: {' '.join(last)[:90]} |",
        flush=True,
    )


def read_all(url: str) -> tuple[int, float]:
    """Bytes of the arrays in memory, and seconds, of a full sequential read of every piece."""
    started, size = time.monotonic(), 0
    for piece in open_version(url).pieces():
        size += sum(
            array.nbytes for array in (piece.score, piece.performance, piece.matched, piece.named, piece.note_id)
        )
    return size, time.monotonic() - started


def bytes_fetched(url: str) -> int:
    """Bytes as stored of the arrays that such a read fetches; the store holds tables and manifests too."""
    version = open_version(url)
    shards: Any = (version._group[f"shards/{name}"] for name in version.catalogue["shard"].unique().sort())
    return sum(array.nbytes_stored() for shard in shards for name, array in shard.arrays() if name != "manifest")


def get_all(url: str) -> tuple[int, int, float]:
    """Objects, bytes and seconds of getting the chunks of the store as they lie there."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3", config=Config(max_pool_connections=CONCURRENCY))
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/icechunk/chunks/")
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    started = time.monotonic()
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        sizes = threads.map(lambda key: len(client.get_object(Bucket=bucket, Key=key)["Body"].read()), keys)
        return len(keys), sum(sizes), time.monotonic() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pieces", type=int, default=100_000)
    arguments.add_argument("--store", help="use this one, and leave it")
    arguments.add_argument("--sources", type=Path, help="folder of the synthetic sources, to keep them")
    told = arguments.parse_args()
    print(f"{told.pieces} synthetic pieces, {code_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.0f}")
    with tempfile.TemporaryDirectory() as scratch, stored(told.store) as url:
        root = told.sources or Path(scratch)
        if not root.is_dir() or not any(root.iterdir()):
            make_sources(root, told.pieces)
        started = time.monotonic()
        sources = discover("FOLDER", CorpusRoots(data_root=str(root)))
        print(f"discovered {len(sources)} in {time.monotonic() - started:.1f} s", flush=True)
        with building(url) as build:
            if build.current is None:
                write_shards(build, sources)
        print(
            f"written after {time.monotonic() - started:.1f} s\n\n| what | measured | exit |\n|---|---|---|", flush=True
        )
        for _ in range(2):
            timed("dataset info", "dataset", "info", url)
        same = ("--corpus", "FOLDER", "--data-root", str(root), "--store", url, "--perceptual", "none")
        for _ in range(2):
            timed("dataset build, nothing changed", "dataset", "build", *same)
        timed("dataset log", "dataset", "log", url)
        fetched = bytes_fetched(url)
        for _ in range(2):
            size, seconds = read_all(url)
            count, stored_bytes, raw = get_all(url)
            raw_speed = stored_bytes / 1e6 / raw
            for what, read in (("of arrays", size), ("as stored", fetched)):
                speed = read / 1e6 / seconds
                told = f"{read / 1e6:.0f} MB {what}, {speed:.0f} MB/s"
                print(f"| read all pieces | {seconds:.1f} s: {told} | {speed / raw_speed:.2f} of raw |")
            told = f"{count} objects, {stored_bytes / 1e6:.0f} MB, {raw_speed:.0f} MB/s"
            print(f"| get all objects | {raw:.1f} s: {told} | |", flush=True)


if __name__ == "__main__":
    main()
