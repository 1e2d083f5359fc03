"""Renders to listen to: FluidSynth with a soundfont of the system, when both are there.

FluidSynth is run as a program, not through its Python binding: partitura downloads a soundfont when it sees that
one. The sound is cut to its beginning and to mono, since it is embedded in the page.
"""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.digests import file_digest
from dexter_model.notes import Performance

RATE = 22050
SECONDS = 20.0
_TAIL = 2.0  # seconds of reverberation kept, faded out
SOUNDFONT_FOLDERS = (Path("/usr/share/sounds/sf2"), Path("/usr/share/sounds/sf3"), Path("/usr/share/soundfonts"))
HOW_TO = "Install the Debian packages fluidsynth and fluid-soundfont-gm to hear the renders here."


def soundfont() -> Path | None:
    """A General MIDI soundfont of the system, None when there is none."""
    found = [font for folder in SOUNDFONT_FOLDERS for font in sorted(folder.glob("*.sf[23]")) if font.is_file()]
    return min(found, key=lambda font: "default" not in font.name, default=None)


def instrument() -> str:
    """``+`` and the first 12 digits of the soundfont's sha-256, '' where there is none: what sounds depend on."""
    font = soundfont()
    return f"+{file_digest(font)[:12]}" if font else ""


def why_silent() -> str:
    """Why nothing can be heard; empty when it can."""
    if shutil.which("fluidsynth") is None:
        return f"FluidSynth is not installed. {HOW_TO}"
    return "" if soundfont() else f"No soundfont is installed. {HOW_TO}"


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


def synthesise(performance: Performance, wav: Path, timeout: float = 120) -> None:
    """Write a performance as a 16-bit stereo WAV file of ``RATE``; its times are the performance's.

    Raises:
        OSError, subprocess.SubprocessError: FluidSynth is missing or fails, or takes longer than ``timeout`` s.
    """
    midi = wav.with_suffix(".mid")
    write_performance_midi(performance, midi)
    command = ["fluidsynth", "-ni", "-q", "-r", str(RATE), "-O", "s16", "-T", "wav", "-F", str(wav)]
    subprocess.run([*command, str(soundfont()), str(midi)], check=True, capture_output=True, timeout=timeout)


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
