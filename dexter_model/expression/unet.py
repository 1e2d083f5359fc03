"""DExter's DenoiserUnet: a codec as an image, notes by columns, seen at several scales by a ConvNeXt U-Net.

Two U-Nets of one shape run side by side: the first reads the condition alone, the second the noisy codec, and at each
block the second hears what the first made of the same place. Linear attention at every level and full attention in the
middle let each note see the whole window, where ClassifierFreeDenoiser sees 90 notes around it, with two fifths of its
weights and of its work.

Padding: rows at the end whose codec is zero and whose condition is zero or unknown are no notes (so training and
sampling cut windows). Norms and attention leave them out and convolutions find zeros there, so that a short window
means the same however far it is padded.

Shapes: B windows, N notes, W = 8 width of the image, C channels, R condition rows, E = 512 embedding of the diffusion
step.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dexter_model.expression.condition import NullCondition, condition_rows
from dexter_model.expression.config import DenoiserConfig
from dexter_model.expression.denoiser import FREQUENCIES, STEP_WIDTH, step_embedding
from dexter_model.notes import CODEC_COLUMNS

WIDTH = 8  # the codec's 5 columns and the condition's R rows are mapped to images of this width, halved at each level
EXPANSION = 2
HEADS, HEAD_WIDTH = 4, 32
Guides = Sequence[Tensor | None]


class MaskedNorm(nn.Module):
    """GroupNorm with one group, over the real rows alone; its output is zero on padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCNW: Tensor, mask_B1N1: Tensor) -> Tensor:
        """(B, C, N, W) float32."""
        count = mask_B1N1.sum(dim=(1, 2, 3), keepdim=True) * (x_BCNW.shape[1] * x_BCNW.shape[3])
        x_BCNW = x_BCNW.float() * mask_B1N1
        x_BCNW = (x_BCNW - x_BCNW.sum(dim=(1, 2, 3), keepdim=True) / count) * mask_B1N1
        deviation = (x_BCNW.square().sum(dim=(1, 2, 3), keepdim=True) / count + 1e-5).sqrt()
        return (x_BCNW / deviation * self.weight[:, None, None] + self.bias[:, None, None]) * mask_B1N1


class Block(nn.Module):
    """ConvNeXt block (after Liu et al. 2022): 7 x 7 depthwise, then 3 x 3 to twice the channels and back."""

    def __init__(self, inputs: int, outputs: int, dropout: float, guided: bool) -> None:
        super().__init__()
        hidden = EXPANSION * outputs
        self.depthwise = nn.Conv2d(inputs, inputs, 7, padding=3, groups=inputs)
        if guided:
            self.step = nn.Linear(STEP_WIDTH, inputs)
            self.guide = nn.Conv2d(outputs, inputs, 1)
        self.norm, self.expand = MaskedNorm(inputs), nn.Conv2d(inputs, hidden, 3, padding=1)
        self.hidden_norm, self.reduce = MaskedNorm(hidden), nn.Conv2d(hidden, outputs, 3, padding=1)
        self.dropout = nn.Dropout2d(dropout)
        self.residual = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x_BCNW: Tensor, mask_B1N1: Tensor, guide_BCNW: Tensor | None, step_BE: Tensor | None) -> Tensor:
        """(B, C, N, W), zero on padding."""
        hidden = self.depthwise(x_BCNW)
        if guide_BCNW is not None:
            hidden = hidden + self.guide(guide_BCNW) + self.step(step_BE)[:, :, None, None]
        hidden = F.gelu(self.expand(self.norm(hidden, mask_B1N1)))
        hidden = self.reduce(self.dropout(self.hidden_norm(hidden, mask_B1N1)))
        return (hidden + self.residual(x_BCNW)) * mask_B1N1


