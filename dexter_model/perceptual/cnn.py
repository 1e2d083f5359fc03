"""The mid-level network: what listeners would say of 15 s of sound, by a receptive-field-regularised residual network.

The architecture of Chowdhury & Widmer (ICASSP 2021) with the names of its published checkpoints, so that they load;
none is shipped here. Every convolution of a block sees one channel more, a ramp over frequency. The checkpoints' head
for telling domains apart served their training alone: its names are checked, its numbers are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from dexter_model.digests import file_digest
from dexter_model.errors import InputError
from dexter_model.notes import PERCEPTUAL_FEATURES

FEATURES = len(PERCEPTUAL_FEATURES)
POOLED_HEAD = "concepts_layer.2.weight"
DOMAIN_HEAD = {
    "discriminator.0.weight": (50, 512),
    "discriminator.0.bias": (50,),
    "discriminator.2.weight": (20, 50),
    "discriminator.2.bias": (20,),
    "discriminator.4.weight": (1, 20),
    "discriminator.4.bias": (1,),
}
MAX_BYTES = 64 << 20  # of a checkpoint; the published ones have 9 MB


class Block(nn.Module):
    """A residual block of two convolutions, each of which also sees the frequency ramp."""

    def __init__(self, channels: int, wider: int, first: int, second: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels + 1, wider, first, padding=first // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider + 1, wider, second, padding=second // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(wider)
        self.shortcut = nn.Sequential()
        if channels != wider:
            self.shortcut.add_module("conv", nn.Conv2d(channels, wider, 1, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(wider))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) to (B, C', F, T)."""
        y = functional.relu(self.bn1(self.conv1(_with_ramp(x))))
        return functional.relu(self.bn2(self.conv2(_with_ramp(y))) + self.shortcut(x))


class MidLevelNetwork(nn.Module):
    """Spectrograms (B, 1, 149, T) to features (B, 7); 2,220,174 weights, a receptive field of 95 x 95.

    Args:
        pooled_first: whether the head is a linear layer after the mean over time and frequency, as in the checkpoint
            that went on to emotions, instead of a convolution with batch normalisation before it.
    """

    def __init__(self, pooled_first: bool = False) -> None:
        super().__init__()
        self.in_c = nn.Sequential(nn.Conv2d(1, 128, 5, stride=2, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        self.stage1 = nn.Sequential()
        self.stage1.add_module("block1", Block(128, 128, 3, 1))
        self.stage1.add_module("pool1", nn.MaxPool2d(2))
        self.stage1.add_module("block2", Block(128, 128, 3, 3))
        self.stage1.add_module("pool2", nn.MaxPool2d(2))
        self.stage1.add_module("block3", Block(128, 128, 3, 3))
        self.stage2 = nn.Sequential()
        self.stage2.add_module("block1", Block(128, 256, 3, 3))
        self.stage3 = nn.Sequential()
        self.stage3.add_module("block1", Block(256, 512, 1, 1))
        mean = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if pooled_first:
            self.concepts_layer = nn.Sequential(*mean, nn.Linear(512, FEATURES, bias=False))
        else:
            convolution = nn.Conv2d(512, FEATURES, 1, bias=False)
            self.feed_forward = nn.Sequential(convolution, nn.BatchNorm2d(FEATURES), *mean)
        self.head = "concepts_layer" if pooled_first else "feed_forward"
        self.apply(_initialise)

    def embedding(self, spectrograms: Tensor) -> Tensor:
        """(B, 1, 149, T) to (B, 512, 18, T / 8)."""
        return self.stage3(self.stage2(self.stage1(self.in_c(spectrograms))))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """(B, 1, 149, T) to (B, 7), columns as ``PERCEPTUAL_FEATURES``, on the scale of the training's labels."""
        return self.get_submodule(self.head)(self.embedding(spectrograms))


def load_network(checkpoint: str | Path) -> tuple[MidLevelNetwork, str]:
    """The network of a checkpoint, ready to listen, and the checkpoint's sha-256.

    Args:
        checkpoint: safetensors, or weights written by torch (read as data, no code of the file is run). Names may begin
            with ``module.``, the domain head may be there or not; of one for emotions the seven concepts count.

    Raises:
        InputError: ``checkpoint_unreadable``, also when a name or a shape is not the network's.
    """
    try:
        if Path(checkpoint).stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        state = _named_as_here(_read(Path(checkpoint)))
        network = MidLevelNetwork(pooled_first=POOLED_HEAD in state)
        _check(state, {name: tuple(weight.shape) for name, weight in network.state_dict().items()})
        network.load_state_dict(state)
        return network.eval(), file_digest(checkpoint)
    except Exception as error:  # damaged files raise all sorts of errors
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition("\n")[0]
        remedy = "Give the weights of the published mid-level network"
        raise InputError(checkpoint, reason or repr(error), remedy, "checkpoint_unreadable") from error


def _read(checkpoint: Path) -> dict[str, Tensor]:
    if checkpoint.suffix == ".safetensors":
        state: Any = safetensors.torch.load_file(checkpoint)
    else:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(weight, Tensor) for weight in state.values()):
        raise ValueError("it is no table of weights by name")
    return {str(name): weight for name, weight in state.items()}


def _named_as_here(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the prefix of a parallel training and without heads that are not needed, checked before."""
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): weight for name, weight in state.items()}
    dropped = DOMAIN_HEAD if any(name.startswith("discriminator.") for name in state) else {}
    if POOLED_HEAD in state:
        emotions = state.get("feed_forward.weight", torch.zeros(0)).shape[:1]
        dropped = {**dropped, "feed_forward.weight": (*emotions, FEATURES)}
    _check({name: weight for name, weight in state.items() if name in dropped}, dropped)
    return {name: weight for name, weight in state.items() if name not in dropped}


def _check(state: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Names, shapes and numbers are exactly those of the network."""
    for name in sorted(state.keys() ^ shapes.keys()):
        raise ValueError(f"the weight {name} {'is not known' if name in state else 'is missing'}")
    for name, weight in state.items():
        if tuple(weight.shape) != tuple(shapes[name]):
            raise ValueError(f"the weight {name} has the shape {tuple(weight.shape)}, not {tuple(shapes[name])}")
        if not torch.isfinite(weight).all():
            raise ValueError(f"the weight {name} holds values that are no numbers")


def _with_ramp(x: Tensor) -> Tensor:
    """One channel more (B, C + 1, F, T), constant in time: row i of F is 2 i / F - 1."""
    rows = x.shape[2]
    ramp = torch.arange(rows, device=x.device, dtype=x.dtype) * 2 / rows - 1
    return torch.cat([x, ramp[:, None].expand(len(x), 1, rows, x.shape[3])], dim=1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
