"""DExter's ClassifierFreeDenoiser: dilated, gated convolutions along the notes (after DiffWave, Kong et al. 2021).

Twelve layers see 90 notes around each, at full resolution, with the score added at every layer: simple, fast on short
sequences, and indifferent to the window's length. With a dilation cycle of six they see 126 to either side, so that the
notes of a window agree about the tempo in few steps.

Rows of the condition that are NaN are not known; the network puts its null condition there (``condition.py``).

Shapes: B windows, N notes, R condition rows, C channels, E = 512 embedding of the diffusion step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dexter_model.expression.condition import NullCondition, condition_rows
from dexter_model.expression.config import DenoiserConfig
from dexter_model.notes import CODEC_COLUMNS

FREQUENCIES = 64
STEP_WIDTH = 512


class ResidualBlock(nn.Module):
    """One gated dilated convolution with the score and the diffusion step added in; returns residual and skip."""

    def __init__(self, channels: int, rows: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.step = nn.Linear(STEP_WIDTH, channels)
        self.dilated = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.condition = nn.Conv1d(rows, 2 * channels, 1)
        self.output = nn.Conv1d(channels, 2 * channels, 1)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x_BCN: Tensor, step_BE: Tensor, condition_BRN: Tensor) -> tuple[Tensor, Tensor]:
        """Both returns are (B, C, N)."""
        shifted = x_BCN + self.step(step_BE)[:, :, None]
        gate, content = (self.dilated(shifted) + self.condition(condition_BRN)).chunk(2, dim=1)
        hidden = self.dropout(torch.sigmoid(gate) * torch.tanh(content))
        residual, skip = self.output(hidden).chunk(2, dim=1)
        return (x_BCN + residual) / math.sqrt(2.0), skip


class ClassifierFreeDenoiser(nn.Module):
    """Predicts the noise in a window of z-scored codecs (or the clean codec: ``config.target``) from score and step."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        width, channels, rows = len(CODEC_COLUMNS), config.channels, condition_rows(config)
        self.null = NullCondition(config)
        self.input = nn.Conv1d(width, channels, 1)
        self.step = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, STEP_WIDTH), nn.SiLU(), nn.Linear(STEP_WIDTH, STEP_WIDTH), nn.SiLU()
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, rows, 2 ** (layer % config.dilation_cycle), config.dropout)
            for layer in range(config.layers)
        )
        self.skip = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv1d(channels, width, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.output.weight)

    def forward(self, x_BN5: Tensor, t_B: Tensor, condition_BNR: Tensor) -> Tensor:
        """Prediction (B, N, 5) for noisy codecs ``x_BN5`` at integer times ``t_B`` (0 .. T-1)."""
        x_BCN = F.relu(self.input(x_BN5.transpose(1, 2)))
        step_BE = self.step(step_embedding(t_B))
        condition_BRN = self.null(condition_BNR).transpose(1, 2)
        skips = torch.zeros_like(x_BCN)
        for block in self.blocks:
            x_BCN, skip = block(x_BCN, step_BE, condition_BRN)
            skips = skips + skip
        hidden = F.relu(self.skip(skips / math.sqrt(len(self.blocks))))
        return self.output(hidden).transpose(1, 2)


def build_denoiser(config: DenoiserConfig) -> nn.Module:
    """The network of some settings, with fresh weights."""
    if config.network == "unet":
        from dexter_model.expression.unet import DenoiserUnet

        return DenoiserUnet(config)
    return ClassifierFreeDenoiser(config)


def step_embedding(t_B: Tensor) -> Tensor:
    """(B, 128): sin and cos of t at 64 log-spaced frequencies, 1 to 10^4; angles in float64, for they reach 10^7."""
    exponents = torch.arange(FREQUENCIES, dtype=torch.float64, device=t_B.device) * (4.0 / (FREQUENCIES - 1))
    angles = t_B.double()[:, None] * 10.0**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
