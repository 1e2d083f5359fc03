"""From raw terms to the seven features: hand-set weights on standardised terms, on a scale like a rating over ten.

A documented stand-in for a validated model (``symbolic-v1``). Medians and scales are those of 2303 windows of
180 performances of ASAP; the weights follow the literature named with the terms and were not fitted to anything.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SCALES = {  # raw term: its median, its interquartile range / 1.349
    "art_key": (0.237, 0.149),
    "art_snd": (0.071, 0.139),
    "step": (0.441, 0.253),
    "leap": (2.695, 0.618),
    "sal": (0.070, 0.056),
    "rate": (2.181, 1.099),
    "ent": (0.554, 0.204),
    "npvi": (38.9, 21.8),
    "dens": (2.397, 1.019),
    "pc": (0.378, 0.217),
    "sd_beat": (-2.868, 1.321),
    "dis": (0.313, 0.151),
    "dn": (0.155, 0.051),
    "clar": (0.807, 0.103),
    "gap": (0.117, 0.107),
    "cons": (0.571, 0.145),
    "min_C": (-0.104, 0.262),
    "min_K": (-0.013, 0.233),
}
WEIGHTS = {
    "melodiousness": {"step": 0.25, "leap": -0.20, "sal": 0.20, "rate": -0.20, "art_key": -0.15},
    "articulation": {"art_key": 0.6, "art_snd": 0.4},
    "rhythm_complexity": {"ent": 0.35, "npvi": 0.25, "dens": 0.25, "pc": -0.15},
    "rhythm_stability": {"pc": 0.6, "sd_beat": -0.4},
    "dissonance": {"dis": 0.5, "dn": 0.5},
    "tonal_stability": {"clar": 0.4, "cons": 0.4, "gap": 0.2},
    "minorness": {"min_C": 0.7, "min_K": 0.3},
}
MEAN = np.array([-0.010, 0.257, -0.017, 0.073, 0.023, -0.069, 0.020])
DEVIATION = np.array([0.627, 0.953, 0.588, 0.800, 0.993, 0.847, 0.762])
LIMIT = 3.0  # of a standardised term
CENTRE, SPREAD = 0.55, 0.15  # of the scale
LOWEST, HIGHEST = 0.1, 1.0


def composites(terms: Mapping[str, np.ndarray]) -> np.ndarray:
    """The seven features (M, 7) of windows, columns as ``PERCEPTUAL_FEATURES``, from every raw term (M,).

    A term that is NaN counts as its median; without beats the pulse alone makes the rhythm's stability.
    """
    z = {name: standardised(name, values) for name, values in terms.items()}
    columns = [sum(weight * z[name] for name, weight in parts.items()) for parts in WEIGHTS.values()]
    raw = np.stack([np.asarray(column) for column in columns], axis=1)
    stability = list(WEIGHTS).index("rhythm_stability")
    raw[:, stability] = np.where(np.isnan(terms["sd_beat"]), z["pc"], raw[:, stability])
    return np.clip(CENTRE + SPREAD * (raw - MEAN) / DEVIATION, LOWEST, HIGHEST)


def standardised(name: str, values: np.ndarray) -> np.ndarray:
    """A raw term as the distance from its median, at most 3 scales; 0 where it is NaN."""
    median, scale = SCALES[name]
    return np.nan_to_num(np.clip((values - median) / scale, -LIMIT, LIMIT), nan=0.0)
