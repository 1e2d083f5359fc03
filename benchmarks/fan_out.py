"""How a build spreads: measured with one and two workers, simulated to a thousand workers and 100,000 pieces.

    DEXTER_DATASETS_ROOT=... python benchmarks/fan_out.py OUT [--pieces 100000] [--grow 400] [--latency 0.03]

Costs are CPU seconds measured here, so that a busy machine tells what a quiet one does: encoding by size of the piece's
alignments (pieces of ASAP, drawn again and again for a large corpus and cut into shards by the build's own rule), forks
and commits by how many shards the store holds, a job's way through Ray. ``--latency`` is assumed: seconds to S3 and
back, for each of the requests that wait for one another. Writes ``OUT/costs.json``, ``OUT/fan_out.md`` and
``OUT/fan_out.png``.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import platform
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from store import make_piece

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.dataset.build import building, write_shard
from dexter_model.dataset.piece import encode_piece
from dexter_model.dataset.plan import CODECS, SHARD_BYTES, Run, plan_build, source_bytes
from dexter_model.digests import code_version
from dexter_model.reading.sandbox import Sandbox
from tasks.build import ShardEncoder
from tasks.cluster import fan_out, ray_session

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
REQUESTS = {"fork": 4, "write": 3, "commit": 4, "manifest": 2}  # to S3, one after the other
MERGED = 16


@dataclass(frozen=True)
class Costs:
    """Seconds: of encoding a MB, by piece; of a fork and a commit, and more of each with every shard in the store."""

    per_mb: list[float]
    piece_mb: list[float]
    fork: tuple[float, float]
    commit: tuple[float, float]
    merge: float  # of each further fork in a commit
    manifest: float
    call: float  # the driver's share of a job: waiting for it, taking its result, handing out the next
    wait: float  # more of that with every worker
    start: float  # of an actor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pieces", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=24, help="pieces of ASAP whose encoding is measured")
    parser.add_argument("--grow", type=int, default=400, help="shards of the store whose costs are measured")
    parser.add_argument("--latency", type=float, default=0.03)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "costs.json"
    if kept.exists():
        costs = Costs(**json.loads(kept.read_text()))
    else:
        runs = sample_of_asap(options.sample)
        costs = Costs(**encoding(runs), **storing(options.grow), **calling())
        measured = two_workers(runs)
        kept.write_text(json.dumps(asdict(costs), indent=1))
        (options.out / "measured.md").write_text(measured)
    shards = shards_of(costs, options.pieces)
    rows = []
    for workers in WORKERS:
        each = simulate(shards, workers, costs, options.latency, pause=None)
        merged = simulate(shards, workers, costs, options.latency, pause=1.0)
        rows.append((workers, each, merged))
    work = float(shards.sum())
    table = told(rows, shards, options.pieces, work)
    (options.out / "fan_out.md").write_text(table)
    plot(rows, options.pieces, work, options.out / "fan_out.png")
    print(*(path.read_text() for path in [options.out / "measured.md"] if path.exists()), table, sep="\n")


def sample_of_asap(count: int) -> list[Run]:
    sources = [piece for piece in discover("ASAP", CorpusRoots()) if piece.performances]
    random.Random(13).shuffle(sources)
    return list(plan_build(sources[:count], None).runs)


def cpu_seconds() -> float:
    """CPU time of this process and of the children it has now."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def encoding(runs: list[Run]) -> dict[str, Any]:
    """Seconds a MB of alignments of each piece, on one worker with its sandbox."""
    sandbox, per_mb, sizes = Sandbox(), [], []
    encode_piece(runs[0].source, sandbox, "estimate")  # imports
    for run in runs:
        before, size = cpu_seconds(), source_bytes(run.source) / 1e6
        encode_piece(run.source, sandbox, "estimate")
        per_mb.append((cpu_seconds() - before) / size)
        sizes.append(size)
    sandbox.close()
    return {"per_mb": per_mb, "piece_mb": sizes}


