"""What steers a performance: how many notes a second come, and how long which pitch classes sound.

The value at an event is that of the window that begins there: 3 s for the density, 5 s for the histogram. It changes
after time has passed only. Windows are differences of cumulative sums, over a whole batch at a time.

Shapes: B sequences, T events.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.performance_rnn.vocabulary import OFF, ON, SHIFT, STEPS_PER_SECOND, VELOCITY

DENSITY_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # notes a second between the classes
DENSITY_WINDOW, HISTOGRAM_WINDOW = 300, 500  # steps
PRIOR = 0.01  # s of every pitch class, heard in any case


def controls_of_events(events_BT: Tensor, config: NetworkConfig, disabled_B: Tensor | None = None) -> Tensor:
    """What steers at each event, (B, T, ``config.controls``), found in the events themselves.

    Args:
        events_BT: ids; negative ones, at the end, are none.
        config: which controls there are.
        disabled_B: where optional controls are off; None: nowhere.
    """
    density = note_density(events_BT) if config.density else None
    histogram = pitch_histogram(events_BT) if config.histogram else None
    none = torch.zeros(*events_BT.shape, 0, device=events_BT.device)
    if not config.optional:
        return encoded(density, histogram, None, none)
    disabled_B = torch.zeros_like(events_BT[:, 0], dtype=torch.bool) if disabled_B is None else disabled_B
    return encoded(density, histogram, disabled_B[:, None].expand(events_BT.shape), none)


def encoded(density: Tensor | None, histogram: Tensor | None, disabled: Tensor | None, none: Tensor) -> Tensor:
    """Controls as inputs: whether they are off (then all else is 0), class of density, shares of the histogram.

    Args:
        density: (...) notes a second, if it steers.
        histogram: (..., 12), if it steers.
        disabled: (...) bool, if controls are optional.
        none: (..., 0), of the result's type.
    """
    parts = [none]
    if density is not None:
        parts.append(functional.one_hot(density_class(density), len(DENSITY_BOUNDS) + 1).to(none))
    if histogram is not None:
        total = histogram.sum(dim=-1, keepdim=True)
        parts.append(torch.where(total > 0, histogram / total, 1 / 12).to(none))
    values = torch.cat(parts, dim=-1)
    if disabled is None:
        return values
    return torch.cat([disabled[..., None].to(none), torch.where(disabled[..., None], 0.0, values)], dim=-1)


def density_class(density: Tensor) -> Tensor:
    """Number of boundaries that a density reaches."""
    return torch.bucketize(density, density.new_tensor(DENSITY_BOUNDS), right=True)


def note_density(events_BT: Tensor) -> Tensor:
    """(B, T) float64 notes a second over the next 3 s, or over what is left; 0 where no time is left."""
    begins = _sum_before((events_BT >= ON) & (events_BT < OFF))
    passed, end = _windows(events_BT, DENSITY_WINDOW)
    count, steps = (total.gather(1, end) - total[:, :-1] for total in (begins, passed))
    density = torch.where(steps > 0, count * STEPS_PER_SECOND / steps.clamp(1, DENSITY_WINDOW).double(), 0.0)
    return density.gather(1, _since_time_passed(events_BT))


def pitch_histogram(events_BT: Tensor) -> Tensor:
    """(B, T, 12) float64 seconds that pitch classes sound over the next 5 s, over all their pitches, and the prior."""
    _, end = _windows(events_BT, HISTOGRAM_WINDOW)
    sounding = _sounding(events_BT)
    heard = functional.pad((sounding * _steps(events_BT)[..., None]).cumsum(dim=1), (0, 0, 1, 0))
    index = end[..., None].expand(-1, -1, 12)
    histogram = (heard.gather(1, index) - heard[:, :-1]).double() / STEPS_PER_SECOND + PRIOR
    return histogram.gather(1, _since_time_passed(events_BT)[..., None].expand(-1, -1, 12))


def _steps(events_BT: Tensor) -> Tensor:
    shift = (events_BT >= SHIFT) & (events_BT < VELOCITY)
    return torch.where(shift, events_BT - SHIFT + 1, 0)


def _sum_before(values_BT: Tensor) -> Tensor:
    """(B, T + 1) sums of what lies before each place."""
    return functional.pad(values_BT.long().cumsum(dim=1), (1, 0))


def _windows(events_BT: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Steps before each event (B, T + 1), and where its window ends (B, T): with the shift that completes it."""
    passed = _sum_before(_steps(events_BT))
    end = torch.searchsorted(passed, passed[:, :-1] + window).clamp_max(events_BT.shape[1])
    return passed, end


def _since_time_passed(events_BT: Tensor) -> Tensor:
    """(B, T) the event whose value holds at each: the last one, itself included, with a shift or nothing before it."""
    place = torch.arange(events_BT.shape[1], device=events_BT.device).expand(events_BT.shape)
    after = functional.pad(_steps(events_BT)[:, :-1] > 0, (1, 0))
    return torch.where(after, place, 0).cummax(dim=1).values


def _sounding(events_BT: Tensor) -> Tensor:
    """(B, T, 12) pitches of each class that sound after each event; a pitch that begins twice counts once."""
    begins, ends = (events_BT >= ON) & (events_BT < OFF), (events_BT >= OFF) & (events_BT < SHIFT)
    pitch = torch.where(begins | ends, events_BT % OFF, OFF)
    pitch, order = pitch.sort(dim=1, stable=True)  # the events of each pitch side by side, in their order
    sounds = begins.gather(1, order)
    before = functional.pad(sounds[:, :-1] & (pitch[:, :-1] == pitch[:, 1:]), (1, 0))
    change = torch.where(pitch < OFF, sounds.long() - before.long(), 0)
    changes = torch.zeros(*events_BT.shape, 12, dtype=torch.long, device=events_BT.device)
    changes[torch.arange(len(order), device=order.device)[:, None], order, pitch % 12] = change
    return changes.cumsum(dim=1)
