"""How much of a piece was learnt by heart: its sequences of notes that stand in the training pieces as well.

A sequence is ``n`` notes in a row: the intervals between them, so that a transposed copy is one, and how long each
waits for the next, in classes of an octave of time, so that a copy with another rubato mostly is one (of training
played evenly 5 % faster or slower some 78 % of sequences of 8 are found, 10 % some 66 %). Notes that begin
together are a chord, ordered by pitch. Patterns that all music shares (scales, broken chords) are found for any music:
people's own other works give the rate that means nothing. Copies that were changed note by note are not found.

Sequences are hashed to 64 bits (a wrong hit once in a million pieces) and looked up in the sorted hashes of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dexter_model.metrics.generated_features import CHORD_SEC, DRUMS
from dexter_model.ragged import members

LENGTHS = (8, 16)  # of sequences, in notes
MOST_NOTES = 20_000_000  # of training that are looked through: two gigabytes of memory while sorted
MOST_PLACES = 64  # where one sequence is looked up for the longest run: the first of those in training
_TIME_CLASSES = 10  # octaves above CHORD_SEC
_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Copied:
    """What of a piece is in training too.

    Attributes:
        notes: that it has, drums aside.
        sequences: by length, how many it has.
        found: by length, how many of these are in training.
        longest: notes of its longest run that one training piece has as well; 0 where no sequence is found.
        nearest: name of that piece.
    """

    notes: int
    sequences: dict[int, int]
    found: dict[int, int]
    longest: int
    nearest: str

    def rate(self, length: int) -> float:
        """Share of sequences that are found; NaN of a piece that has none."""
        return self.found[length] / self.sequences[length] if self.sequences[length] else float("nan")


NOTHING = Copied(0, dict.fromkeys(LENGTHS, 0), dict.fromkeys(LENGTHS, 0), 0, "")  # of a piece that cannot be read


def steps(notes: np.ndarray) -> np.ndarray:
    """From each note to the next: interval and class of time as one number (n - 1,) uint16.

    Args:
        notes: (n,) RECORDED_NOTE, by onset.
    """
    notes = notes[notes["channel"] != DRUMS]
    onset = notes["onset_sec"]
    chord = np.cumsum(np.diff(onset, prepend=onset[:1]) > CHORD_SEC)
    pitch = notes["pitch"][np.lexsort((notes["pitch"], chord))].astype(int)
    wait = np.diff(onset[np.searchsorted(chord, chord)])
    octave = np.clip(np.log2(np.maximum(wait, CHORD_SEC) / CHORD_SEC), 0, _TIME_CLASSES - 1).astype(int) + 1
    return ((np.diff(pitch) + 128) << 4 | np.where(wait > 0, octave, 0)).astype(np.uint16)


def hashes(of_steps: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit hash of every sequence of ``length`` notes (n - length + 1,)."""
    number = max(len(of_steps) - length + 2, 0)
    mixed = _mixed(of_steps.astype(np.uint64))
    found = np.zeros(number, np.uint64)
    for place in range(length - 1):
        found = found * _BASE + mixed[place : place + number]
    return _mixed(found)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Numbers spread over 64 bits (SplitMix64; Steele, Lea and Flood 2014)."""
    values = values + _BASE
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


class Training:
    """The sequences of training pieces, to look others' up in.

    Args:
        pieces: name and ``steps`` of each; those after ``MOST_NOTES`` notes are left out.
    """

    def __init__(self, pieces: Iterable[tuple[str, np.ndarray]]) -> None:
        self.names: list[str] = []
        self.left_out = 0
        kept: list[np.ndarray] = []
        self.notes = 0
        for name, of_steps in pieces:
            if self.notes + len(of_steps) + 1 > MOST_NOTES:
                self.left_out += 1
                continue
            self.names.append(name)
            kept.append(of_steps)
            self.notes += len(of_steps) + 1
        self._short = [hashes(each, LENGTHS[0]) for each in kept]
        # A place is a sequence's number in its piece after all the pieces before, with a gap that no run bridges.
        self._begins = np.cumsum([0, *(len(each) + 1 for each in self._short)])
        place = np.concatenate(
            [np.arange(0), *(b + np.arange(len(s)) for b, s in zip(self._begins[:-1], self._short, strict=True))]
        )
        every = np.concatenate([np.zeros(0, np.uint64), *self._short])
        order = np.argsort(every, kind="stable")
        self._sorted, self._place = every[order], place[order]
        del self._short
        self._known = {length: _unique(kept, length) for length in LENGTHS[1:]}

    def copied(self, of_steps: np.ndarray) -> Copied:
        """What of a piece with these ``steps`` is here."""
        ours = {length: hashes(of_steps, length) for length in LENGTHS}
        low, high = (np.searchsorted(self._sorted, ours[LENGTHS[0]], side) for side in ("left", "right"))
        found = {LENGTHS[0]: int((high > low).sum())}
        found |= {length: _count_in(ours[length], known) for length, known in self._known.items()}
        longest, nearest = self._longest(low, np.minimum(high, low + MOST_PLACES))
        return Copied(len(of_steps) + 1, {n: len(each) for n, each in ours.items()}, found, longest, nearest)

    def _longest(self, low: np.ndarray, high: np.ndarray) -> tuple[int, str]:
        """The longest run of sequences one after the other here and there, in notes, and where it is."""
        ours, at = members(low, high)
        if not len(ours):
            return 0, ""
        theirs = self._place[at]
        order = np.lexsort((ours, theirs - ours))
        ours, theirs = ours[order], theirs[order]
        begins = np.flatnonzero((np.diff(ours, prepend=-2) != 1) | (np.diff(theirs, prepend=-2) != 1))
        run = np.diff(begins, append=len(ours))
        best = int(run.argmax())
        piece = np.searchsorted(self._begins, theirs[begins[best]], side="right") - 1
        return int(run[best]) + LENGTHS[0] - 1, self.names[piece]


def _count_in(values: np.ndarray, known: np.ndarray) -> int:
    """How many of values are in ``known``, which is sorted."""
    return int((np.searchsorted(known, values, "right") > np.searchsorted(known, values)).sum())


def _unique(pieces: Sequence[np.ndarray], length: int) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *(hashes(each, length) for each in pieces)]))
