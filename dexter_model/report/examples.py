"""Some renders shown and heard: curves beside the humans', the codec beside a human's, piano rolls, audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dexter_model.codec.performance_codec import decode
from dexter_model.metrics.contests import DEADPAN, RULES, humans_of, is_synthetic, reference_codec
from dexter_model.metrics.curves import onset_starts
from dexter_model.metrics.measures import CURVES, Played
from dexter_model.metrics.renders import Render, played
from dexter_model.places import copy_of
from dexter_model.reading.midi import load_midi
from dexter_model.report import audio, figures
from dexter_model.report.html import count
from dexter_model.synthesis import why_silent

if TYPE_CHECKING:
    from dexter_model.dataset.piece import Piece
    from dexter_model.reading.sandbox import Sandbox

SHOWN_ONSETS = 160  # of a curve; more are a thicket
SHOWN_NOTES = 200  # of a codec image
SHOWN_SECONDS = 25.0  # of a piano roll


@dataclass(frozen=True)
class Shown:
    """A figure or a sound of the report: a data URI and what it shows."""

    title: str
    caption: str
    uri: str


@dataclass(frozen=True)
class Example:
    """One score: its title, what it is, and what is shown and heard of its renders."""

    title: str
    about: str
    figures: list[Shown]
    sounds: list[Shown]


def piece_example(piece: Piece, renders: Sequence[Render], sandbox: Sandbox, *, sounds: bool) -> Example:
    """A piece of the data set and the first sample of each system that rendered it.

    Raises:
        InputError: a render cannot be read or is of another score.
    """
    beside = {render.system: played(render, piece, sandbox) for render in renders}
    humans, _ = humans_of(piece)
    shown = [
        _curves(piece, beside),
        _codecs(piece, renders[0].system, beside[renders[0].system]),
        _rolls(piece, renders, sandbox),
    ]
    kind = "synthetic" if is_synthetic(piece) else "human"
    performances = count(len(humans.codec), f"{kind} performance")
    about = f"{piece.corpus} · {piece.key} · {count(len(piece.note_id), 'note')} · {performances}"
    title = " – ".join(filter(None, (piece.composer, piece.title))) or piece.key
    return Example(title, about, shown, _sounds(renders, sandbox) if sounds else [])


def score_example(renders: Sequence[Render], sandbox: Sandbox, *, sounds: bool) -> Example:
    """A render of a score that is in no data set: its piano roll and its sound."""
    performances = {render.system: sandbox.call(load_midi, str(copy_of(render.midi))) for render in renders}
    shown = [_piano_rolls({name: (p.notes, p.pedal) for name, p in performances.items()})]
    return Example(renders[0].name, "a score of no data set", shown, _sounds(renders, sandbox) if sounds else [])


def _curves(piece: Piece, beside: dict[str, Played]) -> Shown:
    humans, _ = humans_of(piece)
    starts = onset_starts(piece.score["onset_div"])
    lines = {name: {k: v[0] for k, v in p.series(starts).items()} for name, p in beside.items()}
    for system in (DEADPAN,) if is_synthetic(piece) else (DEADPAN, RULES):
        codec = reference_codec(piece, system).astype(float)[None]
        reference = Played(codec, np.ones(codec.shape[:2], bool), codec[..., 3])
        lines[system] = {k: v[0] for k, v in reference.series(starts).items()}
    part = slice(0, SHOWN_ONSETS)
    theirs = humans.series(starts)
    uri = figures.curves(
        piece.score["onset_beat"][starts][part],
        {name: theirs[name][:, part] for name in CURVES},
        {system: {name: values[name][part] for name in CURVES} for system, values in lines.items()},
    )
    number = min(SHOWN_ONSETS, len(starts))
    caption = f"The first {number} of {len(starts)} score onsets. Each grey line is one of the piece's performances."
    return Shown("Tempo and velocity", caption, uri)


def _codecs(piece: Piece, system: str, ours: Played) -> Shown:
    humans, keys = humans_of(piece)
    codecs = {
        f"render ({system})": np.where(ours.counts[0][:, None], ours.codec[0], np.nan)[:SHOWN_NOTES],
        _short(f"performance {keys[0]}"): np.where(humans.counts[0][:, None], humans.codec[0], np.nan)[:SHOWN_NOTES],
    }
    caption = (
        f"The first {min(SHOWN_NOTES, len(piece.note_id))} notes in score order; notes that were not played are grey."
    )
    return Shown("Codec", caption, figures.codec_images(codecs))


def _rolls(piece: Piece, renders: Sequence[Render], sandbox: Sandbox) -> Shown:
    rolls = {}
    for render in renders:
        performance = sandbox.call(load_midi, str(copy_of(render.midi)))
        rolls[f"render ({render.system})"] = (performance.notes, performance.pedal)
    humans, keys = humans_of(piece)
    heard = humans.counts[0]
    human = decode(piece.score[heard], piece.note_id[heard], humans.codec[0][heard].astype(np.float32))
    rolls[_short(f"performance {keys[0]}")] = (human.notes, human.pedal)
    return _piano_rolls(rolls)


def _piano_rolls(rolls: dict[str, tuple[np.ndarray, np.ndarray]]) -> Shown:
    longest = max((float(notes["onset_sec"].max(initial=1.0)) for notes, _ in rolls.values()), default=1.0)
    seconds = min(SHOWN_SECONDS, longest + 1)
    caption = f"The first {seconds:.0f} s, coloured by velocity; the line below the notes is the sustain pedal."
    return Shown("Piano roll", caption, figures.piano_rolls(rolls, seconds))


def _sounds(renders: Sequence[Render], sandbox: Sandbox) -> list[Shown]:
    if why_silent():
        return []
    heard = []
    for render in renders:
        uri = audio.sound(sandbox.call(load_midi, str(copy_of(render.midi))))
        if uri:
            heard.append(Shown(render.system, f"{render.name}, the first {audio.SECONDS:.0f} s", uri))
    return heard


def _short(text: str, length: int = 48) -> str:
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 2 :]}"


def choose(renders: Sequence[Render], count: int) -> list[list[Render]]:
    """Up to ``count`` scores, spread over the list of all, with the first sample of each system that rendered them."""
    first: dict[tuple[str, str], dict[str, Render]] = {}
    for render in sorted(renders, key=lambda r: (r.corpus, r.piece or r.name, r.sample)):
        first.setdefault((render.corpus, render.piece or render.name), {}).setdefault(render.system, render)
    scores = [list(systems.values()) for systems in first.values()]
    places = np.unique(np.linspace(0, len(scores) - 1, min(count, len(scores))).round().astype(int))
    return [scores[place] for place in places]
