"""Rolling out a network from a primer: all outputs of a batch, and all candidates of each, as rows of one state.

The state is carried from event to event. (The original runs over everything again for each piece it adds.) The choice
among candidates is the original's: they are drawn, not enumerated; every so many events the likeliest stay. It goes in
passes, each as long as the rest is expected to be, and each ends with one candidate.

Shapes: O outputs, R rows: C candidates of each output, K numbers of a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dexter_model.performance_rnn.controls import encoded
from dexter_model.performance_rnn.encodings import heads, token_steps, tuple_shift
from dexter_model.performance_rnn.network import PerformanceRnn, State
from dexter_model.performance_rnn.primer import Primer
from dexter_model.performance_rnn.sampling import HeldKeys, RandomStreams, draw_tokens
from dexter_model.performance_rnn.settings import DEFAULT_DENSITY, DEFAULT_HISTOGRAM, GenerationSettings
from dexter_model.performance_rnn.vocabulary import STEPS_PER_SECOND, event_steps

_LOOK_EVERY = 32  # events between looking which outputs are done


def steering_over_time(network: PerformanceRnn, settings: GenerationSettings, total: int) -> Tensor:
    """(total + 1, C) what steers at each step of a performance."""
    config, like = network.config, network.table
    step = torch.arange(total + 1, device=like.device)

    def over_time(values: Sequence[object]) -> Tensor:
        table = torch.tensor(values, device=like.device)
        return table[(step * len(values) // max(total, 1)).clamp_max(len(values) - 1)]

    density = over_time(settings.notes_per_second or (DEFAULT_DENSITY,)).double() if config.density else None
    histogram = over_time(settings.pitch_class_histogram or (DEFAULT_HISTOGRAM,)).double() if config.histogram else None
    disabled = over_time(settings.disable_conditioning or (False,)) if config.optional else None
    return encoded(density, histogram, disabled, like.new_zeros(total + 1, 0))


class Rollout:
    """Outputs that are made together, from the primer's end to their own; those that are done leave."""

    def __init__(
        self, network: PerformanceRnn, settings: GenerationSettings, begun: Primer, seeds: Sequence[int]
    ) -> None:
        self.network, self.settings, self.total = network, settings, begun.total
        self.classes, self.device = heads(network.config), network.table.device
        self.candidates, outputs = settings.candidates, len(seeds)
        rows = outputs * self.candidates
        self.streams = RandomStreams(seeds, (self.candidates, len(self.classes)), self.device)
        self.steering = steering_over_time(network, settings, begun.total)
        self.steps = torch.from_numpy(event_steps(np.arange(self.classes[0]))).to(self.device)
        self.output = np.arange(outputs)  # numbers of those that are not done yet
        self.keys = HeldKeys(rows, self.device) if settings.constrained and len(self.classes) == 1 else None
        self.clock = torch.zeros(rows, dtype=torch.long, device=self.device)
        self._prime(begun, rows)
        self.score = torch.zeros(outputs, self.candidates, dtype=torch.float64, device=self.device)
        self.left = torch.zeros(outputs, dtype=torch.long, device=self.device)  # events to the end of the pass
        self.until = torch.zeros_like(self.left)  # events until the next choice
        self.done = torch.zeros(outputs, dtype=torch.bool, device=self.device)
        self._begin_passes(~self.done)

    def run(self) -> list[np.ndarray]:
        """Tokens (n, K) of each output after the primer's, to the one that completes its time."""
        begun, outputs = int(self.clock[0]), len(self.output)
        limit = 1000 + 4 * self.total  # a network that never lets time pass would never end
        parts = []
        for _ in range(0, limit, _LOOK_EVERY):
            parts.append(self._some(outputs * self.candidates))
            done = self.done.cpu().numpy()
            if done.all():
                break
            if done.any():
                self._keep(np.flatnonzero(~done))
        tokens, parents = (np.concatenate(part) for part in zip(*parts, strict=True))
        made = _traced(tokens, parents, self.candidates)
        ends = begun + np.cumsum(token_steps(made), axis=0)
        return [made[: np.searchsorted(ends[:, output], self.total) + 1, output] for output in range(outputs)]

    def _prime(self, begun: Primer, rows: int) -> None:
        """Let the network and the clock pass over the primer, once for all rows."""
        state = self.network.initial(1)
        for token in torch.from_numpy(begun.tokens.astype(np.int64)).to(self.device)[:, None]:
            self.clock += self._passing(token)
            logits, state = self.network.step(token, self._steered()[:1], state)
            if self.keys is not None:
                self.keys.played(token.expand(rows, -1))
        self.logits = logits.expand(rows, -1)
        self.state: list[State] = [tuple(part.expand(rows, *part.shape[1:]) for part in layer) for layer in state]

    def _some(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """The next events of all rows (T, rows, K) and which row each is the continuation of after it (T, rows)."""
        alive = self._rows(self.output)
        events = [self._next() for _ in range(_LOOK_EVERY)]
        tokens = np.zeros((len(events), rows, len(self.classes)), np.int16)
        parents = np.tile(np.arange(rows), (len(events), 1))
        tokens[:, alive] = torch.stack([each for each, _ in events]).cpu().numpy()
        if self.candidates > 1:
            parents[:, alive] = alive[torch.stack([each for _, each in events]).cpu().numpy()]
        return tokens, parents

    def _next(self) -> tuple[Tensor, Tensor]:
        """Draw an event in every row, choose where it is time to, go on: the events, and the rows that were chosen."""
        logits = self.logits if self.keys is None else self.keys.allowed(self.logits)
        uniform = self.streams.draw().flatten(0, 1)
        tokens, likelihood = draw_tokens(logits, uniform, self.classes, self.settings.temperature, self.settings.top_p)
        drawn, parents = tokens, torch.arange(len(tokens), device=self.device)
        self.clock += self._passing(tokens)
        if self.keys is not None:
            self.keys.played(tokens)
        if self.candidates > 1:
            parents = self._chosen(likelihood)
            self._take_rows(parents)
            tokens = tokens[parents]
        else:
            self.done |= self.clock >= self.total
        self.logits, self.state = self.network.step(tokens, self._steered(), self.state)
        return drawn, parents

    def _chosen(self, likelihood_R: Tensor) -> Tensor:
        """Rows to go on from: themselves, or at choices the likeliest; what comes after choices is set up, too."""
        beam, branch = self.settings.beam_size, self.settings.branch_factor
        self.score += likelihood_R.view_as(self.score)
        self.left -= 1
        self.until -= 1
        choose = (self.until == 0) & ~self.done
        ends = choose & (self.left == 0)
        order = self.score.argsort(dim=1, descending=True, stable=True)
        best = torch.where(ends[:, None], order[:, :1], order[:, :beam].repeat_interleave(branch, dim=1))
        same = torch.arange(self.candidates, device=self.device)
        kept = torch.where(choose[:, None], best, same)
        self.score = self.score.gather(1, kept)
        self.until = torch.where(choose, self.settings.steps_per_iteration, self.until)
        parents = (torch.arange(len(kept), device=self.device)[:, None] * self.candidates + kept).flatten()
        self.done |= ends & (self.clock[parents][:: self.candidates] >= self.total)
        self._begin_passes(ends & ~self.done, self.clock[parents])
        return parents

    def _begin_passes(self, which_O: Tensor, clock_R: Tensor | None = None) -> None:
        """Plan as many events as the rest of some outputs is expected to have; the first choice makes them even."""
        clock = self.clock if clock_R is None else clock_R
        remaining = (self.total - clock[:: self.candidates]).double()
        expected = (4.0 * max(1.0, self.settings.density) * remaining / STEPS_PER_SECOND).ceil().long()
        self.left = torch.where(which_O, expected, self.left)
        self.until = torch.where(which_O, (expected - 1) % self.settings.steps_per_iteration + 1, self.until)
        self.score = torch.where(which_O[:, None], 0.0, self.score)

    def _passing(self, tokens_RK: Tensor) -> Tensor:
        if len(self.classes) == 1:
            return self.steps[tokens_RK[:, 0]]
        return tuple_shift(tokens_RK)

    def _steered(self) -> Tensor:
        """(R, C) what steers the events that come."""
        return self.steering[self.clock.clamp_max(self.total)]

    def _rows(self, outputs: np.ndarray) -> np.ndarray:
        return (outputs[:, None] * self.candidates + np.arange(self.candidates)).ravel()

    def _keep(self, outputs: np.ndarray) -> None:
        """Go on with some of the outputs."""
        self._take_rows(torch.from_numpy(self._rows(outputs)).to(self.device))
        index = torch.from_numpy(outputs).to(self.device)
        self.logits = self.logits[torch.from_numpy(self._rows(outputs)).to(self.device)]
        self.score, self.left, self.until, self.done = (
            each[index] for each in (self.score, self.left, self.until, self.done)
        )
        self.streams.keep(outputs)
        self.output = self.output[outputs]

    def _take_rows(self, rows: Tensor) -> None:
        self.state = [tuple(part[rows] for part in layer) for layer in self.state]
        self.clock = self.clock[rows]
        if self.keys is not None:
            self.keys.held = self.keys.held[rows]


def _traced(tokens_TRK: np.ndarray, parents_TR: np.ndarray, candidates: int) -> np.ndarray:
    """(T, O, K) events of the first candidate of each output, followed back through all choices."""
    if candidates == 1:
        return tokens_TRK
    row = np.arange(0, tokens_TRK.shape[1], candidates)
    traced = np.empty((len(tokens_TRK), len(row), tokens_TRK.shape[2]), tokens_TRK.dtype)
    for event in reversed(range(len(tokens_TRK))):
        row = parents_TR[event, row]
        traced[event] = tokens_TRK[event, row]
    return traced
