"""Training speed: our loop under Ray Train beside a plain PyTorch loop without Ray, and what a step waits for data.

The plain loop does the same arithmetic (draw, loss, gradients, clipping, Adam, moving average) on the same resident
arrays with as many threads, and nothing else. The two take turns, each going first in every other round, so that a
drift of the machine's speed cancels out; Ray runs only while its turn is. Each turn takes ``--steps`` steps to warm up
and as many that count, on our side with one row of the log. Overhead: mean difference of the rounds with its 95 %
interval (Student's t). Wall and CPU time, of which a busy machine disturbs the latter less; a worker's includes Ray's
own threads. On a GPU the share of its peak that the model's multiplications reach (MFU) is told too. Published size by
default; a tiny network shows the overhead best, as nothing else takes time:

    python benchmarks/training.py [--store DIR] [--steps 4] [--rounds 5]
    python benchmarks/training.py --channels 8 --layers 2 --batch 2 --steps 400
    python benchmarks/training.py --network unet --channels 48 --layers 3 --precision bfloat16 --compile
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import torch
from scipy.stats import t as student
from torch.utils.flop_counter import FlopCounterMode

from dexter_model.dataset.store import open_version
from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.digests import code_version
from dexter_model.expression.config import DenoiserConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.data import ResidentNotes, Windows, resident_split
from dexter_model.expression.loss import diffusion_loss
from dexter_model.expression.train_arrays import initial_denoiser
from dexter_model.training.ema import copy_weights, update_average
from tasks.train import train

Seconds = tuple[float, float]  # wall, CPU
DRAWS = 20  # batches drawn to tell what drawing one takes
# Dense bfloat16 multiplications and additions a second, by the vendor's data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}


def demo_store(folder: str) -> str:
    """The small corpus that ships with the code, built as a data set."""
    from flows.build import build
    from flows.parameters import BuildParameters

    wanted = {"corpora": ["DEMO"], "store": f"{folder}/dataset", "perceptual": "none", "workers": 0}
    build(BuildParameters.model_validate(wanted))
    return str(wanted["store"])


def now(device: str) -> Seconds:
    """The time when the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def each(began: Seconds, ended: Seconds, steps: int) -> Seconds:
    """What one of several steps took."""
    return (ended[0] - began[0]) / steps, (ended[1] - began[1]) / steps


class PlainLoop:
    """Training as one writes it without a platform."""

    def __init__(self, notes: ResidentNotes, config: ExpressionConfig, device: str) -> None:
        self.notes, self.config, self.device = notes.normalised(notes.statistics()).to(device), config, device
        self.schedule = noise_schedule(config.diffusion).to(device)
        self.model = initial_denoiser(config).to(device)
        self.network = torch.compile(self.model) if config.training.compile else self.model
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=config.training.learning_rate, fused=True)
        self.average, self.taken = copy_weights(self.model), 0
        self.generator = torch.Generator(device).manual_seed(0)

    def draw(self) -> Windows:
        return self.notes.draw(self.config.training.batch_size, self.config.denoiser.window, self.generator)

    def step(self) -> None:
        half = self.config.training.precision == "bfloat16"
        with torch.autocast(self.device, torch.bfloat16, enabled=half):
            loss = diffusion_loss(self.network, self.draw(), self.schedule, self.config, self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.gradient_clip)
        self.optimiser.step()
        self.taken += 1
        update_average(self.average, self.model, self.config.training.ema_decay, self.taken)

    def seconds(self, work: Callable[[], object], repeats: int) -> Seconds:
        """What ``work`` takes, after as many times to warm up."""
        for _ in range(repeats):
            work()
        began = now(self.device)
        for _ in range(repeats):
            work()
        return each(began, now(self.device), repeats)

    def operations(self) -> int:
        """Floating-point operations of a step's forward and backward passes."""
        self.network = self.model
        counter = FlopCounterMode(display=False)
        with counter:
            self.step()
        return counter.get_total_flops()


def seconds_by_ray(store: str, config: ExpressionConfig) -> Seconds:
    """A step of ``tasks.train`` on one worker: from one row of its log to the next; what went before warms up."""
    import ray

    steps = config.training.log_every
    rows: dict[int, Seconds] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        watcher = threading.Thread(target=watch, args=(out / "progress.json", rows, 2 * steps), daemon=True)
        watcher.start()
        train(store, config, out)
    ray.shutdown()
    return each(rows[steps], rows[2 * steps], steps)


