"""What the estimator of perceptual features says of real performances, against what its specification measured.

Some performances of each ASAP piece, the first 75 s: the raw terms' medians and scales; minorness of minor against
major pieces of the Well-Tempered Clavier (area under the ROC curve); the share of each feature's variance that pieces,
performances and windows explain; CPU time. Scores are taken from a data set, performances from the corpus.

    python benchmarks/perceptual.py --store DIR --datasets-root DIR [--pieces 90] [--performances 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from typing import Any, NamedTuple

import numpy as np

from dexter_model.codec.performance_codec import EncodedPerformance, encode
from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.dataset.piece import Piece, read_performance
from dexter_model.dataset.store import open_version
from dexter_model.digests import code_version
from dexter_model.notes import PERCEPTUAL_FEATURES, Performance, Score
from dexter_model.perceptual.composites import SCALES
from dexter_model.perceptual.estimate import beats_of, estimate_encoded, raw_terms, score_clock
from dexter_model.perceptual.features import WINDOW
from dexter_model.perceptual.windows import windows_over

BEGINNING = 75.0  # s


class Heard(NamedTuple):
    """A performance, its features in its first 75 s, the raw terms there, and the CPU seconds of the features."""

    piece: str
    performance: str
    features: np.ndarray
    reference: np.ndarray
    terms: dict[str, np.ndarray]
    notes: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", required=True, help="a data set that holds ASAP")
    parser.add_argument("--datasets-root", default=os.environ.get("DEXTER_DATASETS_ROOT"), help="folder of the corpora")
    parser.add_argument("--pieces", type=int, default=90)
    parser.add_argument("--performances", type=int, default=2)
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    sample = listen(options, wtc=False)
    figures: dict[str, Any] = {
        "code": code_version(),
        "performances": len(sample),
        "windows": sum(len(heard.features) for heard in sample),
        "cpu_seconds": round(sum(heard.seconds for heard in sample), 2),
        "cpu_seconds_of_3000_notes": round(3000 * sum(h.seconds for h in sample) / sum(h.notes for h in sample), 4),
        "terms": terms_found(sample),
        "variance_shares": variance_shares(sample),
        "delta_deviation": deviations(sample),
        "minorness_auc": minorness_auc(listen(options, wtc=True)),
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)


def listen(options: argparse.Namespace, *, wtc: bool) -> list[Heard]:
    """A sample of ASAP: pieces spread over it, or all of the Well-Tempered Clavier, some performances each."""
    version = open_version(options.store)
    sources = {source.key: source for source in discover("ASAP", CorpusRoots(datasets_root=options.datasets_root))}
    counts = version.catalogue.filter(version.catalogue["corpus"] == "ASAP").select("key", "performances").rows()
    if wtc:
        keys = [key for key, _ in counts if _bwv(key)]
    else:
        keys = [key for key, count in counts if count >= options.performances]
        keys = [keys[i] for i in np.unique(np.linspace(0, len(keys) - 1, options.pieces).astype(int))]
    heard = []
    for key in keys:
        piece = version.piece("ASAP", key)
        kept = {row["key"] for row in piece.performances[: options.performances]}
        for source in sources[key].performances:
            if source.key in kept:
                performance, alignment = read_performance(source.performance, source.alignment)
                score = Score(piece.note_id, piece.score)
                heard.append(_hear(piece, source.key, performance, encode(score, performance, alignment), score))
    return heard


def _hear(piece: Piece, key: str, performance: Performance, encoded: EncodedPerformance, score: Score) -> Heard:
    begin = time.process_time()
    features = estimate_encoded(performance, encoded, score)
    seconds = time.process_time() - begin
    onset = performance.notes["onset_sec"]
    clock = score_clock(score.notes[encoded.rows], encoded.p_codec, encoded.matched, encoded.start)
    windows = windows_over(onset.min(), onset.max())
    terms, enough = raw_terms(performance, windows, *beats_of(*clock))
    early = enough & (windows.start + WINDOW <= onset.min() + BEGINNING)
    found = {name: values[early] for name, values in terms.items()}
    return Heard(piece.key, key, features.values[early], features.reference[early], found, len(onset), seconds)


def terms_found(sample: list[Heard]) -> dict[str, list[float]]:
    """Median and IQR / 1.349 of each raw term, then the specification's."""
    table = {}
    for name, (median, scale) in SCALES.items():
        values = np.concatenate([heard.terms[name] for heard in sample])
        low, middle, high = np.nanquantile(values, [0.25, 0.5, 0.75])
        table[name] = [round(float(x), 3) for x in (middle, (high - low) / 1.349, median, scale)]
    return table


def variance_shares(sample: list[Heard]) -> dict[str, list[float]]:
    """Shares of the variance between pieces, between performances of one, and between windows of a performance."""
    rows = np.concatenate([heard.features for heard in sample]).astype(float)
    performance = np.repeat(np.arange(len(sample)), [len(heard.features) for heard in sample])
    piece = np.unique([heard.piece for heard in sample], return_inverse=True)[1][performance]
    total = rows.var(axis=0)
    between = [_group_means(rows, groups).var(axis=0) / total for groups in (piece, performance)]
    shares = np.stack([between[0], between[1] - between[0], 1 - between[1]], axis=1)
    return dict(zip(PERCEPTUAL_FEATURES, np.round(shares, 2).tolist(), strict=True))


def deviations(sample: list[Heard]) -> dict[str, float]:
    """Standard deviation of each feature's difference to the deadpan score's."""
    delta = np.concatenate([heard.features - heard.reference for heard in sample])
    return dict(zip(PERCEPTUAL_FEATURES, np.round(np.nanstd(delta, axis=0), 3).tolist(), strict=True))


def minorness_auc(sample: list[Heard]) -> dict[str, float]:
    """How often a minor piece of the Well-Tempered Clavier is more minor than a major one (in BWV 846-893 odd numbers
    are the minor ones), by the mean over the windows of a performance."""
    mean = np.array([heard.features[:, PERCEPTUAL_FEATURES.index("minorness")].mean() for heard in sample])
    minor = np.array([_bwv(heard.piece) % 2 == 1 for heard in sample])
    pairs = mean[minor][:, None] - mean[~minor]
    area = float((pairs > 0).mean() + (pairs == 0).mean() / 2)
    return {"performances": len(sample), "minor": int(minor.sum()), "auc": round(area, 4)}


def _group_means(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    sums = np.stack([np.bincount(groups, column) for column in rows.T], axis=1)
    return (sums / np.bincount(groups)[:, None])[groups]


def _bwv(key: str) -> int:
    """Number of a prelude or fugue of the Well-Tempered Clavier in ASAP, 0 for other pieces."""
    found = re.search(r"^Bach/(?:Fugue|Prelude)/bwv_(\d+)$", key)
    return int(found.group(1)) if found and 846 <= int(found.group(1)) <= 893 else 0


if __name__ == "__main__":
    main()
