"""Whether steering is heard: the perceptual features of a steered render beside those of its piece's humans.

DExter verifies steering by a proxy that predicts perceptual features of the output (Zhang et al. 2024, arXiv
2406.14850). The proxy here is the estimate of ``perceptual.estimate``, of renders and humans alike, less that of the
deadpan score; so a figure says nothing that the estimate is deaf to, and 0 is as people play the piece.

Shapes: P performances, N score notes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from dexter_model.codec.performance_codec import decode
from dexter_model.metrics.measures import SPACE, Measure, Played
from dexter_model.notes import PERCEPTUAL_FEATURES, Score
from dexter_model.perceptual.estimate import estimate

HEARD = "heard"  # the measure's name


def features_of(played: Played, score: Score) -> np.ndarray:
    """(P, N, 7) perceptual features at the notes that count, less those of the deadpan score; NaN elsewhere."""
    found = np.full((*played.counts.shape, len(PERCEPTUAL_FEATURES)), np.nan)
    for one, codec in enumerate(played.codec):
        there = played.counts[one] & np.isfinite(codec).all(axis=-1)
        if there.any():
            notes = Score(score.note_id[there], score.notes[there])
            performance = decode(notes.notes, notes.note_id, codec[there])
            features = estimate(performance, notes, codec[there])
            found[one, there] = features.delta_per_note(performance.notes["onset_sec"])
    return found


def movements(render: np.ndarray, humans: np.ndarray, steered: Mapping[str, float]) -> Iterator[Measure]:
    """How far a render's mean of each steered feature lies from the humans', in the model's unit of the feature.

    Args:
        render: (1, N, 7) as ``features_of``.
        humans: (P, N, 7) likewise.
        steered: by feature its standard deviation over the training performances.
    """
    for name, unit in steered.items():
        column = PERCEPTUAL_FEATURES.index(name)
        ours, theirs = (values[..., column][np.isfinite(values[..., column])] for values in (render, humans))
        known = len(ours) > 0 and len(theirs) > 0
        value = float(ours.mean() - theirs.mean()) / unit if known else math.nan
        yield Measure(SPACE, name, HEARD, value, len(ours), undefined="" if known else "nothing is heard")
