"""The network: LSTM layers over tokens and controls, then the logits of the next token.

Weights are kept as the original keeps them: a layer's kernel is (inputs + cells, 4 cells), its gates in the order
input, candidate, forget, output, and 1 is added to the forget gate when it is used. So gradients are clipped tensor by
tensor as they were, and published weights fit by their names.

Two ways lead through it: ``forward`` over whole sequences with torch's fused LSTM, and ``step`` a token at a time,
which gathers rows of the first kernel instead of multiplying it. (Fused kernels want vectors: ``forward`` gathers a
token's row of the table, an eighth of all its work; a first layer that gathers would have to be a loop over time.)

Shapes: B sequences or rows, T tokens, K numbers of a token, C controls, I inputs, H cells, A attended outputs.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.performance_rnn.encodings import heads, token_table

FORGET_BIAS = 1.0
State = tuple[Tensor, ...]  # of a layer: c and h (B, H), and what it attends with


class Dense(nn.Module):
    """A linear map with weights (inputs, outputs), Glorot-uniform at first, and a bias of zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, outputs)))
        self.biases = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return x @ self.weights + self.biases


class LstmLayer(nn.Module):
    """LSTM cells (Hochreiter & Schmidhuber 1997) with a bias on the forget gate."""

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.inputs, self.cells = inputs, cells
        self.kernel = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs + cells, 4 * cells)))
        self.bias = nn.Parameter(torch.zeros(4 * cells))

    def initial(self, rows: int) -> State:
        """Zeros; c is float32 at least."""
        zeros = self.kernel.new_zeros(rows, self.cells)
        return zeros.to(torch.promote_types(zeros.dtype, torch.float32)), zeros

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: what the cells put out, and their new state."""
        return self.activated(x_BI.to(self.kernel.dtype) @ self.kernel[: self.inputs], state)

    def activated(self, driven_BG: Tensor, state: State) -> tuple[Tensor, State]:
        """One step from what the input adds to the gates, (B, 4 H)."""
        c, h = state
        gates = torch.addmm(self.bias, h, self.kernel[self.inputs :]) + driven_BG
        i, j, f, o = gates.to(c.dtype).chunk(4, dim=-1)
        c = c * torch.sigmoid(f + FORGET_BIAS) + torch.sigmoid(i) * torch.tanh(j)
        h = (torch.tanh(c) * torch.sigmoid(o)).to(h.dtype)
        return h, (c, h)

    def forward(self, x_BTI: Tensor) -> Tensor:
        """(B, T, H) outputs from a state of zeros."""
        zeros = self.kernel.new_zeros(1, len(x_BTI), self.cells)
        y, *_ = torch.lstm(x_BTI, (zeros, zeros), self._torchs(), True, 1, 0.0, self.training, False, True)
        return y

    def _torchs(self) -> list[Tensor]:
        """Weights as torch wants them: (4 H, rows), gates in the order input, forget, candidate, output, two biases.

        They lie side by side in one piece of memory, or cuDNN would copy them there and complain.
        """
        i, j, f, o = torch.cat([self.kernel, self.bias[None]]).chunk(4, dim=1)
        inputs, hidden, bias = torch.cat([i, f, j, o], dim=1).split([self.inputs, self.cells, 1])
        forget = functional.pad(bias.new_full((self.cells,), FORGET_BIAS), (self.cells, 2 * self.cells))
        parts = [inputs.T, hidden.T, bias[0] + forget, torch.zeros_like(bias[0])]
        flat = torch.cat([part.flatten() for part in parts])
        pieces = flat.split([part.numel() for part in parts])
        return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


class AttentionLayer(nn.Module):
    """An LSTM layer that attends to its own last outputs (Bahdanau et al. 2015, over the past)."""

    def __init__(self, inputs: int, cells: int, attended: int) -> None:
        super().__init__()
        self.cells, self.attended = cells, attended
        self.lstm = LstmLayer(inputs, cells)
        self.joined = Dense(inputs + cells, inputs)
        self.query = Dense(2 * cells, cells)
        self.keys = nn.Parameter(nn.init.xavier_uniform_(torch.empty(cells, cells)))
        self.scores = nn.Parameter(nn.init.xavier_uniform_(torch.empty(cells, 1)))
        self.output = Dense(2 * cells, cells)

    def initial(self, rows: int) -> State:
        """Zeros: of the cells, what was attended to, the last outputs (B, A, H)."""
        zeros = self.keys.new_zeros
        return (*self.lstm.initial(rows), zeros(rows, self.cells), zeros(rows, self.attended, self.cells))

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: the output, and the new state."""
        *cells, attention, past_BAH = state
        h, (c, h) = self.lstm.step(self.joined(torch.cat([x_BI, attention], dim=-1)), tuple(cells))
        query = self.query(torch.cat([c, h], dim=-1))
        weight_BA1 = (torch.tanh(past_BAH @ self.keys + query[:, None]) @ self.scores).softmax(dim=1)
        attention = (weight_BA1 * past_BAH).sum(dim=1)
        y = self.output(torch.cat([h, attention], dim=-1))
        return y, (c, h, attention, torch.cat([past_BAH[:, 1:], y[:, None]], dim=1))

    def forward(self, x_BTI: Tensor) -> Tensor:
        """(B, T, H) outputs from a state of zeros, a step at a time: each depends on the outputs before."""
        state, outputs = self.initial(len(x_BTI)), []
        for x_BI in x_BTI.unbind(dim=1):
            y, state = self.step(x_BI, state)
            outputs.append(y)
        return torch.stack(outputs, dim=1)


class ResidualLayer(nn.Module):
    """A layer with its input added to its output, brought to its width first where that differs."""

    def __init__(self, layer: LstmLayer | AttentionLayer, project: nn.Module) -> None:
        super().__init__()
        self.layer, self.project = layer, project

    def initial(self, rows: int) -> State:
        """Zeros."""
        return self.layer.initial(rows)

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: the output, and the new state."""
        x = self.project(x_BI)
        y, state = self.layer.step(x, state)
        return x + y, state

    def forward(self, x_BTI: Tensor) -> Tensor:
        """(B, T, H) outputs from a state of zeros."""
        x = self.project(x_BTI)
        return x + self.layer(x)


Layer = LstmLayer | AttentionLayer | ResidualLayer


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
            _layer(inputs, cells, config.attention if index == 0 else 0, config.residual, index == 0)
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
            x, after = first.activated(self._driven(first, tokens_BK, controls_BC), state[0])
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
            driven = rows[tokens_BK + self.first].sum(dim=1)
        return torch.addmm(driven, controls_BC.to(kind), first.kernel[:controls]) if controls else driven


def _layer(inputs: int, cells: int, attended: int, residual: bool, first: bool) -> Layer:
    project = Dense(inputs, cells) if residual and (first or inputs != cells) else nn.Identity()
    width = cells if residual else inputs
    layer = AttentionLayer(width, cells, attended) if attended else LstmLayer(width, cells)
    return ResidualLayer(layer, project) if residual else layer


def in_bfloat16(network: PerformanceRnn) -> PerformanceRnn:
    """The same with LSTM layers in bfloat16, to be run a token at a time; their cells and the logits stay float32.

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