def storing(grow: int) -> dict[str, Any]:
    """What a fork, a commit, a merge and a manifest cost in a store that grows."""
    piece, names = make_piece(0, 20, 1), (f"{number:020x}" for number in itertools.count())
    points = []
    with tempfile.TemporaryDirectory() as folder, building(folder) as build:

        def forks(count: int) -> dict[str, Any]:
            return {name: write_shard(folder, name, [piece], [], []) for name in itertools.islice(names, count)}

        for target in np.linspace(0, grow, 5).astype(int):
            held = len(build.finished_shards())
            while held < target:
                build.commit_all(forks(min(50, target - held)))
                held = len(build.finished_shards())
            write, _ = cpu_of(lambda: forks(1))
            one, last = cpu_of(build.commit_all, [forks(1) for _ in range(3)])
            merged, _ = cpu_of(build.commit_all, [forks(MERGED)])
            manifest, _ = cpu_of(build.manifest, [*last] * 3)
            points.append((held, write, one, (merged - one) / (MERGED - 1), manifest))
    at, write, one, merge, manifest = np.array(points).T
    fork, commit = np.polyfit(at, write, 1)[::-1], np.polyfit(at, one, 1)[::-1]
    print("shards held, fork, commit, merge, manifest (CPU s):", *(np.round(point, 4) for point in points), sep="\n")
    of_store = {"fork": fork.tolist(), "commit": commit.tolist()}
    return of_store | {"merge": max(0.0, float(np.median(merge))), "manifest": float(np.median(manifest))}


def cpu_of(work: Callable[..., Any], arguments: Sequence[Any] | None = None) -> tuple[float, Any]:
    """The median CPU seconds of doing it with each argument, or five times with none, and the last argument."""
    seconds = []
    for argument in arguments or [None] * 5:
        before = time.process_time()
        work() if argument is None else work(argument)
        seconds.append(time.process_time() - before)
    return float(np.median(seconds)), argument


def calling() -> dict[str, Any]:
    """A job's way through Ray and ``FanOut``, and what more workers add to it."""

    def nothing() -> Any:
        class Nothing:
            def run(self, job: int) -> int:
                return job

        return Nothing()

    before = time.process_time()
    jobs = 2000
    for _ in fan_out(nothing, range(jobs), workers=2):
        pass
    call = (time.process_time() - before) / jobs
    ray = ray_session()
    never = ray.remote(num_cpus=1e6)(nothing)
    waits = {}
    pending: list[Any] = []
    for count in (10, 1000):
        pending += [never.remote() for _ in range(count - len(pending))]
        waits[count], _ = cpu_of(lambda references: ray.wait(references, num_returns=1, timeout=0), [pending] * 20)
    began = time.monotonic()
    list(fan_out(nothing, [1], workers=1))
    return {"call": call, "wait": (waits[1000] - waits[10]) / 990, "start": time.monotonic() - began}


def two_workers(runs: list[Run]) -> str:
    """The same pieces over one and over two workers: wall seconds once workers are there, and CPU seconds in all."""
    lines = ["| workers | wall s | efficiency |", "|---|---|---|"]
    walls: dict[int, float] = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder, building(folder) as build:
            jobs = [(f"{index:020x}", [run]) for index, run in enumerate(runs)]
            began = 0.0
            for index, (fork, _) in fan_out(lambda url=folder: ShardEncoder(url, CODECS), jobs, workers=workers):
                began = began or time.monotonic()  # the first result: Ray, actors and their imports are there
                build.commit(fork, jobs[index][0])
            walls[workers] = time.monotonic() - began
        lines.append(f"| {workers} | {walls[workers]:.1f} | {walls[1] / walls[workers] / workers:.0%} |")
    return "\n".join([f"{len(runs)} pieces of ASAP, each a shard; load {os.getloadavg()[0]:.1f}", "", *lines, ""])


