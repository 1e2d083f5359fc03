"""From sound to the spectrograms that the mid-level network reads: 149 bands, 31.3 frames a second.

That of the network's authors, described by madmom's parts: Hann windows of 2048 samples that begin at the reference
sample, triangular filters 24 to the octave around A4 = 440 Hz, each of area 1, log10(1 + magnitude).
"""

from __future__ import annotations

import functools
import wave
from math import gcd
from pathlib import Path

import numpy as np

from dexter_model.errors import InputError

RATE = 22050  # Hz
FRAME = 2048  # samples
FRAMES_A_SECOND = 31.3
HOP = RATE / FRAMES_A_SECOND  # samples: 704.473, rounded down for each frame
BANDS = 149
BANDS_OCTAVE, LOWEST, HIGHEST, REFERENCE = 24, 20.0, 16_000.0, 440.0  # Hz
BLOCK = 1024  # frames that are transformed at a time
MAX_BYTES = 1 << 30  # of a WAV file: 100 minutes in stereo


def read_wav(path: str | Path) -> np.ndarray:
    """A 16-bit WAV file as float32 samples in mono at 22,050 Hz.

    Raises:
        InputError: ``sound_unreadable``.
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2 or file.getnframes() == 0:
                raise ValueError("it holds no 16-bit samples")
            rate, channels = file.getframerate(), file.getnchannels()
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels)
        if not 4000 <= rate <= 192_000:
            raise ValueError(f"{rate} samples a second are no sampling rate of music")
        return _resampled(samples.mean(axis=1, dtype=np.float32) / 32768, rate)
    except (OSError, ValueError, EOFError, wave.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "it is cut short"
        raise InputError(path, reason, "Give a 16-bit PCM WAV file", "sound_unreadable") from error


def spectrogram(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """Spectrogram (149, T) float32 of a sound, and when it begins in s.

    The sound is made as loud as can be, and the silence (exact zeros) at both its ends is cut off, as for the network's
    training; frame i begins ``i / 31.3`` s after the returned time.
    """
    heard = np.flatnonzero(samples)
    if not len(heard):
        return np.zeros((BANDS, 0), np.float32), 0.0
    sound = samples[heard[0] : heard[-1] + 1] / np.abs(samples).max()
    frames = int(np.ceil(len(sound) / HOP))
    padded = np.concatenate([sound, np.zeros(FRAME, sound.dtype)])
    starts = (np.arange(frames) * HOP).astype(int)
    window = np.hanning(FRAME).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(padded, FRAME)
    blocks = []
    for block in np.split(starts, range(BLOCK, frames, BLOCK)):
        magnitude = np.abs(np.fft.rfft(views[block] * window)[:, :-1])
        blocks.append(np.log10(1 + magnitude @ filterbank()).astype(np.float32))
    return np.ascontiguousarray(np.concatenate(blocks).T), float(heard[0] / RATE)


@functools.cache
def filterbank() -> np.ndarray:
    """Triangular filters (1024, 149): each rises from one of the bands' bins to the next and falls to the one after."""
    bins = _centre_bins()
    filters = np.zeros((FRAME // 2, len(bins) - 2))
    for band, (low, centre, high) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        filters[low:centre, band] = np.linspace(0, 1, centre - low, endpoint=False)
        filters[centre:high, band] = np.linspace(1, 0, high - centre, endpoint=False)
    return filters / filters.sum(axis=0)


def _centre_bins() -> np.ndarray:
    """The distinct bins (151,) nearest to the frequencies of a scale of 24 steps to the octave."""
    octaves = np.log2(np.array([LOWEST, HIGHEST]) / REFERENCE) * BANDS_OCTAVE
    frequencies = REFERENCE * np.exp2(np.arange(np.ceil(octaves[0]), np.floor(octaves[1]) + 1) / BANDS_OCTAVE)
    return np.unique(np.minimum(np.rint(frequencies * FRAME / RATE), FRAME // 2 - 1).astype(int))


def _resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    if rate == RATE:
        return samples
    from scipy.signal import resample_poly

    common = gcd(rate, RATE)
    return resample_poly(samples, RATE // common, rate // common).astype(np.float32)
