"""Data sets to export, and files as the original DExter writes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
from made_up_renders import made_up_piece, publish, refused

from dexter_model.dataset.piece import Piece
from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.reading.score import load_score

WINDOW = 25


def heard(piece: Piece, seed: int = 0) -> Piece:
    """The piece with perceptual features at three times of each performance, and rows that say so."""
    count = len(piece.performance)
    values = np.random.default_rng(seed).random((2, 3 * count, 7)).astype(np.float32)
    values[0, -1] = np.nan
    rows = [row | {"perceptual": "estimate:symbolic-v1", "velocity_sd": 1.5} for row in piece.performances]
    frames = np.full(count, 3, np.int32)
    times = np.tile([2.5, 7.5, 12.5], count)
    return dataclasses.replace(
        piece, performances=rows, frames=frames, frame_time=times, perceptual=values[0], perceptual_reference=values[1]
    )


def publish_pieces(url: str) -> DatasetVersion:
    """Eight pieces, one of them virtual, two whose names clash as file names, and a failure."""
    keys = ["a/b__c", "a__b/c", "Étude", *(f"piece {i}" for i in range(4))]
    pieces = [heard(made_up_piece(key, performers=1 + i % 4, seed=i)) for i, key in enumerate(keys)]
    virtual = heard(made_up_piece("virtual", performers=3, synthetic=[True, False, False]))
    publish(url, sorted([*pieces, virtual], key=lambda piece: piece.key), [refused("lost.mid", "no score <&>")])
    return open_version(url)


NOTE = """<note id="n{n}"><pitch><step>{step}</step><octave>4</octave></pitch><duration>2</duration>
<voice>1</voice></note>"""
SCORE = """<?xml version="1.0"?><score-partwise version="3.1"><part-list><score-part id="P1"><part-name>P</part-name>
</score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>2</divisions><time>
<beats>{count}</beats><beat-type>4</beat-type></time></attributes>{notes}</measure></part></score-partwise>"""


def write_original(folder: Path, notes: int = 30, performances: int = 3) -> tuple[Path, np.ndarray, np.ndarray]:
    """A file as the original writes it, of a score of quarter notes of two divs each; its codecs and features."""
    steps = "CDEFGAB"
    body = "".join(NOTE.format(n=n, step=steps[n % 7]) for n in range(notes))
    (folder / "scores").mkdir(parents=True)
    (folder / "scores" / "x.musicxml").write_text(SCORE.format(count=notes, notes=body))
    score = load_score(folder / "scores" / "x.musicxml")
    rng = np.random.default_rng(3)
    p_codec = rng.normal(0.5, 0.1, (performances, notes, 5)).astype(np.float32)
    p_codec[..., 2] *= 0.01
    c_codec = rng.random((performances, notes, 7)).astype(np.float32)
    c_codec[1] = 0  # its features were missing
    s_codec = np.stack([score.notes[name] for name in ("onset_div", "duration_div", "pitch", "voice")], axis=1)
    padding = ((0, 0), (0, 40 - notes), (0, 0))
    (folder / "snote_ids" / "N=20").mkdir(parents=True)
    for k in range(2):
        ids = folder / "snote_ids" / "N=20" / f"VIENNA422_Chopin_op38_seg{k}.npy"
        np.save(ids, score.note_id[20 * k : 20 * k + 20].astype(str))
    with h5py.File(folder / "codec_N=20.hdf5", "w") as file:
        for i in range(performances):
            group = file.create_group(f"VIENNA422_{i}")
            group["p_codec"] = np.pad(p_codec[i : i + 1], padding).reshape(2, 20, 5)
            group["c_codec"] = np.pad(c_codec[i : i + 1], padding).reshape(2, 20, 7)
            group["s_codec"] = np.pad(s_codec[None].astype(np.float64), padding).reshape(2, 20, 4)
            group["piece_name"] = ["Chopin_op38"] * 2
            group["split"] = ["test"] * 2
            group["score_path"] = ["/gone/scores/x.musicxml"] * 2
            group["snote_id_path"] = [f"/gone/snote_ids/N=20/VIENNA422_Chopin_op38_seg{k}.npy" for k in range(2)]
        file.create_group("VIENNA422_3")["error"] = "alignment_load_error"
    return folder / "codec_N=20.hdf5", p_codec, c_codec
