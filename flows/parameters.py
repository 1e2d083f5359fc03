"""What each flow can be told: the forms of Prefect's UI, the YAML files in configs/ and the options of the commands."""

from __future__ import annotations

import os
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dexter_model.expression.config import DenoiserConfig, DiffusionConfig, ExpressionConfig, TrainingConfig

OUT = "dexter-out"
CPUS = os.cpu_count() or 1


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BuildParameters(_Parameters):
    """A data set version from corpora."""

    corpora: list[str] = Field(["DEMO"], min_length=1, description="corpora named by `dexter corpora list`")
    datasets_root: str | None = Field(None, description="folder of the corpora; default DEXTER_DATASETS_ROOT")
    data_root: str | None = Field(None, description="folder of the FOLDER corpus; default DEXTER_DATA_ROOT")
    store: str = Field(f"{OUT}/dataset", description="the data set: a folder or s3://bucket/prefix")
    workers: int = Field(CPUS, ge=0, description="Ray actors; 0 works in this process")
    retry_quarantined: bool = Field(False, description="try pieces again that an earlier build refused")
    verify: bool = Field(False, description="read every file instead of trusting size and modification time")


class TrainParameters(_Parameters):
    """A model trained on a data set."""

    store: str = Field(f"{OUT}/dataset", description="the data set: a folder or s3://bucket/prefix")
    version: str | None = Field(None, description="a version of it; default the newest")
    out: str = Field(f"{OUT}/model", description="folder for checkpoints and TensorBoard event files")
    workers: int = Field(1, ge=1, description="Ray Train workers, one a GPU where there are GPUs")
    label: str = Field("trained", description="what reports call the model")
    denoiser: DenoiserConfig = DenoiserConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()

    def expression(self) -> ExpressionConfig:
        """The part that decides what training makes of a data set."""
        return ExpressionConfig(self.denoiser, self.diffusion, self.training)


class RenderParameters(_Parameters):
    """Performances rendered from scores, or from the pieces of a data set's split."""

    scores: list[str] = Field([], description="score files or folders of them; empty renders a split of the store")
    store: str | None = Field(None, description="data set whose split is rendered when no scores are named")
    version: str | None = Field(None, description="a version of it; default the newest")
    split: Literal["train", "validation", "test"] = Field("test", description="which split")
    paired: bool = Field(False, description="only pieces with two or more human performances")
    out: str = Field(f"{OUT}/renders", description="folder for MIDI and codec files")
    checkpoint: str | None = Field(None, description="a checkpoint folder; default the model that ships, labelled demo")
    steps: int = Field(20, ge=1, le=1000, description="sampling steps")
    guidance: float = Field(1.2, ge=0, description="guidance scale of the score condition")
    samples: int = Field(1, ge=1, description="performances a score")
    seed: int = Field(13, ge=0)
    batch_size: int = Field(16, ge=1, description="windows denoised together")
    workers: int | None = Field(None, ge=0, description="Ray actors; 0 works in this process; default by the work")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.scores) == (self.store is not None):
            raise ValueError("name scores to render, or a store, and not both")
        return self


class EvaluateParameters(_Parameters):
    """Renders measured against every human performance of their pieces."""

    store: str = Field(f"{OUT}/dataset", description="the data set the renders were made from")
    version: str | None = Field(None, description="a version of it; default the newest")
    renders: list[str] = Field([f"{OUT}/renders"], min_length=1, description="folders written by `dexter render`")
    out: str = Field(f"{OUT}/evaluation", description="folder for the tables")
    workers: int | None = Field(None, ge=0, description="Ray actors; 0 works in this process; default by the work")


class JobParameters(_Parameters):
    """The main job: corpora, data set, model, renders, evaluation, report, all under one folder."""

    out: str = Field(OUT, description="folder of everything the job writes")
    build: BuildParameters
    train: TrainParameters
    render: RenderParameters
    evaluate: EvaluateParameters

    @model_validator(mode="before")
    @classmethod
    def _paths_follow_out(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Stages read what the stage before wrote, unless they are told otherwise."""
        out = values.get("out", OUT)
        store = (values.get("build") or {}).get("store", f"{out}/dataset")
        model, renders = f"{out}/model", f"{out}/renders"
        paths: dict[str, dict[str, Any]] = {
            "build": {"store": store},
            "train": {"store": store, "out": model},
            "render": {"store": store, "out": renders},
            "evaluate": {"store": store, "renders": [renders], "out": f"{out}/evaluation"},
        }
        return {"out": out, **{stage: {**given, **(values.get(stage) or {})} for stage, given in paths.items()}} | {
            key: value for key, value in values.items() if key not in {"out", *paths}
        }
