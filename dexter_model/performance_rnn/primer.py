"""What a generated performance begins with: a chord, a melody, a MIDI file, or a moment of silence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.performance_rnn.encodings import default_token, tokens_of_notes
from dexter_model.performance_rnn.events import step_notes, with_length
from dexter_model.performance_rnn.excerpts import DRUMS
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.performance_rnn.vocabulary import DEFAULT_VELOCITY, MAX_SHIFT, STEPS_PER_SECOND
from dexter_model.places import local

CHORD_SECONDS, MELODY_SECONDS = 0.5, 0.125  # of the chord; between events of the melody
NOTE_OFF, GOES_ON = -1, -2
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # onset, end (s), pitch, velocity


class Primer(NamedTuple):
    """Tokens to begin with, the step they begin at, and how many steps all tokens together are to last.

    ``part`` is whether they belong to the performance: a note that stands for none does not.
    """

    tokens: np.ndarray
    start: int
    total: int
    part: bool


def primer(settings: GenerationSettings, config: NetworkConfig) -> Primer:
    """What a performance of these settings begins with.

    Generation begins a step after the primer's last note ended, as in the original. Without a primer the first second
    is silent, at step 1.

    Raises:
        InputError: the primer is as long as all that is asked for, or longer (``primer_too_long``), or a file cannot be
            used (``performance_unreadable``, ``primer_unusable``).
    """
    onset, end, pitch, velocity = primer_notes(settings)
    seconds = float(end.max(initial=0.0))
    if seconds * STEPS_PER_SECOND >= settings.num_steps:
        reason = f"lasts {seconds:g} s, all of the {settings.num_steps / STEPS_PER_SECOND:g} s asked for"
        raise InputError("primer", reason, "Ask for more steps, or give a shorter primer", "primer_too_long")
    tokens = tokens_of_notes(step_notes(onset, end, pitch, velocity), config)
    if tokens is None:
        raise InputError("primer", "has notes too long or too far apart", "Give another primer", "primer_unusable")
    if config.encoding == "notes":
        begun = tokens if len(tokens) else default_token(config)[None]
        return Primer(begun, 0, settings.num_steps, len(tokens) > 0)
    start = math.floor(seconds * STEPS_PER_SECOND + 1)
    if not len(tokens):
        total = max(settings.num_steps - start, 0)
        silence = with_length(tokens[:, 0], max(1, min(MAX_SHIFT, total)))[:, None]
        return Primer(silence, start, total, True)
    padded = with_length(tokens[:, 0], start)[:, None]
    return Primer(padded, 0, settings.num_steps, True)


def primer_notes(settings: GenerationSettings) -> Columns:
    """Notes of the first primer that is given: onsets and ends in s, pitches, velocities."""
    if settings.primer_pitches:
        pitch = np.array(settings.primer_pitches)
        return _columns(np.zeros(len(pitch)), np.full(len(pitch), CHORD_SECONDS), pitch)
    if settings.primer_melody:
        return _columns(*_melody(np.array(settings.primer_melody)))
    onset, end, pitch, velocity = np.array(with_primer_read(settings).primer_notes).reshape(-1, 4).T
    return onset, end, pitch.astype(np.int64), velocity.astype(np.int64)


def _melody(events: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Onsets, ends and pitches; a note lasts until the next event that is not ``GOES_ON``."""
    changes = np.flatnonzero(events != GOES_ON)
    ends = np.append(changes[1:], len(events))[events[changes] != NOTE_OFF]
    begins = changes[events[changes] != NOTE_OFF]
    return begins * MELODY_SECONDS, ends * MELODY_SECONDS, events[begins]


def with_primer_read(settings: GenerationSettings) -> GenerationSettings:
    """Settings with the notes of their MIDI file, as its keys were held, in place of its name.

    The file, which nobody trusts, is read in a child process.

    Raises:
        InputError: it cannot be read (``performance_unreadable``, or the child's), or has notes of several instruments
            or none on keys (``primer_unusable``).
    """
    if not settings.primer_midi or settings.primer_pitches or settings.primer_melody:
        return settings
    from dexter_model.reading.recording import load_recording
    from dexter_model.reading.sandbox import Sandbox, SandboxedError

    path = settings.primer_midi
    try:
        with Sandbox() as sandbox:
            notes = sandbox.call(load_recording, str(local(path)))
    except SandboxedError as error:
        raise InputError(path, error.args[0], "Export it again", "performance_unreadable") from error
    notes = notes[notes["channel"] != DRUMS]
    if len(np.unique(notes["program"])) != 1:
        reason = "holds several instruments" if len(notes) else "holds no note of a piano"
        raise InputError(path, reason, "Give a primer for the piano alone", "primer_unusable")
    columns = (notes[name].tolist() for name in ("onset_sec", "offset_sec", "pitch", "velocity"))
    return replace(settings, primer_midi="", primer_notes=tuple(zip(*columns, strict=True)))


def _columns(onset: np.ndarray, end: np.ndarray, pitch: np.ndarray) -> Columns:
    return onset, end, pitch.astype(np.int64), np.full(len(pitch), DEFAULT_VELOCITY)