class Attention(nn.Module):
    """Attention among all places of an image, added to it: linear (Katharopoulos et al. 2020) or full."""

    def __init__(self, channels: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = MaskedNorm(channels)
        self.inputs = nn.Conv2d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.output = nn.Conv2d(HEADS * HEAD_WIDTH, channels, 1)

    def forward(self, x_BCNW: Tensor, mask_B1N1: Tensor) -> Tensor:
        """(B, C, N, W), zero on padding."""
        batch, _, notes, width = x_BCNW.shape
        heads = self.inputs(self.norm(x_BCNW, mask_B1N1)).reshape(batch, 3, HEADS, HEAD_WIDTH, notes * width)
        query, key, value = heads.transpose(-1, -2).unbind(dim=1)  # (B, heads, places, head width)
        real = mask_B1N1.bool().expand(-1, -1, -1, width).reshape(batch, 1, notes * width, 1)
        if self.linear:
            key = key.masked_fill(~real, -torch.inf).softmax(dim=-2)
            seen = query.softmax(dim=-1) @ (key.transpose(-1, -2) @ value)
        else:
            seen = F.scaled_dot_product_attention(query, key, value, attn_mask=real.transpose(-1, -2))
        image = seen.transpose(-1, -2).reshape(batch, HEADS * HEAD_WIDTH, notes, width)
        return x_BCNW + self.output(image) * mask_B1N1


class Level(nn.Module):
    """What happens at one scale: a block, attention, a block."""

    def __init__(self, inputs: int, outputs: int, dropout: float, guided: bool, linear: bool = True) -> None:
        super().__init__()
        self.first = Block(inputs, outputs, dropout, guided)
        self.attention = Attention(outputs, linear)
        self.second = Block(outputs, outputs, dropout, guided)

    def forward(self, x_BCNW: Tensor, mask_B1N1: Tensor, guides: Guides, step_BE: Tensor | None) -> list[Tensor]:
        """What each of the two blocks made."""
        first = self.first(x_BCNW, mask_B1N1, guides[0], step_BE)
        return [first, self.second(self.attention(first, mask_B1N1), mask_B1N1, guides[1], step_BE)]


class Stream(nn.Module):
    """A U-Net over images of some columns: down level by level, full attention at the bottom, and up again."""

    def __init__(self, columns: int, config: DenoiserConfig, guided: bool) -> None:
        super().__init__()
        sizes, kind = [config.channels * 2**level for level in range(config.layers)], (config.dropout, guided)
        steps = list(itertools.pairwise(sizes))
        self.columns, self.input = nn.Linear(columns, WIDTH), nn.Conv2d(1, sizes[0], 7, padding=3)
        self.down = nn.ModuleList(Level(*each, *kind) for each in [(sizes[0], sizes[0]), *steps])
        self.shrink = nn.ModuleList(nn.Conv2d(fine, fine, 4, stride=2, padding=1) for fine, _ in steps)
        self.middle = Level(sizes[-1], sizes[-1], *kind, linear=False)
        self.up = nn.ModuleList(Level(2 * size, size, *kind) for size in sizes)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1) for fine, coarse in steps)

    def forward(
        self, x_BNF: Tensor, masks: Sequence[Tensor], guides: Guides, step_BE: Tensor | None = None
    ) -> list[Tensor]:
        """What each block makes of rows of F columns, the last one at full size (B, C, N, W).

        Args:
            x_BNF: the rows.
            masks: (B, 1, N, 1) of each level, finest first: 1 on real rows.
            guides: a block: what the same block of another stream made, or None.
            step_BE: embedded diffusion step, with guides.
        """
        made: list[Tensor] = []
        skips = []

        def through(level: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
            made.extend(level(x, mask, guides[len(made) : len(made) + 2], step_BE))
            return made[-1]

        x = self.input(self.columns(x_BNF)[:, None] * masks[0]) * masks[0]
        for level, mask in enumerate(masks):
            x = self.shrink[level - 1](x) * mask if level else x
            x = through(self.down[level], x, mask)
            skips.append(x)
        x = through(self.middle, x, masks[-1])
        for level, mask in reversed(list(enumerate(masks))):
            x = self.grow[level](x) * mask if level < len(masks) - 1 else x
            x = through(self.up[level], torch.cat([x, skips[level]], dim=1), mask)
        return made


class DenoiserUnet(nn.Module):
    """Predicts what ``config.target`` says of a window of z-scored codecs, from condition and step, as its sibling."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        columns = len(CODEC_COLUMNS)
        self.null = NullCondition(config)
        self.step = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, STEP_WIDTH), nn.SiLU(), nn.Linear(STEP_WIDTH, STEP_WIDTH), nn.SiLU()
        )
        self.condition = Stream(condition_rows(config), config, guided=False)
        self.codec = Stream(columns, config, guided=True)
        self.output = nn.Linear(config.channels * WIDTH, columns)
        nn.init.zeros_(self.output.weight)

    def forward(self, x_BN5: Tensor, t_B: Tensor, condition_BNR: Tensor) -> Tensor:
        """Prediction (B, N, 5) for noisy codecs ``x_BN5`` at integer times ``t_B`` (0 .. T-1); NaN is unknown."""
        notes = x_BN5.shape[1]
        masks = self._masks(x_BN5, condition_BNR)
        added = (0, 0, 0, masks[0].shape[2] - notes)  # rows at the end, so that every level halves evenly
        unguided = [None] * (4 * self.config.layers + 2)  # a number a block
        guides = self.condition(F.pad(self.null(condition_BNR), added), masks, unguided)
        image_BCNW = self.codec(F.pad(x_BN5, added), masks, guides, self.step(step_embedding(t_B)))[-1]
        return self.output(image_BCNW.transpose(1, 2).flatten(2))[:, :notes]

    def _masks(self, x_BN5: Tensor, condition_BNR: Tensor) -> list[Tensor]:
        """(B, 1, N, 1) of each level: 1 where any of the rows that a place stands for is a note."""
        known = (condition_BNR != 0) & ~condition_BNR.isnan()
        real_BN = (x_BN5 != 0).any(dim=-1) | known.any(dim=-1)
        real_BN = real_BN.flip(1).float().cummax(dim=1).values.flip(1)  # up to the last row with something in it
        real_BN = torch.where(real_BN[:, :1] > 0, real_BN, 1.0)  # nothing known of a window: all of it is asked for
        coarsest = 2 ** (self.config.layers - 1)
        mask_BN = F.pad(real_BN, (0, -x_BN5.shape[1] % coarsest))
        return [F.max_pool1d(mask_BN, 2**level)[:, None, :, None] for level in range(self.config.layers)]
