"""What the composer's U-Net is built of: convolutions that look back, Squeeze-Excitation, attention.

Shapes: B segments, H rows, C channels, W notes at some scale, T places of a sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SQUEEZED = 16  # Squeeze-Excitation has one of so many channels inside


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each note."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)

    def forward(self, x_BHCW: Tensor) -> Tensor:
        """(B, H, C, W) to the same."""
        return super().forward(x_BHCW.transpose(2, 3)).transpose(2, 3)


class SqueezeExcitation(nn.Module):
    """Scales each channel by what all notes have in it on average (Hu et al. 2018), or those up to each note."""

    def __init__(self, channels: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.squeeze = nn.Linear(channels, channels // SQUEEZED, bias=False)
        self.excite = nn.Linear(channels // SQUEEZED, channels, bias=False)
        for layer in (self.squeeze, self.excite):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x_BHCW: Tensor) -> Tensor:
        """(B, H, C, W) to the same."""
        mean_BWC = x_BHCW.mean(dim=1).transpose(1, 2)
        if self.causal:
            count_W1 = torch.arange(1, mean_BWC.shape[1] + 1, device=x_BHCW.device)[:, None]
            mean_BWC = mean_BWC.cumsum(dim=1) / count_W1
        else:
            mean_BWC = mean_BWC.mean(dim=1, keepdim=True)
        scale_BWC = self.excite(F.relu(self.squeeze(mean_BWC))).sigmoid()
        return x_BHCW * scale_BWC.transpose(1, 2)[:, None]


class CausalConv(nn.Conv1d):
    """Convolution along the notes that sees a note and those before it; rows are as many segments to it."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__(inputs, outputs, width, bias=False)
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x_BHCW: Tensor) -> Tensor:
        """(B, H, C, W) to (B, H, outputs, W)."""
        seen = F.pad(x_BHCW.flatten(0, 1), (self.kernel_size[0] - 1, 0))
        return super().forward(seen).unflatten(0, x_BHCW.shape[:2])


class ConvBlock(nn.Module):
    """Two convolutions, each normalised and scaled."""

    def __init__(
        self, inputs: int, outputs: int, width: int, causal: bool, *, middle: int | None = None, residual: bool = False
    ) -> None:
        super().__init__()
        middle = middle or outputs
        self.residual = residual
        self.conv1, self.conv2 = CausalConv(inputs, middle, width), CausalConv(middle, outputs, width)
        self.norm1, self.norm2 = ChannelNorm(middle), ChannelNorm(outputs)
        self.scale1, self.scale2 = SqueezeExcitation(middle, causal), SqueezeExcitation(outputs, causal)

    def forward(self, x_BHCW: Tensor) -> Tensor:
        """(B, H, inputs, W) to (B, H, outputs, W)."""
        hidden = self.scale1(F.gelu(self.norm1(self.conv1(x_BHCW))))
        hidden = self.scale2(self.norm2(self.conv2(hidden)))
        return F.gelu(x_BHCW + hidden) if self.residual else hidden


class Attention(nn.Module):
    """A transformer's block over sequences: attention of heads that are each as wide as all channels, two layers."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (dense(channels, heads * channels) for _ in range(3))
        self.output = dense(heads * channels, channels)
        self.norm1, self.norm2 = (nn.LayerNorm(channels, eps=1e-3) for _ in range(2))
        self.dense1, self.dense2 = dense(channels, channels), dense(channels, channels)

    def forward(self, x_BTC: Tensor, heard_BT: Tensor | None = None) -> Tensor:
        """(B, T, C) to the same. Each place hears itself and those before it, or all that ``heard_BT`` names."""
        normal = self.norm1(x_BTC)
        split = (each(normal).unflatten(2, (self.heads, -1)) for each in (self.query, self.key, self.value))
        query, key, value = (each.transpose(1, 2) for each in split)  # (B, heads, T, C)
        mask = None if heard_BT is None else heard_BT[:, None, None, :]
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        x_BTC = x_BTC + self.output(seen.transpose(1, 2).flatten(2))
        return x_BTC + self.dense2(F.gelu(self.dense1(self.norm2(x_BTC))))


class SelfAttention(Attention):
    """Attention among the notes of all rows, laid end to end."""

    def forward(self, x_BHCW: Tensor, heard_BT: Tensor | None = None) -> Tensor:
        """(B, H, C, W) to the same."""
        sequence = x_BHCW.transpose(2, 3).flatten(1, 2)
        return super().forward(sequence).unflatten(1, (x_BHCW.shape[1], -1)).transpose(2, 3)


class RowAttention(Attention):
    """Attention among rows at each note; at first it adds nothing."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads)
        for layer in (self.output, self.dense2):
            nn.init.zeros_(layer.weight)

    def forward(self, x_BHCW: Tensor, heard_BT: Tensor | None = None) -> Tensor:
        """(B, H, C, W) to the same; ``heard_BT`` (B, H): rows with notes."""
        assert heard_BT is not None
        notes = x_BHCW.shape[3]
        sequence = x_BHCW.permute(0, 3, 1, 2).flatten(0, 1)  # (B W, H, C)
        mixed = super().forward(sequence, heard_BT.repeat_interleave(notes, dim=0))
        return mixed.unflatten(0, (-1, notes)).permute(0, 2, 3, 1)


def dense(inputs: int, outputs: int) -> nn.Linear:
    """A layer with the original's first weights."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
