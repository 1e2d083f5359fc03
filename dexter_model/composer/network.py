"""The composer's U-Net: the noise in a segment's notes, seen at four scales.

Its convolutions and attention look back alone, but not the network as a whole: Squeeze-Excitation averages over all
notes, and pooling and interpolating mix neighbours. With ``causal`` they do not: means run up to each note, a pooled
note stands for itself and the one before, and finer notes are repeated instead of interpolated. A segment is denoised
at once either way.

Rows (instruments) are alike to convolutions and pooling, which go along the notes. The original would let them meet in
the means and in one attention over all rows' notes, each row hearing those above it; no weight knows of rows. By
default (``exchange`` rows) each row is a sequence of its own that is told its program, and rows attend to each other
after each attention, note by note; rows without notes are heard by none. One row is the same network both ways.

Shapes: B segments, H rows, C channels, W notes at some scale, T = H x W, E the embedding of time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dexter_model.composer.config import PROGRAMS, DataConfig, NetworkConfig
from dexter_model.composer.layers import ConvBlock, RowAttention, SelfAttention, dense
from dexter_model.composer.scale import FEATURES


class Stage(nn.Module):
    """Two blocks at a new scale, and the time of the diffusion added to what they make."""

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig, middle: int | None = None) -> None:
        super().__init__()
        self.broadcast, self.causal = config.time_injection == "broadcast", config.causal
        self.block1 = ConvBlock(inputs, inputs, 5, config.causal, residual=True)
        self.block2 = ConvBlock(inputs, outputs, 5, config.causal, middle=middle)
        self.time = dense(config.time_embedding, outputs)

    def forward(self, x_BHCW: Tensor, time_BE: Tensor) -> Tensor:
        """(B, H, inputs, W) to (B, H, outputs, W)."""
        x_BHCW = self.block2(self.block1(x_BHCW))
        time_BC = self.time(F.silu(time_BE))
        if self.broadcast:
            return x_BHCW + time_BC[:, None, :, None]
        # The original repeats each number over all notes, but reads what that gives as if notes came first.
        batch, rows, channels, notes = x_BHCW.shape
        scrambled = time_BC.repeat_interleave(rows * notes, dim=1).view(batch, rows, notes, channels)
        return x_BHCW + scrambled.transpose(2, 3)


class Down(Stage):
    """A stage at half the notes."""

    def forward(self, x_BHCW: Tensor, time_BE: Tensor) -> Tensor:
        """(B, H, inputs, W) to (B, H, outputs, W / 2)."""
        flat = x_BHCW.flatten(0, 1)
        flat = F.pad(flat, (1, -1), value=-torch.inf) if self.causal else flat
        return super().forward(F.max_pool1d(flat, 2).unflatten(0, x_BHCW.shape[:2]), time_BE)


class Up(Stage):
    """A stage at twice the notes, beside what was there on the way down; it has as many channels."""

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        super().__init__(2 * inputs, outputs, config, middle=inputs)

    def forward(self, x_BHCW: Tensor, time_BE: Tensor, skip_BHCW: Tensor | None = None) -> Tensor:
        """(B, H, inputs, W) and (B, H, inputs, 2 W) to (B, H, outputs, 2 W)."""
        assert skip_BHCW is not None
        flat = x_BHCW.flatten(0, 1)
        mode: dict[str, Any] = {"mode": "nearest"} if self.causal else {"mode": "linear", "align_corners": False}
        finer = F.interpolate(flat, scale_factor=2, **mode).unflatten(0, x_BHCW.shape[:2])
        return super().forward(torch.cat([skip_BHCW, finer], dim=2), time_BE)


def time_embedding(t_B: Tensor, size: int) -> Tensor:
    """(B, size) sines, then cosines, of integer times at geometric frequencies from 1 to 1/10000."""
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(size // 2, device=t_B.device) / (size // 2 - 1))
    angle = t_B[:, None].float() * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def place_encoding(notes: int, channels: int, device: torch.device) -> Tensor:
    """(notes, channels) of Vaswani et al. 2017: sines and cosines of a note's place in turn."""
    channel = torch.arange(channels, device=device)
    place = torch.arange(notes, device=device, dtype=torch.float64)[:, None]
    angle = place / 10_000.0 ** ((channel // 2 * 2).double() / channels)
    return torch.where(channel % 2 == 1, angle.cos(), angle.sin())


class ComposerUnet(nn.Module):
    """Predicts what ``config.target`` says of segments; 12.3 million weights at 64 channels and one row."""

    def __init__(self, network: NetworkConfig, data: DataConfig) -> None:
        super().__init__()
        n, heads, causal = network.channels, network.heads, network.causal
        self.config = network
        self.by_rows = data.rows > 1 and network.exchange == "rows"
        self.input = ConvBlock(len(FEATURES), n, 7, causal)
        self.place = dense(n, n)
        sizes = [(n, 2 * n), (2 * n, 4 * n), (4 * n, 4 * n)]
        self.down = nn.ModuleList(Down(*each, network) for each in sizes)
        self.down_attention = nn.ModuleList(SelfAttention(outputs, heads) for _, outputs in sizes)
        middle = [(4 * n, 8 * n), (8 * n, 8 * n), (8 * n, 4 * n)]
        self.middle = nn.Sequential(*(ConvBlock(*each, 3, causal) for each in middle))
        sizes = [(4 * n, 2 * n), (2 * n, n), (n, n)]
        self.up = nn.ModuleList(Up(*each, network) for each in sizes)
        self.up_attention = nn.ModuleList(SelfAttention(outputs, heads) for _, outputs in sizes)
        self.output = nn.Conv1d(n, len(FEATURES), 1)
        nn.init.xavier_uniform_(self.output.weight)
        self.output.bias = nn.Parameter(torch.zeros(len(FEATURES)))
        if self.by_rows:
            self.program = nn.Embedding(PROGRAMS, n)
            nn.init.normal_(self.program.weight, std=0.02)
            self.down_rows = nn.ModuleList(RowAttention(outputs, heads) for outputs in (2 * n, 4 * n, 4 * n))
            self.up_rows = nn.ModuleList(RowAttention(outputs, heads) for outputs in (2 * n, n, n))

    def forward(self, x_BHN3: Tensor, t_B: Tensor, program_BH: Tensor, active_BH: Tensor) -> Tensor:
        """Prediction (B, H, N, 3) for noisy segments at integer times; of rows without notes it means nothing."""
        batch, rows = x_BHN3.shape[:2]
        x, time_BE = x_BHN3.transpose(2, 3), time_embedding(t_B, self.config.time_embedding).to(x_BHN3)
        if self.by_rows:
            x, time_BE = x.flatten(0, 1)[:, None], time_BE.repeat_interleave(rows, dim=0)
        places = place_encoding(x_BHN3.shape[2], self.config.channels, x.device).to(x_BHN3)
        x = self.input(x) + self.place(places).T
        if self.by_rows:
            x = x + self.program(program_BH).flatten(0, 1)[:, None, :, None]
        heard_BH = active_BH | ~active_BH.any(dim=1, keepdim=True)  # an empty segment hears itself, lest it be NaN
        skips = []
        for index, (stage, attention) in enumerate(zip(self.down, self.down_attention, strict=True)):
            skips.append(x)
            x = attention(stage(x, time_BE))
            x = self._exchanged(self.down_rows[index], x, heard_BH) if self.by_rows else x
        x = self.middle(x)
        for index, (stage, attention) in enumerate(zip(self.up, self.up_attention, strict=True)):
            x = attention(stage(x, time_BE, skips.pop()))
            x = self._exchanged(self.up_rows[index], x, heard_BH) if self.by_rows else x
        output = self.output(x.flatten(0, 1))
        return output.view(batch, rows, len(FEATURES), -1).transpose(2, 3)

    def _exchanged(self, attention: nn.Module, x: Tensor, heard_BH: Tensor) -> Tensor:
        """Rows that are segments of their own (B H, 1, C, W), after they attended to each other."""
        mixed: Tensor = attention(x[:, 0].unflatten(0, heard_BH.shape), heard_BH)
        return mixed.flatten(0, 1)[:, None]
