"""Notes a second of rendering, stage by stage: denoising, decoding and writing; parsing is reported apart.

The first Bach scores that ship with music21, parsed afresh in the sandbox as untrusted files are, then rendered in this
process; ``--workers`` adds a whole job over Ray actors (scores read from the cache, Ray's start apart). Wall seconds,
and CPU seconds of this process alone, which a busy machine disturbs less.

    python benchmarks/rendering.py [--scores 40] [--checkpoint DIR] [--steps 20] [--sampler ddim]
        [--workers 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dexter_model.digests import code_version
from dexter_model.expression.plan import SAMPLERS, Render, Sampling, plan_batches, score_digest
from dexter_model.expression.rendering import default_checkpoint, files_of, perform
from dexter_model.expression.sampler import PieceSampler
from dexter_model.expression.score_files import ScoreReader
from dexter_model.notes import Score
from dexter_model.renders import RendersFolder
from dexter_model.training.checkpoint import load_checkpoint
from tasks.cluster import cpus, ray_session
from tasks.render import RenderSettings, render_scores

Seconds = dict[str, tuple[float, float]]  # wall and CPU by stage


def bach_scores(count: int) -> list[str]:
    """The first zipped MusicXML scores of music21's Bach."""
    package = importlib.util.find_spec("music21")
    assert package is not None
    assert package.origin is not None
    return [str(path) for path in sorted((Path(package.origin).parent / "corpus" / "bach").glob("*.mxl"))[:count]]


@contextmanager
def timed(seconds: Seconds, stage: str) -> Iterator[None]:
    """Add the wall and CPU time of a block to a stage."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    before = seconds.get(stage, (0.0, 0.0))
    seconds[stage] = before[0] + time.perf_counter() - wall, before[1] + time.process_time() - cpu


def read(paths: list[str], seconds: Seconds) -> list[Score]:
    """All scores, parsed in the sandbox; its start (the import of partitura) is a stage of its own."""
    reader = ScoreReader()
    with timed(seconds, "starting the reader"):
        reader.run(paths[-1])
    with timed(seconds, "parsing"):
        outcomes = [reader.run(path) for path in paths]
    reader.close()
    return [outcome for outcome in outcomes if isinstance(outcome, Score)]


def render_here(scores: list[Score], checkpoint: Path, sampling: Sampling, out: Path, seconds: Seconds) -> None:
    """Render in this process, in the stages of ``tasks.render``."""
    with timed(seconds, "loading the model"):
        sampler = PieceSampler(load_checkpoint(checkpoint), sampling)
    renders = [Render(score, score_digest(score)) for score in scores]
    folder = RendersFolder(out)
    folder.begin()
    for batch in plan_batches([len(score.notes) for score in scores], sampler.config.denoiser.window):
        with timed(seconds, "denoising"):
            codecs = sampler.run([renders[index] for index in batch])
        with timed(seconds, "decoding and writing"):
            for index, codec in zip(batch, codecs, strict=True):
                folder.add({"name": str(index)}, *files_of(*perform(scores[index], codec)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=int, default=40)
    parser.add_argument("--checkpoint", type=Path, default=default_checkpoint())
    parser.add_argument("--steps", type=int, default=Sampling.steps)
    parser.add_argument("--sampler", choices=SAMPLERS, default=Sampling.sampler)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds: Seconds = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["DEXTER_CACHE_DIR"] = f"{scratch}/cache"
        paths = bach_scores(arguments.scores + 1)
        scores = read(paths, seconds)
        sampling = Sampling(arguments.steps, sampler=arguments.sampler)
        render_here(scores, arguments.checkpoint, sampling, Path(scratch) / "here", seconds)
        if arguments.workers:
            with timed(seconds, "starting Ray"):
                ray_session(arguments.workers)
            settings = RenderSettings(
                arguments.steps, sampler=arguments.sampler, checkpoint=arguments.checkpoint, workers=arguments.workers
            )
            with timed(seconds, f"whole job over {arguments.workers} actors, parsing excluded"):
                render_scores(paths[:-1], Path(scratch) / "actors", settings)
    notes = sum(len(score.notes) for score in scores)
    where = {"cpu": platform.processor() or platform.machine(), "cpus": cpus(), "cuda": torch.cuda.is_available()}
    today = datetime.date.today().isoformat()
    about: dict[str, Any] = {"code": code_version(), "date": today, **sampling.told(), **where}
    result = about | {"scores": len(scores), "notes": notes, "seconds": seconds, "load": os.getloadavg()[0]}
    print(json.dumps(about))
    print(f"{len(scores)} scores, {notes:,} notes, load {os.getloadavg()[0]:.1f}")
    for stage, (wall, cpu) in seconds.items():
        print(f"{stage:45s} {wall:8.2f} s {notes / wall:10,.0f} notes/s {cpu:8.2f} s CPU")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
