"""Performance RNN, generated many at a time beside one at a time: events a second of the published network.

Weights are random unless a checkpoint is given; then the number of events a piece is the music's, not chance's. Both
ways are timed in each precision, so that a ratio says what making many together gains, and nothing else.

    python benchmarks/performance_rnn.py [--checkpoint DIR] [--outputs 128] [--alone 2] [--steps 3000] [--device cpu]
        [--precision float32 bfloat16] [--threads N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from dexter_model.performance_rnn.config import PUBLISHED, PerformanceRnnConfig
from dexter_model.performance_rnn.generation import generate, load_network
from dexter_model.performance_rnn.network import PerformanceRnn, initial_network
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.training.checkpoint import Checkpoint, load_checkpoint


def events_per_second(network: PerformanceRnn, settings: GenerationSettings, batches: list[range]) -> dict[str, float]:
    """Events, seconds and their ratio of so many batches, one after another."""
    generate(network, GenerationSettings(num_steps=200), range(2))  # kernels are chosen and loaded
    began, events = time.perf_counter(), 0
    for seeds in batches:
        events += sum(len(made.tokens) for made in generate(network, settings, seeds))
    seconds = time.perf_counter() - began
    return {"events": events, "seconds": seconds, "events_per_sec": events / seconds}


def random_model() -> Checkpoint:
    """The published network as training begins with it."""
    config = PerformanceRnnConfig(PUBLISHED["performance_with_dynamics"])
    state = {name: value.numpy() for name, value in initial_network(config.network, 0).state_dict().items()}
    return Checkpoint(Path("random"), config.to_dict(), {}, state, {"label": "random", "step": 0}, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--outputs", type=int, default=128)
    parser.add_argument("--alone", type=int, default=2, help="outputs that are made one at a time")
    parser.add_argument("--steps", type=int, default=3000, help="of 10 ms")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_checkpoint(options.checkpoint) if options.checkpoint else random_model()
    found = {}
    for precision in options.precision:
        settings = GenerationSettings(num_steps=options.steps, precision=precision)
        network = load_network(model, precision).to(options.device)
        alone = events_per_second(network, settings, [range(seed, seed + 1) for seed in range(options.alone)])
        together = events_per_second(network, settings, [range(options.outputs)])
        ratio = together["events_per_sec"] / alone["events_per_sec"]
        found[precision] = {"together": together, "alone": alone, "ratio": ratio}
        rates = f"{together['events_per_sec']:.0f} and {alone['events_per_sec']:.0f} events/s"
        print(f"{precision}: {options.outputs} together and one at a time {rates}, {ratio:.1f} times as fast")
    if options.json:
        options.json.write_text(json.dumps({"device": options.device, "steps": options.steps, **found}, indent=2))


if __name__ == "__main__":
    main()
