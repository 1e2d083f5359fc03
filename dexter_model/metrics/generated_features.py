"""What a stretch of music is like without a score to compare it with: features of excerpts of equal length.

Music of different lengths is not comparable (a long piece has a wider range than its beginning), so everything is cut
into excerpts of ``SECONDS``, from its first onset on: long enough for a phrase, short enough that a generator that
makes 128 notes at a time fills one; the last may be shorter, and densities are those of the time it lasts.

The features are those of Yang and Lerch (2018), velocity, and how many notes begin together; of their melodic ones the
intervals of the upper line, without which notes in any order would do. Each is there twice: as a short vector of an
excerpt, whose distances to other excerpts are compared, and as a histogram of its values, of which those of any number
of pieces can be added up. Loudness, durations, chords and time between onsets are told by mean and standard deviation:
music without any dynamics has the right mean.

Time is in octaves (log2 of s) since that is how it is heard. Notes sound to the end that the pedal gives them, which
is what both generators learn by default: one that learns when keys go up sounds shorter than people, and is told so.
Drums have no pitch and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

SECONDS = 10.0  # of an excerpt
ENOUGH = 0.6  # of it that a piece's last one must last
LEAST_NOTES = 8  # of an excerpt; with fewer it is counted as sparse, and has no features
CHORD_SEC = 0.03  # notes that begin this soon after one another begin together (Goebl 2001)
DRUMS = 9  # the channel
MOST_EXCERPTS = 100_000  # of a piece, a fortnight: a bound on what a hostile file costs


@dataclass(frozen=True, eq=False)
class Trait:
    """A feature: the edges of its histogram's bins, in ``unit``; what lies outside counts at the ends."""

    name: str
    label: str
    unit: str
    edges: np.ndarray
    circular: bool = False
    octaves: bool = False  # edges and values are log2 of the unit


_TIMES = np.arange(-6.0, 4.25, 0.25)  # 1/64 s to 16 s in quarter octaves
TRAITS = (
    Trait("pitch_range", "Pitch range", "semitones", np.arange(0.0, 92.0, 6.0)),
    Trait("pitch_classes", "Pitch classes", "pitch class", np.arange(13.0), circular=True),
    Trait("melody", "Intervals of the upper line", "semitones", np.arange(-18.5, 19.5)),
    Trait("chords", "Notes that begin together", "notes", np.arange(0.5, 11.5)),
    Trait("density", "Note density", "notes/s", np.arange(-1.0, 6.5, 0.5), octaves=True),
    Trait("ioi", "Inter-onset interval", "s", _TIMES, octaves=True),
    Trait("velocity", "Velocity", "MIDI velocity", np.arange(0.0, 129.0, 4.0)),
    Trait("duration", "Duration", "s", _TIMES, octaves=True),
    Trait("polyphony", "Polyphony", "notes at once", np.arange(-0.5, 20.5, 1.0)),
)


VELOCITY = next(trait for trait in TRAITS if trait.name == "velocity")
MOMENTS = ("chords", "ioi", "velocity", "duration", "polyphony")  # told by mean and standard deviation


@dataclass(frozen=True, eq=False)
class Excerpts:
    """The excerpts of one piece.

    Attributes:
        vectors: by feature, (excerpts, d): range, shares of pitch classes and of intervals, log2 of notes a second;
            means and standard deviations of how many notes begin together, log2 IOI, velocity, log2 duration and of how
            many notes sound.
        histograms: by feature, (excerpts, bins): excerpts, notes, chords, intervals, or for polyphony seconds.
        sparse: excerpts with too few notes, which are not among these; 1 of a piece that is too short for any.
    """

    vectors: dict[str, np.ndarray]
    histograms: dict[str, np.ndarray]
    sparse: int

    def __len__(self) -> int:
        return len(self.vectors["density"])

    def first(self, number: int) -> Excerpts:
        """The first so many of them."""
        vectors = {name: of_trait[:number] for name, of_trait in self.vectors.items()}
        return replace(self, vectors=vectors, histograms={name: h[:number] for name, h in self.histograms.items()})

    def without_dynamics(self, velocity: float) -> Excerpts:
        """The same music with one velocity."""
        same = self.histograms["velocity"]
        place = np.clip(np.searchsorted(VELOCITY.edges, velocity, side="right") - 1, 0, same.shape[1] - 1)
        flat = np.zeros_like(same)
        flat[:, place] = same.sum(axis=1)
        level = np.tile([velocity, 0.0], (len(self), 1))
        vectors = {**self.vectors, "velocity": level}
        return replace(self, vectors=vectors, histograms={**self.histograms, "velocity": flat})


def only_velocity(pieces: Sequence[Excerpts]) -> float | None:
    """The velocity of all their notes; None where there are several, or no notes."""
    mean, deviation = np.concatenate([piece.vectors["velocity"] for piece in pieces]).T
    same = len(mean) and not deviation.any() and np.ptp(mean) == 0
    return float(mean[0]) if same else None


