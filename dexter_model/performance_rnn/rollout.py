"""Rolling out a network from a primer: all outputs of a batch, and all candidates of each, as rows of one state.

The state is carried from event to event; the original runs over everything again for each piece it adds.

Shapes: O outputs, R rows: C candidates of each output, K numbers of a token.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dexter_model.performance_rnn.choosing import Choices
from dexter_model.performance_rnn.controls import encoded
from dexter_model.performance_rnn.encodings import heads, token_steps, tuple_shift
from dexter_model.performance_rnn.layers import State
from dexter_model.performance_rnn.network import PerformanceRnn
from dexter_model.performance_rnn.primer import Primer
from dexter_model.performance_rnn.sampling import HeldKeys, RandomStreams, draw_tokens
from dexter_model.performance_rnn.settings import DEFAULT_DENSITY, DEFAULT_HISTOGRAM, GenerationSettings
from dexter_model.performance_rnn.vocabulary import event_steps

log = logging.getLogger(__name__)

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
        self.output = np.arange(len(seeds))  # numbers of those that are not done yet
        rows = len(seeds) * settings.candidates
        self.streams = RandomStreams(seeds, (settings.candidates, len(self.classes)), self.device)
        self.steering = steering_over_time(network, settings, begun.total)
        self.steps = torch.from_numpy(event_steps(np.arange(self.classes[0]))).to(self.device)
        self.keys = HeldKeys(rows, self.device) if settings.constrained and len(self.classes) == 1 else None
        self.clock = torch.zeros(rows, dtype=torch.long, device=self.device)
        self._prime(begun, rows)
        self.choices = Choices(settings, begun.total, self.clock) if settings.candidates > 1 else None

    def run(self) -> list[np.ndarray]:
        """Tokens (n, K) of each output after the primer's, to the one that completes its time."""
        begun, outputs = int(self.clock[0]), len(self.output)
        limit = 1000 + 4 * self.total  # a network that never lets time pass would never end
        parts = []
        for _ in range(0, limit, _LOOK_EVERY):
            parts.append(self._some(outputs * self.settings.candidates))
            done = (self.clock >= self.total if self.choices is None else self.choices.done_O).cpu().numpy()
            if done.all():
                break
            if done.any():
                self._keep(np.flatnonzero(~done))
        else:
            log.warning("%d performances let no time pass: they end, silent, after %d events", np.sum(~done), limit)
        tokens, parents = (np.concatenate(part) for part in zip(*parts, strict=True))
        made = _traced(tokens, parents, self.settings.candidates)
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
        """The next events of all rows (T, rows, K), and which row each goes on from after it (T, rows)."""
        alive = self._rows_of(self.output)
        drawn, kept = (torch.stack(part).cpu().numpy() for part in zip(*self._events(), strict=True))
        tokens = np.zeros((len(drawn), rows, len(self.classes)), np.int16)
        parents = np.tile(np.arange(rows), (len(drawn), 1))
        tokens[:, alive], parents[:, alive] = drawn, alive[kept]
        return tokens, parents

    def _events(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Some events of every row: draw, choose where it is time to, go on; with the rows that were chosen."""
        every = torch.arange(len(self.clock), device=self.device)
        for _ in range(_LOOK_EVERY):
            logits = self.logits if self.keys is None else self.keys.allowed(self.logits)
            uniform, how = self.streams.draw().flatten(0, 1), self.settings
            tokens, likelihood = draw_tokens(logits, uniform, self.classes, how.temperature, how.top_p)
            self.clock += self._passing(tokens)
            if self.keys is not None:
                self.keys.played(tokens)
            rows = every if self.choices is None else self.choices.choose(likelihood, self.clock)
            yield tokens, rows
            if self.choices is not None:
                self._take(rows)
            self.logits, self.state = self.network.step(tokens[rows], self._steered(), self.state)

    def _passing(self, tokens_RK: Tensor) -> Tensor:
        """Steps (R,) that pass at tokens."""
        if len(self.classes) == 1:
            return self.steps[tokens_RK[:, 0]]
        return tuple_shift(tokens_RK)

    def _steered(self) -> Tensor:
        """(R, C) what steers the events that come."""
        return self.steering[self.clock.clamp_max(self.total)]

    def _rows_of(self, outputs: np.ndarray) -> np.ndarray:
        return (outputs[:, None] * self.settings.candidates + np.arange(self.settings.candidates)).ravel()

    def _keep(self, outputs: np.ndarray) -> None:
        """Go on with some of the outputs."""
        rows = torch.from_numpy(self._rows_of(outputs)).to(self.device)
        self._take(rows)
        self.logits = self.logits[rows]
        if self.choices is not None:
            self.choices.keep(torch.from_numpy(outputs).to(self.device))
        self.streams.keep(outputs)
        self.output = self.output[outputs]

    def _take(self, rows: Tensor) -> None:
        """Let each row go on from another one."""
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
