"""Music without scores that people might have played, and noise, with data sets of it, for the tests of generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.dataset.build import building, write_shard
from dexter_model.dataset.encodings import Notes
from dexter_model.dataset.recordings import Recording
from dexter_model.notes import PERFORMED_NOTE, RECORDED_NOTE, Performance

SCALE = np.array([0, 2, 4, 5, 7, 9, 11])


def recorded(
    onset: np.ndarray, lasting: np.ndarray | float, pitch: np.ndarray, velocity: np.ndarray | int
) -> np.ndarray:
    """RECORDED_NOTE of a piano, by onset, then pitch."""
    notes = np.zeros(len(onset), RECORDED_NOTE)
    notes["onset_sec"], notes["pitch"], notes["velocity"] = onset, pitch, velocity
    notes["offset_sec"] = notes["sustained_sec"] = onset + lasting
    notes["onset_beat"], notes["offset_beat"] = notes["onset_sec"] * 2, notes["offset_sec"] * 2
    return notes[np.lexsort((notes["pitch"], notes["onset_sec"]))]


def music(seed: int, seconds: float = 60.0) -> np.ndarray:
    """A melody that walks along a scale over broken chords, with a tempo and a loudness that breathe."""
    random = np.random.default_rng(seed)
    beat = random.uniform(0.35, 0.55)
    number = int(seconds / beat)
    key, home = random.integers(12), 67 + random.integers(5)
    onset = np.cumsum(beat * (1 + 0.1 * np.sin(np.arange(number) / 8) + random.normal(0, 0.02, number)))
    onset -= onset[0]
    degree = np.cumsum(random.choice([-2, -1, 0, 1, 2], number, p=[0.1, 0.3, 0.2, 0.3, 0.1])) % 14
    melody = home + 12 * (degree // 7) + SCALE[degree % 7]
    loudness = 70 + 12 * np.sin(np.arange(number) / 10) + random.normal(0, 5, number)
    root = 43 + SCALE[np.repeat(random.integers(0, 7, number // 4 + 1), 4)[:number]]
    parts = [recorded(onset, beat * random.uniform(0.8, 1.2, number), melody, loudness.astype(int))]
    for step, interval in enumerate((0, 7, 12)):
        late = onset + beat * step / 3 + random.normal(0, 0.004, number).clip(-0.01, 0.01)
        quiet = (loudness - 15 + random.normal(0, 3, number)).astype(int)
        parts.append(recorded(late.clip(0), 1.5 * beat, root + interval, quiet))
    notes = np.concatenate(parts)
    notes["pitch"] = notes["pitch"] + key - 6
    return notes[np.lexsort((notes["pitch"], notes["onset_sec"]))]


def noise(seed: int, notes: int = 500, seconds: float = 60.0) -> np.ndarray:
    """Keys struck at random."""
    random = np.random.default_rng(seed)
    onset = np.sort(random.uniform(0, seconds, notes))
    lasting = random.uniform(0.05, 4.0, notes)
    return recorded(onset, lasting, random.integers(21, 109, notes), random.integers(1, 128, notes))


def write_music(folder: Path, pieces: Sequence[np.ndarray]) -> Path:
    """A folder as a generator leaves it: MIDI files."""
    for number, notes in enumerate(pieces):
        performed = np.zeros(len(notes), PERFORMED_NOTE)
        performed["onset_sec"], performed["pitch"] = notes["onset_sec"], notes["pitch"]
        performed["velocity"] = notes["velocity"]
        performed["duration_sec"] = performed["keydown_sec"] = notes["sustained_sec"] - notes["onset_sec"]
        ids = np.arange(len(notes)).astype(str)
        folder.mkdir(parents=True, exist_ok=True)
        write_performance_midi(Performance(ids, performed, np.zeros((0, 2))), folder / f"{number:03}.mid")
    return folder


def publish_music(url: str, of_split: Mapping[str, Sequence[np.ndarray]]) -> str:
    """A data set of performances alone, each of a work of its own, in splits that are given."""
    row = {"performer": "", "synthetic": False, "performance_digest": "0" * 64, "alignment_digest": ""}
    row |= {"unknown_ids": 0, "tempo_outlier": False, "perceptual": "none"}
    recordings = [
        Recording("MUSIC", key, key, "Nobody", key, notes, [row | {"key": key}], split)
        for split, pieces in of_split.items()
        for number, notes in enumerate(pieces)
        if (key := f"{split}/{number:03}.mid")
    ]
    sources = [{"corpus": r.corpus, "key": r.key, "result": r.key, "fingerprint": r.digest()} for r in recordings]
    with building(url) as build:
        build.commit(write_shard(url, "music", recordings, [], sources), "music")
        build.publish(build.manifest("music"), Notes().described())
    return url