def excerpts(notes: np.ndarray) -> Excerpts:
    """Cut a piece and describe its excerpts.

    Args:
        notes: (n,) RECORDED_NOTE, by onset, then pitch.
    """
    notes = notes[notes["channel"] != DRUMS]
    start = notes["onset_sec"].min(initial=np.inf)
    onset, end = notes["onset_sec"] - start, _ends(notes) - start
    total = float(end.max(initial=0.0))
    possible = min(int(total / SECONDS + 1 - ENOUGH), MOST_EXCERPTS)
    number = (onset / SECONDS).astype(int)
    held = np.bincount(number[number < possible], minlength=possible)
    kept = np.flatnonzero(held >= LEAST_NOTES)
    row = np.full(possible + 1, -1)
    row[kept] = np.arange(len(kept))
    row = row[np.minimum(number, possible)]
    mine = row >= 0
    lasting = np.minimum(SECONDS, total - kept * SECONDS)
    found = _Cut(row[mine], onset[mine], end[mine], notes[mine], len(kept), kept * SECONDS, lasting)
    vectors, histograms = _described(found)
    return Excerpts(vectors, histograms, max(possible, 1) - len(kept))


def _ends(notes: np.ndarray) -> np.ndarray:
    """When notes end; those that learning drops (NaN) end with the key."""
    return np.where(np.isnan(notes["sustained_sec"]), notes["offset_sec"], notes["sustained_sec"])


@dataclass(frozen=True, eq=False)
class _Cut:
    """Notes and the excerpts they begin in: row, onset and end in s since the piece's beginning."""

    row: np.ndarray
    onset: np.ndarray
    end: np.ndarray
    notes: np.ndarray
    rows: int
    begins: np.ndarray
    lasting: np.ndarray


def _described(cut: _Cut) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    pitch, velocity = cut.notes["pitch"].astype(int), cut.notes["velocity"].astype(float)
    lowest, highest = np.full(cut.rows, 127), np.zeros(cut.rows, int)
    np.minimum.at(lowest, cut.row, pitch)
    np.maximum.at(highest, cut.row, pitch)
    spread = (highest - lowest).astype(float)
    density = np.log2(np.bincount(cut.row, minlength=cut.rows) / cut.lasting)
    together, size, following, waited, leapt = _chords(cut)
    lasting = np.log2(np.maximum(cut.end - cut.onset, 1e-3))
    every = np.arange(cut.rows)
    level_row, level, seconds = _polyphony(cut)
    values = {
        "pitch_range": (every, spread, None),
        "pitch_classes": (cut.row, pitch % 12 + 0.5, None),
        "melody": (following, leapt, None),
        "chords": (together, size, None),
        "density": (every, density, None),
        "ioi": (following, waited, None),
        "velocity": (cut.row, velocity, None),
        "duration": (cut.row, lasting, None),
        "polyphony": (level_row, level, seconds),
    }
    histograms = {t.name: _histograms(*values[t.name], t.edges, cut.rows) for t in TRAITS}
    vectors = {name: _moments(*values[name], cut.rows) for name in MOMENTS}
    vectors |= {"pitch_range": spread[:, None], "density": density[:, None]}
    for name in ("pitch_classes", "melody"):
        vectors[name] = histograms[name] / np.maximum(histograms[name].sum(axis=1, keepdims=True), 1)
    return vectors, histograms


def _chords(cut: _Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of chords the excerpt and the number of notes; from one to the next of an excerpt: which it is, log2 of the time
    between, steps of the highest notes.
    """
    begins = np.flatnonzero(np.diff(cut.onset, prepend=-np.inf) > CHORD_SEC)
    row, onset = cut.row[begins], cut.onset[begins]
    highest = np.maximum.reduceat(cut.notes["pitch"].astype(int), begins) if len(begins) else begins
    same = row[1:] == row[:-1]
    size = np.diff(begins, append=len(cut.onset)).astype(float)
    return row, size, row[1:][same], np.log2(np.diff(onset)[same]), np.diff(highest)[same].astype(float)


def _polyphony(cut: _Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spells during which a number of notes sounds: excerpt, number, seconds. Excerpts end with silence."""
    stop = (cut.begins + cut.lasting)[cut.row]
    row = np.concatenate([cut.row, cut.row])
    at = np.concatenate([cut.onset, np.minimum(cut.end, stop)])
    step = np.repeat([1, -1], len(cut.row))
    order = np.lexsort((at, row))
    row, at, level = row[order], at[order], np.cumsum(step[order])
    lasting = np.diff(at, append=at[-1:])
    spell = (np.diff(row, append=-1) == 0) & (lasting > 0) & (level > 0)
    return row[spell], level[spell].astype(float), lasting[spell]


def _histograms(
    row: np.ndarray, values: np.ndarray, weights: np.ndarray | None, edges: np.ndarray, rows: int
) -> np.ndarray:
    """Histograms (rows, bins) of values by row."""
    bins = len(edges) - 1
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    return np.bincount(row * bins + place, weights, rows * bins).reshape(rows, bins).astype(float)


def _moments(row: np.ndarray, values: np.ndarray, weights: np.ndarray | None, rows: int) -> np.ndarray:
    """Mean and standard deviation (rows, 2) of values by row; 0 where there is none."""
    weights = np.ones(len(values)) if weights is None else weights
    total = np.maximum(np.bincount(row, weights, rows), 1e-12)
    mean = np.bincount(row, weights * values, rows) / total
    variance = np.bincount(row, weights * (values - mean[row]) ** 2, rows) / total
    return np.stack([mean, np.sqrt(variance)], axis=1)