def shards_of(costs: Costs, pieces: int) -> np.ndarray:
    """Seconds to encode each shard of a corpus of so many pieces, drawn from those that were measured."""
    drawn = np.random.default_rng(13).integers(0, len(costs.piece_mb), pieces)
    shards, filled = [0.0], 0.0
    for piece in drawn:
        if filled >= SHARD_BYTES / 1e6:
            shards.append(0.0)
            filled = 0.0
        shards[-1] += costs.per_mb[piece] * costs.piece_mb[piece]
        filled += costs.piece_mb[piece]
    return np.array(shards)


def simulate(shards: np.ndarray, workers: int, costs: Costs, latency: float, pause: float | None) -> float:
    """Seconds of a build: events of ``FanOut``'s loop, one driver that hands out and commits, workers that encode.

    Args:
        shards: seconds to encode each.
        workers: how many.
        costs: of everything else.
        latency: of a request to S3.
        pause: between commits, in units of the last one's duration, as in ``tasks.build``; None commits every shard by
            itself and reads its table rows back, as builds did before.
    """
    noise = np.random.default_rng(workers)
    now, handed, held, last_took, last_end = 0.0, 0, 0, 0.0, 0.0
    events: list[tuple[float, int]] = []
    for worker in range(workers):
        heapq.heappush(events, (costs.start * (1 + noise.random()) + 0.002 * worker, -1))
    uncommitted: deque[int] = deque()
    running = 0
    while events or uncommitted:
        if events and (events[0][0] <= now or not uncommitted):
            at, shard = heapq.heappop(events)
            now = max(now, at) + costs.call + costs.wait * workers
            if shard >= 0:
                uncommitted.append(shard)
                running -= 1
            if handed < len(shards):
                fork = (
                    costs.manifest
                    + costs.fork[0]
                    + costs.fork[1] * held
                    + latency * (REQUESTS["fork"] + REQUESTS["write"])
                )
                heapq.heappush(events, (now + fork + shards[handed], handed))
                handed += 1
                running += 1
        due = pause is None or now >= last_end + pause * last_took or not running
        if uncommitted and due:
            count = 1 if pause is None else len(uncommitted)
            took = costs.commit[0] + costs.commit[1] * held + costs.merge * (count - 1) + latency * REQUESTS["commit"]
            if pause is None:
                took += costs.manifest + latency * REQUESTS["manifest"]
            for _ in range(count):
                uncommitted.popleft()
            now, held, last_took = now + took, held + count, took
            last_end = now
        elif uncommitted and events:
            now = max(now, min(events[0][0], last_end + (pause or 0.0) * last_took))
    return now


def told(rows: list[tuple[int, float, float]], shards: np.ndarray, pieces: int, work: float) -> str:
    lines = [
        f"commit {code_version()[:12]}, {platform.processor() or platform.machine()}; {pieces:,} pieces in "
        f"{len(shards):,} shards of {shards.mean():.1f} s (longest {shards.max():.1f} s), {work / 3600:.1f} CPU hours",
        "",
        "| workers | a commit a shard: min | pieces/s | efficiency | merged: min | pieces/s | efficiency |",
        "|---|---|---|---|---|---|---|",
    ]
    for workers, *seconds in rows:
        cells = [f"{s / 60:.1f} | {pieces / s:.0f} | {work / s / workers:.0%}" for s in seconds]
        lines.append(f"| {workers} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[tuple[int, float, float]], pieces: int, work: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    workers = np.array([row[0] for row in rows])
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(workers, workers * pieces / work, ":", color="grey", label="every worker always at work")
    axes.plot(workers, [pieces / row[2] for row in rows], "o-", label="shards merged into a commit")
    axes.plot(workers, [pieces / row[1] for row in rows], "s-", label="a commit a shard")
    axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="pieces/s", title=f"Build of {pieces:,} pieces")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
