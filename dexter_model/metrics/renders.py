"""Renders as evaluation sees them: a folder with ``renders.json`` or with MIDI files alone, each render put beside the
notes of its piece.

A render that has its codec is compared by that codec. Of a MIDI file alone (an external renderer, or the codec deleted)
the notes are found in the score by parangonar's note matcher and encoded; its durations are then compared by key-down
articulation only, because a sounding duration written with pedal reads back longer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import recfunctions

from dexter_model.digests import file_digest, json_digest, sha256_bytes
from dexter_model.errors import InputError
from dexter_model.metrics.measures import Played
from dexter_model.notes import PERCEPTUAL_FEATURES, Alignment, Performance, Score
from dexter_model.places import copy_of, local, shown
from dexter_model.renders import DEVIATIONS, FORMAT, JOURNAL, LISTING, MADE_FROM

# What an evaluation repeats of how a folder's renders were made.
MADE_BY = ("checkpoint", "steps", "guidance", "sampler", "eta", "depth", "controls", "seed")

if TYPE_CHECKING:
    from dexter_model.dataset.piece import Piece
    from dexter_model.reading.sandbox import Sandbox

LEAST_MATCHED = 0.5  # share of the score that a MIDI file must play to count as a performance of it
MOST_NOTES = 3  # performed notes a score note; aligning takes memory by the product of both


@dataclass(frozen=True)
class Render:
    """One render; ``corpus`` and ``piece`` are empty for a score of no data set, ``codec`` None where only MIDI is.

    ``midi`` and ``codec`` are files, or URLs of them. ``source`` and ``like`` are keys of the performances of the piece
    that it was made from and like, where it was; ``steered`` are the perceptual features it was asked for, each with
    its standard deviation in the model's training.
    """

    system: str
    name: str
    corpus: str
    piece: str
    sample: int
    midi: str
    codec: str | None
    source: str | None = None
    like: str | None = None
    steered: Mapping[str, float] = field(default_factory=dict)

    @property
    def known_performances(self) -> set[str]:
        """Keys of the performances that it knows of."""
        return {key for key in (self.source, self.like) if key}


@dataclass(frozen=True)
class RenderFolder:
    """A folder of renders of one system: its name in tables, where it is, and what ``renders.json`` says of it.

    ``about`` of a folder without one is that it is ``midi_only``.
    """

    system: str
    path: Path
    digest: str
    about: dict[str, Any]
    renders: tuple[Render, ...]


def read_renders(folder: str | Path, system: str | None = None) -> RenderFolder:
    """Read a folder written by ``dexter render``, or by another renderer that leaves MIDI files alone.

    Args:
        folder: a folder (or URL) with ``renders.json`` in it, or with MIDI files ``<corpus>/<piece key>.mid``; further
            samples of a piece end in ``_sample1.mid``, ``_sample2.mid``, ... as those of ``dexter render`` do.
        system: the name in tables; by default the folder's.

    Raises:
        InputError: ``renders.json`` is none, or there is neither it nor a MIDI file, or a rendering job has not ended
            there (``renders_unreadable``).
    """
    folder = local(folder, missing_ok=True)
    listing, system = folder / LISTING, system or folder.resolve().name
    if not listing.exists() and not (folder / JOURNAL).exists() and (found := _midi_files(folder)):
        renders = tuple(_by_path(system, folder, path) for path in found)
        digest = json_digest([[render.name, file_digest(copy_of(render.midi))] for render in renders])
        return RenderFolder(system, folder, digest, {"midi_only": True}, renders)
    try:
        data = listing.read_bytes()
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r} is not {FORMAT!r}")
        about = _about(content)
        units = dict(zip(PERCEPTUAL_FEATURES, map(float, content.get(DEVIATIONS) or ()), strict=False))
        steered = {
            name: unit for name, unit in units.items() if name in about["controls"].get("steer", ()) and unit > 0
        }
        renders = tuple(_render(system, folder, row, steered) for row in content["renders"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"not a folder of renders ({type(error).__name__}: {error})"
        remedy = "Give a folder that `dexter render` wrote, or one of MIDI files CORPUS/PIECE KEY.mid"
        raise InputError(listing, reason, remedy, "renders_unreadable") from error
    return RenderFolder(system, folder, sha256_bytes(data), about, renders)


def _about(content: dict[str, Any]) -> dict[str, Any]:
    """How renders were made, with what tables are made of in the form they need."""
    about = {key: content.get(key) for key in MADE_BY} | {"controls": content.get("controls") or {}}
    json.dumps(about, allow_nan=False)  # an evaluation repeats it
    numbers = all(isinstance(about[name], int | float | None) for name in ("depth", "guidance"))
    steer = about["controls"].get("steer", {}) if isinstance(about["controls"], dict) else None
    steered = isinstance(steer, dict) and all(isinstance(level, str | int | float) for level in steer.values())
    if not (numbers and steered and _is_model(about["checkpoint"])):
        raise ValueError("it was not made as `dexter render` makes them")
    return about


def _is_model(checkpoint: Any) -> bool:
    """Whether this is a checkpoint's label and digest, or says that there was none."""
    if not isinstance(checkpoint, dict):
        return checkpoint is None
    return all(isinstance(checkpoint.get(name), str) for name in ("label", "digest"))


