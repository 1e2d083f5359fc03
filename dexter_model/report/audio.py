"""Renders to listen to, cut to their beginning and to mono, since the sound is embedded in the page."""

from __future__ import annotations

import base64
import io
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from dexter_model.notes import Performance
from dexter_model.synthesis import RATE, synthesise

SECONDS = 20.0
_TAIL = 2.0  # seconds of reverberation kept, faded out


def sound(performance: Performance, seconds: float = SECONDS) -> str | None:
    """The beginning of a performance as a data URI of a mono WAV file; None when FluidSynth fails."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "start.wav"
        try:
            synthesise(beginning(performance, seconds), wav)
            data = mono(wav, seconds + _TAIL)
        except (OSError, subprocess.SubprocessError, wave.Error, EOFError):
            return None
    return f"data:audio/wav;base64,{base64.b64encode(data).decode()}"


def beginning(performance: Performance, seconds: float) -> Performance:
    """The notes and the pedal of the first seconds."""
    early = performance.notes["onset_sec"] < seconds
    pedal = performance.pedal[performance.pedal[:, 0] < seconds]
    return Performance(performance.note_id[early], performance.notes[early], pedal)


def mono(path: Path, seconds: float) -> bytes:
    """The first seconds of a 16-bit stereo WAV file as a mono one, as loud as it can be, faded out at the end."""
    with wave.open(str(path)) as file:
        channels = file.getnchannels()
        frames = np.frombuffer(file.readframes(int(seconds * RATE)), "<i2")
    signal = frames.reshape(-1, channels).mean(axis=1)
    fade = min(len(signal), int(_TAIL * RATE))
    signal[len(signal) - fade :] *= np.linspace(1, 0, fade)
    signal *= 0.9 * 32767 / max(float(np.abs(signal).max(initial=0)), 1.0)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(signal.astype("<i2").tobytes())
    return buffer.getvalue()
