"""Whether the mid-level network learns: trained on synthesised performances to say what the estimator says.

Performances of Vienna 4x22, played by FluidSynth; 3 s from the middle of each window, features
standardised. No substitute for rated recordings: it shows that front-end, network and training loop work together.

    python benchmarks/perceptual_cnn.py --datasets-root DIR [--performances 6] [--steps 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time

import numpy as np
import torch

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.dataset.piece import read_performance
from dexter_model.digests import code_version
from dexter_model.notes import PERCEPTUAL_FEATURES
from dexter_model.perceptual.cnn import MidLevelNetwork
from dexter_model.perceptual.cnn_training import estimated_pairs, fit

FRAMES = slice(187, 283)  # the middle 3 s of 15: as much as the network sees at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--datasets-root", default=os.environ.get("DEXTER_DATASETS_ROOT"), help="folder of the corpora")
    parser.add_argument("--performances", type=int, default=6, help="of each piece; another one of each is held out")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    torch.manual_seed(0)
    pieces = discover("VIENNA422", CorpusRoots(datasets_root=options.datasets_root))
    sources = [source for piece in pieces for source in piece.performances[: options.performances + 1]]
    pairs = [estimated_pairs(read_performance(source.performance, source.alignment)[0]) for source in sources]
    held = [index % (options.performances + 1) == options.performances for index in range(len(pairs))]
    windows, targets = (torch.cat([pair[i] for pair, out in zip(pairs, held, strict=True) if not out]) for i in (0, 1))
    tests, truths = (torch.cat([pair[i] for pair, out in zip(pairs, held, strict=True) if out]) for i in (0, 1))
    mean, deviation = targets.mean(dim=0), targets.std(dim=0)
    network = MidLevelNetwork()
    begin = time.perf_counter()
    losses = fit(network, windows[..., FRAMES].contiguous(), (targets - mean) / deviation, steps=options.steps)
    seconds = time.perf_counter() - begin
    with torch.inference_mode():
        said = torch.cat([network(batch) for batch in tests.split(4)]).numpy()
    figures = {
        "code": code_version(),
        "windows": len(windows),
        "held_out_windows": len(tests),
        "seconds_a_step": round(seconds / options.steps, 2),
        "loss": [round(float(np.mean(part)), 3) for part in np.array_split(losses, 6)],
        "held_out_r": {
            name: round(float(np.corrcoef(said[:, i], truths[:, i].numpy())[0, 1]), 2)
            for i, name in enumerate(PERCEPTUAL_FEATURES)
        },
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
