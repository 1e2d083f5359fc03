"""Settings of DExter's model, diffusion and training: plain dataclasses, so that a bare machine with torch can train.

Defaults are the published ones (arXiv 2406.14850). Commands validate them as fields of their pydantic parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from dexter_model.diffusion.config import DiffusionConfig
from dexter_model.notes import CODEC_COLUMNS
from dexter_model.training.config import LoopConfig, Parts, one_of, require, setting

Output = Literal["epsilon", "x_0", "ex_0", "v", "mean"]
PERCEPTUAL_LIMIT = 3.0  # standard deviations of perceptual rows, in training and steering: further is never shown


@dataclass(frozen=True)
class DenoiserConfig:
    """What network, what it sees and what its output means."""

    network: Literal["diffwave", "unet"] = setting("diffwave", "ClassifierFreeDenoiser or DenoiserUnet")
    channels: int = setting(768, "of the U-Net: 48")
    layers: int = setting(12, "of the U-Net: levels, each of twice the channels, 3")
    window: int = setting(200, "N, notes of a window")
    condition: Literal["published", "extended"] = setting("published", "which score rows (condition.py)")
    perceptual: Literal["none", "absolute", "delta"] = setting(
        "none", "7 more rows: as heard, or beside the deadpan score"
    )
    null: Literal["fixed", "trainable"] = setting("fixed", "what stands for a condition that is not known")
    target: Output = setting(  # noqa: RUF009 (an immutable default behind a name)
        "epsilon",
        "what the output is: the noise, the clean codec, the noise judged by the codec it implies, the velocity of "
        "Salimans & Ho (2022), or no denoising at all: the codec straight from the condition, its conditional mean",
    )
    codec_scale: Literal["published", "robust"] = setting("published", "how codecs are made z-scores (data.Statistics)")
    dropout: float = setting(0.0, "of hidden channels, while training")
    dilation_cycle: int = setting(4, "of diffwave: dilations 1, 2, 4, ... of so many layers, then again from 1")

    def __post_init__(self) -> None:
        # A checkpoint's JSON is input from outside: bound what it can make us build.
        require(1 <= self.channels <= 8192, "denoiser.channels", self.channels, "between 1 and 8192")
        require(1 <= self.layers <= 256, "denoiser.layers", self.layers, "between 1 and 256")
        if self.network == "unet":
            require(self.layers <= 4, "denoiser.layers", self.layers, "between 1 and 4 (published U-Net: 3)")
            require(self.channels <= 512, "denoiser.channels", self.channels, "up to 512 (published U-Net: 48)")
        require(1 <= self.window <= 100_000, "denoiser.window", self.window, "between 1 and 100000")
        require(1 <= self.dilation_cycle <= 12, "denoiser.dilation_cycle", self.dilation_cycle, "between 1 and 12")
        require(0.0 <= self.dropout < 1.0, "denoiser.dropout", self.dropout, "in [0, 1)")
        one_of("denoiser.network", self.network, ("diffwave", "unet"))
        one_of("denoiser.condition", self.condition, ("published", "extended"))
        one_of("denoiser.perceptual", self.perceptual, ("none", "absolute", "delta"))
        one_of("denoiser.null", self.null, ("fixed", "trainable"))
        one_of("denoiser.target", self.target, get_args(Output))
        one_of("denoiser.codec_scale", self.codec_scale, ("published", "robust"))


@dataclass(frozen=True)
class TrainingConfig(LoopConfig):
    """The loop's settings and what a batch is and costs."""

    batch_size: int = setting(256, "windows of a step, over all workers together")
    train_target: Literal["gen_noise", "transfer"] = setting(
        "gen_noise", "denoise from noise, or from another performance"
    )
    loss: Literal["l1", "l2", "huber"] = setting("l1", "l1 learns medians, l2 means")
    recon_loss_weight: float = setting(0.2, "weight of the loss on the codec that the output implies")
    column_weights: tuple[float, ...] = setting((1.0, 1.0, 1.0, 1.0, 1.0), "of that term: a number a codec column")
    condition_dropout: float = setting(0.1, "share of windows trained without any condition")
    perceptual_dropout: float = setting(0.3, "share of windows trained without the perceptual rows")
    feature_dropout: float = setting(0.0, "share of single perceptual features unknown where the others are known")
    mixup: float = setting(0.0, "share of windows that are the mean of two performances")
    validation_windows: int = setting(256, "windows of the validation split that the loss is taken on")
    rendered_windows: int = setting(64, "of the validation split, sampled at every validation; with 0 the loss is all")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.validation_windows >= 1, "training.validation_windows", self.validation_windows, "at least 1")
        require(self.rendered_windows >= 0, "training.rendered_windows", self.rendered_windows, "at least 0")
        one_of("training.loss", self.loss, ("l1", "l2", "huber"))
        one_of("training.train_target", self.train_target, ("gen_noise", "transfer"))
        for name in ("condition_dropout", "perceptual_dropout", "feature_dropout", "mixup"):
            require(0.0 <= getattr(self, name) < 1.0, f"training.{name}", getattr(self, name), "in [0, 1)")
        weight, columns = self.recon_loss_weight, self.column_weights
        require(0.0 <= weight < math.inf, "training.recon_loss_weight", weight, "at least 0, finite")
        right = len(columns) == len(CODEC_COLUMNS) and min(columns) >= 0.0 and 0.0 < sum(columns) < math.inf
        require(right, "training.column_weights", columns, f"of {len(CODEC_COLUMNS)} weights, not all 0")


@dataclass(frozen=True)
class ExpressionConfig(Parts):
    """Everything that decides what training makes of a data set."""

    system: ClassVar[str] = "dexter"
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


Config = ExpressionConfig