def watch(progress_file: Path, rows: dict[int, Seconds], last: int) -> None:
    """Note when each row of the log was written and the worker's CPU time then, until that of step ``last``."""
    while last not in rows:
        time.sleep(0.01)
        with contextlib.suppress(FileNotFoundError, ValueError, StopIteration, psutil.Error):
            step, written = json.loads(progress_file.read_bytes())["step"], progress_file.stat().st_mtime
            if step not in rows:
                processes = psutil.Process().children(recursive=True)
                worker = next(process for process in processes if "RayTrainWorker" in " ".join(process.cmdline()))
                rows[step] = written, sum(worker.cpu_times()[:2])


def in_turns(loop: PlainLoop, store: str, config: ExpressionConfig, rounds: int, ray: bool) -> np.ndarray:
    """(rounds, 2, 2) seconds a step: plain and under Ray, wall and CPU; (rounds, 1, 2) without Ray."""
    found = []
    for number in range(rounds):
        first = [seconds_by_ray(store, config)] if ray and number % 2 else []
        plain = loop.seconds(loop.step, config.training.log_every)
        ours = first or ([seconds_by_ray(store, config)] if ray else [])
        found.append([plain, *ours])
    return np.array(found)


def settings(options: argparse.Namespace) -> ExpressionConfig:
    """Two rows of the log ``--steps`` apart, and some more that do not count, so that ``watch`` sees the second row."""
    denoiser = DenoiserConfig(options.network, options.channels, options.layers, options.window)
    return ExpressionConfig(
        denoiser,
        training=TrainingConfig(
            steps=2 * options.steps + 1 + options.steps // 4,
            batch_size=options.batch,
            precision=options.precision,
            compile=options.compile,
            threads=options.threads,
            log_every=options.steps,
            validate_every=10**9,
            checkpoint_every=10**9,
            validation_windows=1,
            rendered_windows=0,
        ),
    )


def milliseconds(seconds: Seconds) -> dict[str, float]:
    """For the printed figures."""
    return {"wall": round(1000 * seconds[0], 2), "cpu": round(1000 * seconds[1], 2)}


def overhead(found: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds that a step takes longer under Ray: mean, and the ends of its 95 % interval; wall and CPU."""
    longer = 1000 * (found[:, 1] - found[:, 0])
    mean = longer.mean(axis=0)
    half = student.ppf(0.975, len(longer) - 1) * longer.std(axis=0, ddof=1) / len(longer) ** 0.5
    wall, cpu = np.column_stack([mean, mean - half, mean + half]).round(2).tolist()
    return {"wall": wall, "cpu": cpu}


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a data set; default: the DEMO corpus, built for the occasion")
    parser.add_argument("--network", default="diffwave")
    parser.add_argument("--channels", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5, help="at least 2, for an interval")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plain-only", action="store_true", help="without Ray")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    torch.set_num_threads(options.threads)
    device, config = "cuda" if torch.cuda.is_available() else "cpu", settings(options)
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or demo_store(folder)
        notes = resident_split(open_version(store), "train", config)
        assert notes is not None
        loop = PlainLoop(notes, config, device)
        found = in_turns(loop, store, config, max(2, options.rounds), not options.plain_only)
        drawing = loop.seconds(loop.draw, DRAWS)
        operations = loop.operations()
    plain, ours = found[:, 0].mean(axis=0), found[:, -1].mean(axis=0)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU, {options.threads} threads"
    clock = 0 if device == "cuda" else 1
    figures = {
        "code_version": code_version(),
        "date": datetime.date.today().isoformat(),
        "device": name,
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "denoiser": asdict(config.denoiser),
        "batch": options.batch,
        "precision": options.precision,
        "compile": options.compile,
        "steps_per_sec": round(1 / ours[0], 3),
        "samples_per_sec": round(options.batch / ours[0], 1),
        "ms_a_step": milliseconds(ours),
        "ms_a_step_plain": milliseconds(plain),
        "rounds": len(found),
        "ms_overhead": None if options.plain_only else overhead(found),
        "ms_drawing": milliseconds(drawing),
        "percent_waiting_for_data": round(100 * drawing[clock] / plain[clock], 3),
        "gflop_a_step": round(operations / 1e9, 2),
        "tflop_per_sec": round(operations / ours[0] / 1e12, 4),
    }
    peak = next((peak for model, peak in PEAKS.items() if device == "cuda" and model in name), None)
    print(json.dumps(figures | ({"mfu_percent": round(100 * operations / ours[0] / peak, 1)} if peak else {})))


if __name__ == "__main__":
    main()
