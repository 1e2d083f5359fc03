"""The network: LSTM layers over tokens and controls, then the logits of the next token.

Two ways lead through it: ``forward`` over whole sequences with torch's fused LSTM, and ``step`` a token at a time,
which gathers rows of the first kernel instead of multiplying it. (Fused kernels want vectors: ``forward`` gathers a
token's row of the table, an eighth of all its work; a first layer that gathers would have to be a loop over time.)

Shapes: B sequences or rows, T tokens, K numbers of a token, C controls.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.performance_rnn.encodings import heads, token_table
from dexter_model.performance_rnn.layers import Dense, Layer, LstmLayer, State, build_layer


class PerformanceRnn(nn.Module):
    """Logits of the next token from the last ones and from what steers the next."""

    table: Tensor
    first: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        table = token_table(config)
        first = np.cumsum([0, *heads(config)[:-1]])
        self.register_buffer("table", torch.from_numpy(table).to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("first", torch.from_numpy(first), persistent=False)  # row of each number's value 0
        widths = [config.controls + table.shape[1], *config.layers]
        self.layers = nn.ModuleList(
            build_layer(inputs, cells, config.attention if index == 0 else 0, config.residual, index == 0)
            for index, (inputs, cells) in enumerate(zip(widths[:-1], config.layers, strict=True))
        )
        self.head = Dense(config.layers[-1], sum(heads(config)))

    def forward(self, tokens_BTK: Tensor, controls_BTC: Tensor) -> Tensor:
        """(B, T, sum of heads) logits of the tokens that follow, from the beginning of sequences."""
        x = torch.cat([controls_BTC.to(self.table.dtype), self.table[tokens_BTK + self.first].sum(dim=-2)], dim=-1)
        for layer in self._stack():
            x = functional.dropout(layer(x), 1.0 - self.config.keep, self.training)
        logits: Tensor = self.head(x)
        return logits

    def initial(self, rows: int) -> list[State]:
        """The state of every layer before the first token."""
        return [layer.initial(rows) for layer in self._stack()]

    def step(self, tokens_BK: Tensor, controls_BC: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """(B, sum of heads) logits of the tokens that follow these, and the state after them; without dropout."""
        first, *others = self._stack()
        if isinstance(first, LstmLayer):
            x, after = first.driven(self._driven(first, tokens_BK, controls_BC), state[0])
        else:
            inputs = torch.cat([controls_BC, self.table[tokens_BK + self.first].sum(dim=-2)], dim=-1)
            x, after = first.step(inputs, state[0])
        states = [after]
        for layer, before in zip(others, state[1:], strict=True):
            x, after = layer.step(x, before)
            states.append(after)
        return self.head(x.to(self.head.weights.dtype)), states

    def _stack(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def _driven(self, first: LstmLayer, tokens_BK: Tensor, controls_BC: Tensor) -> Tensor:
        """What tokens and controls add to the first layer's gates: rows of its kernel."""
        controls, kind = self.config.controls, first.kernel.dtype
        rows = first.kernel[controls : first.inputs]
        if self.config.encoding == "modulo":
            driven = self.table[tokens_BK[:, 0]].to(kind) @ rows
        else:
            one, *others = (rows[number_B] for number_B in (tokens_BK + self.first).unbind(dim=1))
            driven = sum(others, start=one)
        return torch.addmm(driven, controls_BC.to(kind), first.kernel[:controls]) if controls else driven


def in_bfloat16(network: PerformanceRnn) -> PerformanceRnn:
    """Set LSTM layers to bfloat16, in place, to be run a token at a time; their cells and the logits stay float32.

    Four times as fast for a batch on a CPU that multiplies in bfloat16. Layers that attend or add stay as they are.
    """
    for layer in network.layers:
        if isinstance(layer, LstmLayer):
            layer.to(torch.bfloat16)
    return network


def initial_network(config: NetworkConfig, seed: int) -> PerformanceRnn:
    """The network that training starts from; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PerformanceRnn(config)