def _midi_files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi") and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def _by_path(system: str, folder: Path, midi: Path) -> Render:
    name = midi.relative_to(folder).with_suffix("").as_posix()
    numbered = re.search(r"_sample(\d+)$", name)
    corpus, _, piece = (name[: numbered.start()] if numbered else name).partition("/")
    sample = int(numbered[1]) if numbered else 0
    return Render(system, name, corpus if piece else "", piece or corpus, sample, shown(midi), None)


def _render(system: str, folder: Path, row: dict[str, Any], steered: dict[str, float]) -> Render:
    codec = _inside(folder, row["codec"]) if row.get("codec") else None
    present = shown(codec) if codec and codec.is_file() else None
    midi = shown(_inside(folder, row["midi"]))
    corpus, piece = row.get("corpus") or "", row.get("piece") or ""
    made_from = {name: str(row[name]) for name in MADE_FROM if row.get(name)}
    name, sample = str(row["name"]), int(row.get("sample") or 0)
    return Render(system, name, str(corpus), str(piece), sample, midi, present, **made_from, steered=steered)


def _inside(folder: Path, relative: str) -> Path:
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"path {relative!r} leads out of the folder")
    return folder / path


def played(render: Render, piece: Piece, sandbox: Sandbox) -> Played:
    """A render beside the notes of its piece, as one performance (1, N).

    Raises:
        InputError: unreadable, or of another score: none of its notes is in the piece (``other_score``).
    """
    from dexter_model.codec.files import load_codec

    if render.codec is None:
        return played_midi(render.midi, piece, sandbox)
    codec = load_codec(render.codec)
    rows, ours = rows_of(codec.note_id, piece.note_id, render.codec)
    values = _beside(len(piece.note_id), rows, codec.p_codec[ours])
    counts = _beside(len(piece.note_id), rows, codec.matched[ours].astype(float)) == 1.0
    return Played(values[None], counts[None], np.full((1, len(counts)), np.nan))


def played_midi(midi: str, piece: Piece, sandbox: Sandbox) -> Played:
    """A MIDI file beside the notes of its piece: aligned, encoded, articulation by key-down durations."""
    from dexter_model.codec.performance_codec import encode
    from dexter_model.reading.midi import load_midi

    performance: Performance = sandbox.call(load_midi, str(local(midi)))
    score = Score(piece.note_id, piece.score)
    if len(performance.notes) > MOST_NOTES * len(score.notes) + 100:
        raise _other_score(midi, f"has {len(performance.notes)} notes, its score {len(score.notes)}")
    alignment = align(score, performance)
    found = int(((alignment.score_id != "") & (alignment.performance_id != "")).sum())
    if found < LEAST_MATCHED * len(score.notes):
        raise _other_score(midi, f"plays {found} of the {len(score.notes)} notes of its score")
    codec = encode(score, performance, alignment, str(midi))
    values = _beside(len(piece.note_id), codec.rows, codec.p_codec)
    values[:, 3] = np.nan
    counts = _beside(len(piece.note_id), codec.rows, codec.matched.astype(float)) == 1.0
    keydown = _beside(len(piece.note_id), codec.rows, codec.keydown_articulation)
    return Played(values[None], counts[None], keydown[None])


def align(score: Score, performance: Performance) -> Alignment:
    """Which performed note is which score note, by parangonar's dynamic time warping of note sequences.

    Its ``AutomaticNoteMatcher`` (Peter et al. 2023) finds no more, takes ten times as long (28 s for 1,500 notes), and
    more than 6 GB for 4,500.
    """
    import parangonar

    if not len(performance.notes):
        return Alignment(score.note_id, np.full(len(score.note_id), ""))
    notes = recfunctions.append_fields(
        score.notes, ["id", "is_grace"], [score.note_id, score.notes["grace"]], usemask=False
    )
    performed = recfunctions.append_fields(performance.notes, "id", performance.note_id, usemask=False)
    found = parangonar.DualDTWNoteMatcher()(notes, performed)
    return Alignment(
        np.array([str(pair.get("score_id", "")) for pair in found]),
        np.array([str(pair.get("performance_id", "")) for pair in found]),
    )


def rows_of(note_id: np.ndarray, piece_note_id: np.ndarray, path: object) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the piece and rows of the render that are the same note."""
    _, rows, ours = np.intersect1d(piece_note_id, note_id, return_indices=True)
    if not len(rows):
        raise _other_score(path, "none of its notes is in the piece")
    return rows, ours


def _other_score(path: object, reason: str) -> InputError:
    return InputError(path, reason, "Render the score that the data set was built from", "other_score")


def _beside(length: int, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of some notes as an array over all notes of the piece, NaN for the others."""
    out = np.full((length, *values.shape[1:]), np.nan)
    out[rows] = values
    return out
