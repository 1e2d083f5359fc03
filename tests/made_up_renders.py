"""Small data sets and folders of renders, real files of made-up playing, for the tests of evaluation and report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dexter_model.codec.files import save_codec
from dexter_model.codec.performance_codec import EncodedPerformance, decode
from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.dataset.build import building, write_shard
from dexter_model.dataset.piece import Piece, Quarantined
from dexter_model.digests import file_digest
from dexter_model.notes import SCORE_NOTE
from dexter_model.performers import kth

ONSETS = 40


def made_up_score(seed: int) -> np.ndarray:
    """A melody over a bass note every second eighth, in 4/4."""
    random = np.random.default_rng(seed)
    melody = np.zeros(ONSETS, SCORE_NOTE)
    melody["onset_div"] = np.arange(ONSETS) * 2
    melody["duration_div"], melody["voice"], melody["staff"] = 2, 1, 1
    melody["pitch"] = 67 + np.cumsum(random.integers(-2, 3, ONSETS)).clip(-7, 12)
    bass = melody[::2].copy()
    bass["pitch"], bass["duration_div"], bass["voice"], bass["staff"] = 43 + random.integers(0, 8, len(bass)), 4, 2, 2
    notes = np.concatenate([melody, bass])
    notes["onset_beat"], notes["duration_beat"] = notes["onset_div"] / 4, notes["duration_div"] / 4
    notes["beats"], notes["beat_type"] = 4, 4
    notes["metrical_position"] = notes["onset_beat"] % 4
    return notes[np.lexsort((notes["pitch"], notes["onset_div"]))]


def made_up_piece(key: str, performers: int = 3, synthetic: Sequence[bool] | bool = False, seed: int = 0) -> Piece:
    """A piece whose performances differ, a few notes of each not played."""
    score = made_up_score(seed)
    random = np.random.default_rng(seed + 100)
    flags = [synthetic] * performers if isinstance(synthetic, bool) else list(synthetic)
    pianists = [kth.Pianist(f"p{i}", seed=10 * seed + i, noise=2, pedal="bar") for i in range(performers)]
    codec = np.stack([kth.perform(score, pianist, 80 + 10 * i) for i, pianist in enumerate(pianists)])
    codec[..., 3] += random.normal(0, 0.2, codec.shape[:2])
    matched = random.random(codec.shape[:2]) > 0.05
    rows: list[dict[str, Any]] = [
        {
            "key": f"{key}/{pianist.name}.mid",
            "performer": pianist.name,
            "synthetic": flag,
            "performance_digest": "0" * 64,
            "alignment_digest": "0" * 64,
            "unknown_ids": 0,
            "tempo_outlier": False,
            "mean_tempo": 80.0,
        }
        for pianist, flag in zip(pianists, flags, strict=True)
    ]
    ids = np.array([f"n{i}" for i in range(len(score))])
    named = np.ones_like(matched)
    title = f"{key} <b>&</b>"
    return Piece("MADE_UP", key, key, "Nobody", title, "0" * 64, ids, score, codec, matched, named, codec[..., 3], rows)


def publish(url: str, pieces: Sequence[Piece], quarantined: Sequence[Quarantined] = (), shard: str = "made-up") -> None:
    """Write a version of a data set, with one shard, of another name than those of the versions before."""
    sources = [
        {"corpus": p.corpus, "key": p.key, "result": p.key, "fingerprint": json.dumps(p.digest())} for p in pieces
    ]
    with building(url) as build:
        build.commit(write_shard(url, shard, pieces, quarantined, sources), shard)
        build.publish(build.manifest(shard))


def refused(key: str, reason: str) -> Quarantined:
    """A quarantined performance."""
    return Quarantined("MADE_UP", "lost", key, "missing_score", reason, "Add it", "0" * 64, "")


def write_renders(
    folder: Path, pieces: Sequence[Piece], *, codecs: bool = True, samples: int = 1, shapeless: bool = False
) -> Path:
    """Write a folder as ``dexter render`` does, played by a virtual pianist, with ``shapeless`` at random loudness."""
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for piece in pieces:
        for sample in range(samples):
            name = f"{piece.key}_{sample}"
            codec = kth.perform(piece.score, kth.Pianist("render", seed=77 + sample, noise=3, phrase_arch=0.5), 90)
            if shapeless:
                codec[:, 1] = np.random.default_rng(sample).uniform(0.2, 0.9, len(codec))
            codec_file = f"{name}.npz" if codecs else None
            row: dict[str, Any] = {"name": name, "midi": f"{name}.mid", "codec": codec_file, "sample": sample}
            rows.append(row | {"corpus": piece.corpus, "piece": piece.key, "score": f"{piece.key}.musicxml"})
            write_performance_midi(decode(piece.score, piece.note_id, codec), folder / row["midi"])
            if codecs:
                save_codec(folder / row["codec"], _encoded(piece, codec))
            rows[-1] |= {"digest": file_digest(folder / row["midi"]), "notes": len(codec), "duration_sec": 1.0}
    about = {"checkpoint": {"label": "made up", "digest": "1" * 64}, "steps": 20, "guidance": 1.2, "seed": 3}
    content = {"format": "dexter-renders-1", **about, "renders": rows, "quarantined": []}
    (folder / "renders.json").write_text(json.dumps(content))
    return folder


def _encoded(piece: Piece, codec: np.ndarray) -> EncodedPerformance:
    s_codec = np.stack([piece.score[f] for f in ("onset_div", "duration_div", "pitch", "voice")], axis=1)
    everywhere = np.ones(len(codec), bool)
    rows = np.arange(len(codec))
    return EncodedPerformance(rows, piece.note_id, codec, s_codec, everywhere, codec[:, 3], 0, False)
