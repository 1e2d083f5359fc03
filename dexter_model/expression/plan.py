"""The plan of a rendering job: which window of which render goes into which batch, and from which noise it starts.

Everything random or dependent on company is fixed here, before anything runs. Batches are cut over all renders of the
job in their order, whether or not some are made already, so that a resumed job samples what the undisturbed one would
have sampled, in the same batches. Noise belongs to a render, not to a batch: it is drawn once for the whole piece and
windows see slices of it, which also makes neighbouring windows agree where they overlap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dexter_model.diffusion.joining import window_starts
from dexter_model.digests import array_digest
from dexter_model.notes import CODEC_COLUMNS, Score

BATCH_SIZE = 16  # windows: enough to keep a worker's cores busy, few enough to spread a small job over workers


class Window(NamedTuple):
    """One window of a render: ``render`` counts the job's renders, ``start`` is the window's first note."""

    render: int
    start: int


def score_digest(score: Score) -> str:
    """Digest of what a score says (note ids and note array), whatever file it was read from."""
    return array_digest(np.array(score.note_id.tolist()), score.notes)


def render_noise(seed: int, digest: str, sample: int, notes: int) -> np.ndarray:
    """Standard normal noise of one render, from a seed of its own.

    Args:
        seed: the job's seed.
        digest: the score's digest.
        sample: which of the samples of this score.
        notes: rows to draw; more rows begin with the same values.

    Returns:
        (notes, 5) float32.
    """
    own_seed = hashlib.sha256(f"{seed}:{digest}:{sample}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(own_seed[:16], "little")))
    return generator.standard_normal((notes, len(CODEC_COLUMNS)), dtype=np.float32)


def plan_batches(
    notes: Sequence[int], length: int, overlap: int, batch_size: int = BATCH_SIZE
) -> list[tuple[Window, ...]]:
    """Cut all windows of all renders into batches.

    Args:
        notes: notes of each render.
        length: N, notes of a window.
        overlap: notes that neighbouring windows share at least.
        batch_size: windows of a batch.

    Returns:
        The batches; the last one has what is left.
    """
    windows = [Window(k, int(start)) for k, n in enumerate(notes) for start in window_starts(n, length, overlap)]
    return [tuple(windows[first : first + batch_size]) for first in range(0, len(windows), batch_size)]
