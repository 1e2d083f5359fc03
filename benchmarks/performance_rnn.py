"""Performance RNN, generated many at a time beside one at a time: events a second of the published network.

Weights are random unless a checkpoint is given; then the number of events a piece is the music's, not chance's.

    python benchmarks/performance_rnn.py [--checkpoint DIR] [--outputs 128] [--alone 2] [--steps 3000] [--device cpu]
        [--bfloat16] [--threads N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from dexter_model.performance_rnn.config import PUBLISHED
from dexter_model.performance_rnn.generation import generate, load_network
from dexter_model.performance_rnn.network import PerformanceRnn, in_bfloat16, initial_network
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.training.checkpoint import load_checkpoint


def events_per_second(network: PerformanceRnn, settings: GenerationSettings, batches: list[range]) -> dict[str, float]:
    """Events, seconds and their ratio of so many batches, one after another."""
    generate(network, GenerationSettings(num_steps=200), range(2))  # kernels are chosen and loaded
    began, events = time.perf_counter(), 0
    for seeds in batches:
        events += sum(len(made.tokens) for made in generate(network, settings, seeds))
    seconds = time.perf_counter() - began
    return {"events": events, "seconds": seconds, "events_per_sec": events / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--outputs", type=int, default=128)
    parser.add_argument("--alone", type=int, default=2, help="outputs that are made one at a time")
    parser.add_argument("--steps", type=int, default=3000, help="of 10 ms")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bfloat16", action="store_true", help="layers in bfloat16 where many are made together")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network = initial_network(PUBLISHED["performance_with_dynamics"], 0)
    if options.checkpoint:
        network = load_network(load_checkpoint(options.checkpoint))
    network = network.eval().to(options.device)
    settings = GenerationSettings(num_steps=options.steps)
    alone = events_per_second(network, settings, [range(seed, seed + 1) for seed in range(options.alone)])
    network = in_bfloat16(network) if options.bfloat16 else network
    together = events_per_second(network, settings, [range(options.outputs)])
    ratio = together["events_per_sec"] / alone["events_per_sec"]
    for name, found in ((f"{options.outputs} together", together), ("one at a time", alone)):
        print(f"{name}: {found['events_per_sec']:.0f} events/s ({found['events']:.0f} in {found['seconds']:.1f} s)")
    print(f"{ratio:.1f} times as fast")
    if options.json:
        told = {"device": options.device, "steps": options.steps, "together": together, "alone": alone, "ratio": ratio}
        options.json.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
