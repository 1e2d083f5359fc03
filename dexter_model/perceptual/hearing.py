"""Perceptual features as the mid-level network hears them: a performance is played by FluidSynth first.

What the network says depends on the instrument it hears, so features of synthesised and of recorded sound do not mix,
and the soundfont is part of their source. It is computed by one thread: several add up in another order, and the last
bits would tell how many.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dexter_model.errors import InputError
from dexter_model.notes import Performance
from dexter_model.perceptual.cnn import load_network
from dexter_model.perceptual.features import PerceptualFeatures, nothing_known, unknown_values
from dexter_model.perceptual.frontend import FRAMES_A_SECOND, read_wav, spectrogram
from dexter_model.synthesis import instrument, synthesise, why_silent
from dexter_model.threads import one_thread

WINDOW_FRAMES, HOP_FRAMES = 469, 156  # 14.98 and 4.98 s
BATCH = 8  # windows
TIMEOUT = 900.0  # s of synthesis


def hear(performance: Performance, checkpoint: str | Path) -> PerceptualFeatures:
    """Perceptual features of a performance as it sounds, on its own clock.

    Raises:
        InputError: the checkpoint cannot be read, or nothing can be synthesised (``no_synthesis``).
    """
    return hear_sound(sound_of(performance), checkpoint, instrument())


def hear_wav(wav: str | Path, checkpoint: str | Path) -> PerceptualFeatures:
    """Perceptual features of a recording, on its own clock.

    Raises:
        InputError: the checkpoint or the recording cannot be read.
    """
    return hear_sound(read_wav(wav), checkpoint)


def hear_sound(samples: np.ndarray, checkpoint: str | Path, played_by: str = "") -> PerceptualFeatures:
    """Perceptual features of mono samples at 22,050 Hz; of silence nothing is known.

    Args:
        samples: the sound.
        checkpoint: of the network.
        played_by: what made the sound, behind the checkpoint's digest in ``source``; '' of a recording.
    """
    network, digest = load_network(checkpoint)
    bands, lead = spectrogram(samples)
    if not bands.shape[1]:
        return nothing_known()
    with torch.inference_mode(), one_thread():
        values = torch.cat([network(batch) for batch in windows_of(bands).split(BATCH)]).numpy()
    known = np.isfinite(values).all(axis=1)
    return PerceptualFeatures(
        lead + centres_of(len(values)),
        values,
        unknown_values(len(values)),
        known,
        f"cnn:{digest[:12]}{played_by}",
        WINDOW_FRAMES / FRAMES_A_SECOND,
    )


def windows_of(bands: np.ndarray) -> Tensor:
    """Every full window (M, 1, 149, 469) of a spectrogram (149, T), which is repeated when it is shorter than one."""
    if bands.shape[1] < WINDOW_FRAMES:
        bands = np.pad(bands, ((0, 0), (0, WINDOW_FRAMES - bands.shape[1])), mode="wrap")
    return torch.from_numpy(bands).unfold(1, WINDOW_FRAMES, HOP_FRAMES).transpose(0, 1)[:, None]


def centres_of(windows: int) -> np.ndarray:
    """Centres (M,) of a spectrogram's windows, s after it begins."""
    return (np.arange(windows) * HOP_FRAMES + WINDOW_FRAMES / 2) / FRAMES_A_SECOND


def sound_of(performance: Performance) -> np.ndarray:
    """A performance played by FluidSynth: float32 mono samples at 22,050 Hz; its time 0 is theirs.

    Raises:
        InputError: ``no_synthesis``.
    """
    if why_silent():
        raise InputError(
            "fluidsynth", "the network hears sound, and none can be made", why_silent()[:-1], "no_synthesis"
        )
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "performance.wav"
        try:
            synthesise(performance, wav, TIMEOUT)
        except (OSError, subprocess.SubprocessError) as error:
            reason, remedy = f"it failed ({error})".partition("\n")[0], "See that fluidsynth works by itself"
            raise InputError("fluidsynth", reason, remedy, "no_synthesis") from error
        return read_wav(wav)
