"""Choosing among candidates of a performance: they are drawn, not enumerated; every so often the likeliest stay.

The original calls it beam search. It goes in passes, each of as many events as the rest of the performance is expected
to have; each ends with one candidate, from which the next goes on.

Shapes: O outputs, C candidates of each, R rows: all candidates of all outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.performance_rnn.vocabulary import STEPS_PER_SECOND


class Choices:
    """How likely each candidate is so far, and when to choose next, for every output by itself.

    Args:
        settings: how many are kept, begun and followed for how long.
        total: steps after which an output is done, at the end of its pass.
        clock_R: steps that have passed.
    """

    def __init__(self, settings: GenerationSettings, total: int, clock_R: Tensor) -> None:
        self.settings, self.total, self.candidates = settings, total, settings.candidates
        outputs = len(clock_R) // self.candidates
        self.score_OC = torch.zeros(outputs, self.candidates, dtype=torch.float64, device=clock_R.device)
        self.left_O = clock_R.new_zeros(outputs)  # events to the end of the pass
        self.until_O = clock_R.new_zeros(outputs)  # events until the next choice
        self.done_O = torch.zeros(outputs, dtype=torch.bool, device=clock_R.device)
        self._begin_passes(~self.done_O, clock_R)

    def choose(self, likelihood_R: Tensor, clock_R: Tensor) -> Tensor:
        """The row that each goes on from after an event: itself, or where it is time to choose one of the likeliest.

        Args:
            likelihood_R: log-probability of each row's event.
            clock_R: steps that have passed with it.
        """
        beam, branch = self.settings.beam_size, self.settings.branch_factor
        self.score_OC += likelihood_R.view_as(self.score_OC)
        self.left_O -= 1
        self.until_O -= 1
        due = (self.until_O == 0) & ~self.done_O
        ends = due & (self.left_O == 0)
        order = self.score_OC.argsort(dim=1, descending=True, stable=True)
        best = torch.where(ends[:, None], order[:, :1], order[:, :beam].repeat_interleave(branch, dim=1))
        same = torch.arange(self.candidates, device=order.device)
        kept_OC = torch.where(due[:, None], best, same)
        self.score_OC = self.score_OC.gather(1, kept_OC)
        self.until_O = torch.where(due, self.settings.steps_per_iteration, self.until_O)
        first = torch.arange(0, len(clock_R), self.candidates, device=order.device)
        rows = (first[:, None] + kept_OC).flatten()
        self.done_O |= ends & (clock_R[rows][first] >= self.total)
        self._begin_passes(ends & ~self.done_O, clock_R[rows])
        return rows

    def keep(self, outputs: Tensor) -> None:
        """Go on with some of the outputs."""
        parts = (self.score_OC, self.left_O, self.until_O, self.done_O)
        self.score_OC, self.left_O, self.until_O, self.done_O = (part[outputs] for part in parts)

    def _begin_passes(self, which_O: Tensor, clock_R: Tensor) -> None:
        """Plan passes of some outputs; the first choice comes early enough that the others are evenly spaced."""
        remaining = (self.total - clock_R[:: self.candidates]).double()
        expected = (4.0 * max(1.0, self.settings.density) * remaining / STEPS_PER_SECOND).ceil().long()
        self.left_O = torch.where(which_O, expected, self.left_O)
        self.until_O = torch.where(which_O, (expected - 1) % self.settings.steps_per_iteration + 1, self.until_O)
        self.score_OC = torch.where(which_O[:, None], 0.0, self.score_OC)
