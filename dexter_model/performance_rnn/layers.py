"""Layers of the network: LSTM cells, alone, attending to their past, or with their input added to their output.

Weights are kept as the original keeps them: a layer's kernel is (inputs + cells, 4 cells), its gates in the order
input, candidate, forget, output, and 1 is added to the forget gate when it is used. So gradients are clipped tensor by
tensor as they were, and published weights fit by their names.

Every layer has ``initial``, ``step`` (one token, for generation) and ``forward`` (whole sequences, for training).

Shapes: B sequences or rows, T tokens, I inputs, H cells, G gates (4 H), A attended outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        c, h = state
        gates = torch.addmm(self.bias, torch.cat([x_BI.to(h.dtype), h], dim=-1), self.kernel)
        return _activated(gates.to(c.dtype), c, h.dtype)

    def driven(self, driven_BG: Tensor, state: State) -> tuple[Tensor, State]:
        """One step from what the input adds to the gates, (B, 4 H)."""
        c, h = state
        gates = torch.addmm(self.bias, h, self.kernel[self.inputs :]) + driven_BG
        return _activated(gates.to(c.dtype), c, h.dtype)

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


def _activated(gates_BG: Tensor, c_BH: Tensor, kind: torch.dtype) -> tuple[Tensor, State]:
    i, j, f, o = gates_BG.chunk(4, dim=-1)
    c_BH = c_BH * torch.sigmoid(f + FORGET_BIAS) + torch.sigmoid(i) * _tanh(j)
    h_BH = (_tanh(c_BH) * torch.sigmoid(o)).to(kind)
    return h_BH, (c_BH, h_BH)


def _tanh(x: Tensor) -> Tensor:
    return 2.0 * torch.sigmoid(2.0 * x) - 1.0  # torch.tanh takes four times as long on a CPU


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


def build_layer(inputs: int, cells: int, attended: int, residual: bool, first: bool) -> Layer:
    """A layer of the kind that settings ask for; ``attended`` outputs are attended to, 0 for none."""
    project = Dense(inputs, cells) if residual and (first or inputs != cells) else nn.Identity()
    width = cells if residual else inputs
    layer = AttentionLayer(width, cells, attended) if attended else LstmLayer(width, cells)
    return ResidualLayer(layer, project) if residual else layer
