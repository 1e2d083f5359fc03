"""MIDI files from messages with absolute ticks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mido

Timed = tuple[int, Any]


def write(path: Path, *tracks: list[Timed], tpq: int = 480) -> Path:
    """A MIDI file of tracks; messages with absolute ticks, in the order given."""
    file = mido.MidiFile(ticks_per_beat=tpq)
    for messages in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in messages:
            track.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(track)
    file.save(path)
    return path


def on(tick: int, pitch: int, velocity: int = 64, channel: int = 0) -> Timed:
    return tick, mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)


def off(tick: int, pitch: int, channel: int = 0) -> Timed:
    return tick, mido.Message("note_off", note=pitch, channel=channel)


def sustain(tick: int, value: int, channel: int = 0) -> Timed:
    return tick, mido.Message("control_change", control=64, value=value, channel=channel)


def program(tick: int, number: int, channel: int = 0) -> Timed:
    return tick, mido.Message("program_change", program=number, channel=channel)


def tempo(tick: int, microseconds: int) -> Timed:
    return tick, mido.MetaMessage("set_tempo", tempo=microseconds)
