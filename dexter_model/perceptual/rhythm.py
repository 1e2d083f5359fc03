"""Terms of rhythm: how varied the events' intervals are, how dense, how clear their pulse, how steady the beat."""

from __future__ import annotations

import numpy as np

from dexter_model.perceptual.events import Events
from dexter_model.perceptual.features import WINDOW
from dexter_model.perceptual.windows import Windows, means, ratio
from dexter_model.ragged import members

SHORTEST, LONGEST = 0.02, 4.0  # s between events that count as rhythm
BINS, BIN = 13, 0.5  # of the interval histogram, octaves around the median interval
RATE = 100  # Hz, of the onset train
SIGMA = 0.020  # s, by which it is smoothed
LAGS = np.arange(25, 151)  # of its autocorrelation: .25 to 1.5 s
PADDED = 2048  # samples of a train, so that none of the lags wraps around
BLOCK = 256  # windows whose trains are held at a time
STEADIEST = 0.01  # octaves, floor of sd_beat


def rhythm_terms(events: Events, windows: Windows) -> dict[str, np.ndarray]:
    """``ent``, ``npvi``, ``dens`` (log2) and ``pc`` of each window, (M,)."""
    low, high = windows.spans(events.onset)
    interval = np.diff(events.onset)
    interval = np.where((interval >= SHORTEST) & (interval <= LONGEST), interval, np.nan)
    return {
        "ent": _entropy(interval, low, high - 1),
        "npvi": means(100 * 2 * np.abs(np.diff(interval)) / (interval[1:] + interval[:-1]), low, high - 2),
        "dens": np.log2(np.maximum(ratio((high - low).astype(np.float64), windows.seconds), 1 / 64)),
        "pc": np.concatenate([np.zeros(0), *(_pulse_clarity(events, block) for block in _blocks(windows))]),
    }


def beat_term(beats: np.ndarray, beat_seconds: np.ndarray, windows: Windows) -> np.ndarray:
    """``sd_beat`` (M,): log2 of the standard deviation of the log2 beat periods in each window; NaN below two.

    Args:
        beats: (k,) beats, rising, some perhaps left out.
        beat_seconds: (k,) when they come.
        windows: of which to tell.
    """
    period = np.log2(np.maximum(np.diff(beat_seconds) / np.diff(beats), 1e-3))
    low, high = windows.spans(beat_seconds)
    mean = means(period, low, high - 1)
    deviation = np.sqrt(np.maximum(means(period**2, low, high - 1) - mean**2, 0))
    return np.where(high - low > 2, np.log2(np.maximum(deviation, STEADIEST)), np.nan)


def _entropy(interval: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Entropy (M,) of the intervals' histogram around their median, of that of a flat one."""
    window, item = members(low, high)
    values = interval[item]
    window, values = window[np.isfinite(values)], np.log2(values[np.isfinite(values)])
    values = values[np.lexsort((values, window))]
    size = np.bincount(window, minlength=len(low))
    begin = np.cumsum(size) - size
    known = size > 0
    median = np.zeros(len(low))
    middle = values[(begin + (size - 1) // 2)[known]] + values[(begin + size // 2)[known]]
    median[known] = middle / 2
    column = np.floor((values - median[window]) / BIN + BINS / 2).astype(int)
    histogram = np.bincount(window * BINS + np.clip(column, 0, BINS - 1), minlength=len(low) * BINS)
    share = histogram.reshape(-1, BINS) / np.maximum(size, 1)[:, None]
    entropy = -(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=1) / np.log2(BINS)
    return np.where(known, entropy, np.nan)


def _blocks(windows: Windows) -> list[Windows]:
    return [
        Windows(windows.start[i : i + BLOCK], windows.seconds[i : i + BLOCK])
        for i in range(0, len(windows.start), BLOCK)
    ]


def _pulse_clarity(events: Events, windows: Windows) -> np.ndarray:
    """The highest autocorrelation (M,) of the onset train, unbiased and normalised (Lartillot et al. 2008)."""
    samples = np.maximum(np.rint(windows.seconds * RATE), 1)
    inside = np.arange(round(WINDOW * RATE)) < samples[:, None]
    train = np.where(inside, _onset_train(events, windows), 0.0)
    train = np.where(inside, train - (train.sum(axis=1) / samples)[:, None], 0.0)
    spectrum = np.fft.rfft(train, PADDED, axis=1)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)
    pairs = np.maximum(samples[:, None] - LAGS, 1)
    unbiased = np.where(samples[:, None] / 2 >= LAGS, correlation[:, LAGS] / pairs, -np.inf).max(axis=1)
    clarity = ratio(unbiased, correlation[:, 0] / samples)
    return np.where(np.isfinite(clarity), clarity, np.nan)


def _onset_train(events: Events, windows: Windows) -> np.ndarray:
    """Onset trains (M, 1500): the root of each event's summed velocities, smoothed."""
    size = round(WINDOW * RATE)
    strength = np.sqrt(np.add.reduceat(events.notes["velocity"] / 127, events.first))
    window, event = members(*windows.spans(events.onset))
    place = np.rint((events.onset[event] - windows.start[window]) * RATE).astype(int)
    reach = np.arange(-8, 9)
    kernel = np.exp(-0.5 * (reach / (SIGMA * RATE)) ** 2)
    places = place[:, None] + reach
    cells = np.where((places >= 0) & (places < size), window[:, None] * size + places, len(windows.start) * size)
    train = np.bincount(cells.ravel(), (strength[event][:, None] * kernel).ravel(), len(windows.start) * size + 1)
    return train[:-1].reshape(-1, size)
