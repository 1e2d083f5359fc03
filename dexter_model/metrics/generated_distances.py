"""How far one set of excerpts is from another, feature by feature, with what another draw of pieces would have given.

Three measures. **Overlap area** (Yang and Lerch 2018): distances between excerpts of the reference, and between its
excerpts and the other set's, as kernel density estimates; the area under both, 1 where the other set is as far from the
reference as that is from itself. Excerpts of one piece are alike, so only distances between pieces count. **Jensen-
Shannon divergence**, base 2, of pooled histograms, 0 to 1. **Wasserstein-1** of the same, in the unit of the feature;
of pitch classes around the circle (Rabin, Delon and Gousseau 2011). The first sees how excerpts vary, the others what
is in them altogether.

Estimates are histograms of distances, smoothed, and all is additive over pieces, so that resampled pieces cost a
product of matrices. The bandwidth is Scott's of the reference for both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dexter_model.metrics.generated_features import TRAITS, Excerpts, Trait

MEASURES = ("overlap_area", "js", "wasserstein")
MOST_EXCERPTS = 600  # of a set whose distances are taken, evenly from all its pieces
_GRID = 128  # bins of distances, up to
_WIDEST = 4.0  # times the 99 % quantile of the reference's own
_BLOCK = 1 << 20  # distances at a time

Figures = dict[tuple[str, str], np.ndarray]  # by feature and measure, a value a draw


@dataclass(frozen=True, eq=False)
class _Spread:
    """The reference's own distances of a feature: width of a bin, density (bins,), and what smooths (bins, bins)."""

    width: float
    density: np.ndarray
    kernel: np.ndarray


class Reference:
    """Pieces that others are measured against; of at least two of them there must be excerpts.

    Args:
        pieces: independent ones: no two of the same work.
    """

    def __init__(self, pieces: Sequence[Excerpts]) -> None:
        self.rows = {trait.name: _rows(pieces, trait.name) for trait in TRAITS}
        self.histograms = {t.name: np.sum([p.histograms[t.name].sum(axis=0) for p in pieces], axis=0) for t in TRAITS}
        self._spread = {name: _spread(*rows) for name, rows in self.rows.items()}

    def measure(self, pieces: Sequence[Excerpts], weights: np.ndarray) -> Figures:
        """Every measure of every feature of pieces, once a row of ``weights`` (draws, pieces).

        Pieces without excerpts are as unlike as can be: no overlap, a divergence of 1, a distance of NaN.
        """
        found: Figures = {}
        for trait in TRAITS:
            each = np.array([piece.histograms[trait.name].sum(axis=0) for piece in pieces])
            pooled, own = _normal(weights @ each), _normal(self.histograms[trait.name])
            found[trait.name, "overlap_area"] = self._overlap(trait.name, pieces, weights)
            found[trait.name, "js"] = np.where(pooled.any(axis=1), _jensen_shannon(pooled, own), 1.0)
            found[trait.name, "wasserstein"] = np.where(pooled.any(axis=1), _wasserstein(pooled, own, trait), np.nan)
        return found

    def _overlap(self, name: str, pieces: Sequence[Excerpts], weights: np.ndarray) -> np.ndarray:
        spread, (vectors, piece) = self._spread[name], _rows(pieces, name)
        counts = np.zeros((len(pieces), _GRID))
        block = max(1, _BLOCK // max(self.rows[name][0].size, 1))
        for start in range(0, len(vectors), block):
            part = slice(start, start + block)
            bins = _bins(_distances(vectors[part], self.rows[name][0]), spread.width)
            at = (piece[part, None] * _GRID + bins).ravel()
            counts += np.bincount(at, minlength=counts.size).reshape(counts.shape)
        between = _normal(weights @ counts) @ spread.kernel
        return np.minimum(between, spread.density).sum(axis=1)


def _rows(pieces: Sequence[Excerpts], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, d) of excerpts and the pieces (n,) they are of, thinned to the most that are compared."""
    vectors = np.concatenate([piece.vectors[name] for piece in pieces])
    piece = np.repeat(np.arange(len(pieces)), [len(each) for each in pieces])
    kept = np.unique(np.linspace(0, len(vectors) - 1, min(MOST_EXCERPTS, len(vectors))).round().astype(int))
    return vectors[kept], piece[kept]


def _spread(vectors: np.ndarray, piece: np.ndarray) -> _Spread:
    first, second = np.nonzero(np.triu(piece[:, None] != piece[None]))
    distances = np.linalg.norm(vectors[first] - vectors[second], axis=1)
    width = _WIDEST * max(float(np.quantile(distances, 0.99)), 1e-6) / _GRID
    deviations = max(float(distances.std()) * len(distances) ** -0.2 / width, 1.0)  # Scott's bandwidth, in bins
    centre = np.arange(_GRID) + 0.5
    kernel = sum(np.exp(-0.5 * ((centre[:, None] + s * centre) / deviations) ** 2) for s in (-1, 1))  # mirrored at 0
    kernel = kernel / kernel.sum(axis=1, keepdims=True)
    density = _normal(np.bincount(_bins(distances, width), minlength=_GRID)) @ kernel
    return _Spread(width, density, kernel)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))


def _bins(distances: np.ndarray, width: float) -> np.ndarray:
    return np.minimum(distances / width, _GRID - 1).astype(int)


def _normal(counts: np.ndarray) -> np.ndarray:
    """Histograms that add up to 1, or that are empty."""
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300)


def _jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in bits of histograms (n, bins) and one (bins,)."""
    middle = np.maximum((p + q) / 2, 1e-300)
    ours = (p * np.log2(np.where(p > 0, p, 1) / np.where(p > 0, middle, 1))).sum(axis=1)
    theirs = (q * np.log2(np.where(q > 0, q, 1) / np.where(q > 0, middle, 1))).sum(axis=1)
    return np.clip((ours + theirs) / 2, 0.0, 1.0)


def _wasserstein(p: np.ndarray, q: np.ndarray, trait: Trait) -> np.ndarray:
    """Wasserstein-1 distance of histograms (n, bins) from one (bins,): the area between cumulative distributions."""
    apart = np.cumsum(p - q, axis=1)
    if trait.circular:
        apart = apart - np.median(apart, axis=1, keepdims=True)
    return np.abs(apart).sum(axis=1) * (trait.edges[1] - trait.edges[0])
