"""Performances as sound: FluidSynth with a soundfont of the system, when both are there.

FluidSynth is run as a program, not through its Python binding: partitura downloads a soundfont when it sees that one.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.digests import file_digest
from dexter_model.notes import Performance

RATE = 22050
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


def synthesise(performance: Performance, wav: Path, timeout: float = 120) -> None:
    """Write a performance as a 16-bit stereo WAV file of ``RATE``; its times are the performance's.

    Raises:
        OSError, subprocess.SubprocessError: FluidSynth is missing or fails, or takes longer than ``timeout`` s.
    """
    midi = wav.with_suffix(".mid")
    write_performance_midi(performance, midi)
    command = ["fluidsynth", "-ni", "-q", "-r", str(RATE), "-O", "s16", "-T", "wav", "-F", str(wav)]
    subprocess.run([*command, str(soundfont()), str(midi)], check=True, capture_output=True, timeout=timeout)
