"""What each flow can be told: the forms of Prefect's UI, the YAML files in configs/ and the options of the commands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dexter_model.composer import config as composer
from dexter_model.composer.plan import Composing
from dexter_model.errors import InputError
from dexter_model.expression.config import DenoiserConfig, DiffusionConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.plan import Sampler, Sampling
from dexter_model.metrics.generated_regression import GeneratedTolerance
from dexter_model.metrics.tolerance import Tolerance
from dexter_model.performance_rnn import config as rnn
from dexter_model.performance_rnn.settings import GenerationSettings
from dexter_model.places import is_url
from dexter_model.training.resuming import Config

OUT = "dexter-out"


def _place(path: str) -> str:
    try:
        is_url(path)
    except InputError as error:
        raise ValueError(str(error)) from None
    return path.rstrip("/") or path


Place = Annotated[str, AfterValidator(_place)]
Workers = Annotated[int | None, Field(ge=0, description="Ray actors; 0 works in this process; default by the work")]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EncodeParameters(_Parameters):
    """Codec files of one performance, or of a corpus."""

    performance: str | None = Field(None, description="a match file, or a MIDI file with its alignment")
    score: str | None = Field(None, description="its score")
    alignment: str | None = Field(None, description="its note_alignment.tsv or match file")
    corpus: str | None = Field(None, description="a corpus named by `dexter corpora list`, instead of one performance")
    datasets_root: str | None = Field(None, description="folder of the corpora; default DEXTER_DATASETS_ROOT")
    data_root: str | None = Field(None, description="folder of the corpora FOLDER and MIDI; default DEXTER_DATA_ROOT")
    out: Place = Field("codec.npz", description="the file to write; of a corpus, a folder")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.corpus is None) == (self.performance is None):
            raise ValueError("it needs a performance or --corpus, one of the two")
        if self.performance is not None and self.score is None:
            raise ValueError("the performance was given without its score: add --score SCORE")
        return self


class BuildParameters(_Parameters):
    """A data set version from corpora."""

    corpora: list[str] = Field(["DEMO"], min_length=1, description="corpora named by `dexter corpora list`")
    datasets_root: str | None = Field(None, description="folder of the corpora; default DEXTER_DATASETS_ROOT")
    data_root: str | None = Field(None, description="folder of the corpora FOLDER and MIDI; default DEXTER_DATA_ROOT")
    store: str = Field(f"{OUT}/dataset", description="the data set: a folder or s3://bucket/prefix")
    encoding: Literal["codec", "notes", "composer"] = Field(
        "codec",
        description="codec: performances over their scores' notes (DExter); notes: performances by themselves "
        "(generators); composer: the same as the original of Diffusion Music Composer reads them",
    )
    perceptual: str = Field(
        "estimate",
        pattern=r"^(csv|estimate|none|cnn:.+)$",
        description="where perceptual features come from: csv (the corpus's own, the estimate where it has none), "
        "estimate, cnn:CHECKPOINT or none",
    )
    robust_alignments_only: bool = Field(False, description="refuse alignments that ASAP's books do not call robust")
    workers: Workers = None
    retry_quarantined: bool = Field(False, description="try pieces again that an earlier build refused")
    verify: bool = Field(False, description="read every file instead of trusting size and modification time")


class _Training(_Parameters, ABC):
    """What training any system takes."""

    store: str = Field(f"{OUT}/dataset", description="the data set: a folder or s3://bucket/prefix")
    version: str | None = Field(None, description="a version of it; default the newest")
    out: Place = Field(f"{OUT}/model", description="folder for checkpoints and TensorBoard event files")
    workers: int = Field(1, ge=1, description="Ray Train workers that share a batch")
    gpus: bool | None = Field(
        None,
        description="whether each worker takes a GPU, and waits for one that an autoscaler is to add; default if the "
        "cluster has GPUs at the start",
    )
    label: str = Field("trained", description="what reports call the model")

    @abstractmethod
    def config(self) -> Config:
        """The part that decides what training makes of a data set."""


class TrainParameters(_Training):
    """DExter, trained on performance codecs."""

    system: Literal["dexter"] = Field("dexter", description="what is trained")
    denoiser: DenoiserConfig = Field(DenoiserConfig(), description="the network, and what it sees and says")
    diffusion: DiffusionConfig = Field(DiffusionConfig(), description="the noise schedule")
    training: TrainingConfig = Field(TrainingConfig(), description="how the weights are fitted")

    def config(self) -> ExpressionConfig:
        """The part that decides what training makes of a data set."""
        return ExpressionConfig(self.denoiser, self.diffusion, self.training)


class TrainRnnParameters(_Training):
    """Performance RNN, trained on performances by themselves."""

    system: Literal["performance_rnn"] = Field(description="which of the systems")
    network: rnn.NetworkConfig = Field(rnn.NetworkConfig(), description="the network, what it reads and is steered by")
    training: rnn.TrainingConfig = Field(rnn.TrainingConfig(), description="how the weights are fitted")

    def config(self) -> rnn.PerformanceRnnConfig:
        """The part that decides what training makes of a data set."""
        return rnn.PerformanceRnnConfig(self.network, self.training)


class TrainComposerParameters(_Training):
    """Diffusion Music Composer, trained on performances by themselves."""

    system: Literal["composer"] = Field(description="which of the systems")
    data: composer.DataConfig = Field(composer.DataConfig(), description="what becomes a segment, and its numbers")
    network: composer.NetworkConfig = Field(composer.NetworkConfig(), description="the U-Net")
    diffusion: DiffusionConfig = Field(DiffusionConfig(), description="the noise schedule")
    training: composer.TrainingConfig = Field(composer.TrainingConfig(), description="how the weights are fitted")

    def config(self) -> composer.ComposerConfig:
        """The part that decides what training makes of a data set."""
        return composer.ComposerConfig(self.data, self.network, self.diffusion, self.training)


AnyTraining = TrainParameters | TrainRnnParameters | TrainComposerParameters
TRAINING: dict[str, type[_Training]] = {
    "dexter": TrainParameters,
    "performance_rnn": TrainRnnParameters,
    "composer": TrainComposerParameters,
}


class _Generation(_Parameters):
    """What making pieces by any generator takes."""

    out: Place = Field(f"{OUT}/generated", description="folder for MIDI files")
    checkpoint: str | None = Field(None, description="a checkpoint folder or a bundle; default the model that ships")
    pieces: int = Field(8, ge=1, description="how many")
    seed: int = Field(13, ge=0, description="of the whole job; each piece has a seed of its own from it")
    batch_size: int = Field(64, ge=1, description="pieces made together; in float32 their bytes may depend on it")
    workers: Workers = None
    gpu_share: float | None = Field(None, ge=0, le=1, description="of a GPU, as for rendering")


class GenerateRnnParameters(_Generation):
    """Performances by Performance RNN."""

    system: Literal["performance_rnn"] = Field(description="which of the systems")
    how: GenerationSettings = Field(GenerationSettings(), description="length, primer, sampling, steering")


class GenerateComposerParameters(_Generation):
    """Pieces by Diffusion Music Composer."""

    system: Literal["composer"] = Field(description="which of the systems")
    how: Composing = Field(Composing(), description="sampler, instruments, range")


AnyGeneration = GenerateRnnParameters | GenerateComposerParameters
GENERATION: dict[str, type[_Generation]] = {
    "performance_rnn": GenerateRnnParameters,
    "composer": GenerateComposerParameters,
}


class RenderParameters(_Parameters):
    """Performances rendered from scores, or from the pieces of a data set's split."""

    scores: list[str] = Field([], description="score files or folders of them; empty renders a split of the store")
    store: str | None = Field(None, description="data set whose split is rendered when no scores are named")
    version: str | None = Field(None, description="a version of it; default the newest")
    split: Literal["train", "validation", "test"] = Field("test", description="which split")
    paired: bool = Field(False, description="only pieces with two or more human performances")
    pieces: list[str] = Field([], description="only pieces CORPUS/KEY of these shell patterns, such as VIENNA422/*")
    out: Place = Field(f"{OUT}/renders", description="folder for MIDI and codec files")
    checkpoint: str | None = Field(None, description="a checkpoint folder; default the model that ships")
    steps: int = Field(Sampling.steps, ge=1, le=1000, description="sampling steps")
    guidance: float = Field(Sampling.guidance, ge=0, description="guidance scale of the condition")
    sampler: Sampler = Field(Sampling.sampler, description="how a step is taken")
    eta: float = Field(0, ge=0, le=1, description="share of DDPM's noise that DDIM draws at every step")
    steer: dict[str, Literal["less", "normal", "more"] | float] = Field(
        {}, description="perceptual features less, normal, more, or in standard deviations, of what is normal"
    )
    steer_curve: str | None = Field(None, description="CSV of features over beats or fractions of the piece")
    source: str | None = Field(None, description="a performance to start from; of a data set, its number")
    depth: float = Field(Sampling.depth, ge=0, le=1, description="share of the schedule to which the source is noised")
    like: str | None = Field(None, description="a performance to sound like; of a data set, its number")
    samples: int = Field(1, ge=1, description="performances a score")
    seed: int = Field(13, ge=0, description="of the noise; a render depends on it and on nothing rendered beside it")
    batch_size: int = Field(16, ge=1, description="windows denoised together")
    workers: Workers = None
    gpu_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of a GPU that each worker takes, and waits for if an autoscaler is to add it; default a whole one "
        "if the cluster has GPUs at the start, 0 works without",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.scores) == (self.store is not None):
            raise ValueError("name scores to render, or a store, and not both")
        return self


class EvaluateParameters(_Parameters):
    """Renders measured against every human performance of their pieces, and against an earlier run."""

    store: str = Field(f"{OUT}/dataset", description="the data set the renders were made from")
    version: str | None = Field(None, description="a version of it; default the newest")
    renders: list[str] = Field([f"{OUT}/renders"], description="folders written by `dexter render`, or of MIDI")
    external: dict[str, str] = Field({}, description="folders CORPUS/PIECE.mid of other renderers, by name")
    baseline: str | None = Field(None, description="folder of an earlier evaluation or run; fail when worse than it")
    tolerance: Tolerance = Field(Tolerance(), description="how much worse than the baseline is tolerated")
    generated_tolerance: GeneratedTolerance = Field(
        default=GeneratedTolerance(), description="the same of generated music, on a data set without scores"
    )
    out: Place = Field(f"{OUT}/evaluation", description="folder for the tables")
    workers: Workers = None

    @model_validator(mode="before")
    @classmethod
    def _external_alone(cls, values: Any) -> Any:
        """Nothing but external renders is evaluated when only they are named."""
        return {"renders": [], **values} if isinstance(values, dict) and values.get("external") else values

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.renders or self.external):
            raise ValueError("name folders of renders")
        return self


class SweepParameters(_Parameters):
    """Ways to render a data set's split, rendered, evaluated and compared."""

    out: Place = Field(f"{OUT}/sweep", description="folder for renders, evaluation, sweep.json and report.html")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {"steps": [5, 10, 20, 50], "guidance": [1.0, 1.2, 2.0]},
        min_length=1,
        description="values of parameters of rendering; all combinations are rendered",
    )
    render: RenderParameters = Field(
        RenderParameters.model_validate({"store": f"{OUT}/dataset"}),
        description="what all of them share: the data set, which pieces",
    )
    workers: Workers = Field(None, description="Ray actors of each stage that does not say its own; 0 uses no Ray")

    @model_validator(mode="before")
    @classmethod
    def _of_a_store(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(given := values.get("render", {}), dict):
            return values  # pydantic tells what is wrong with them
        return {**values, "render": {"store": f"{OUT}/dataset", "workers": values.get("workers"), **given}}

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        if self.render.store is None:
            raise ValueError("render.store: a sweep renders a data set's split, whose performances it is judged by")
        if fixed := sorted({"out", "scores", "store", "version", "split", "paired", "pieces"} & set(self.grid)):
            raise ValueError(f"grid: {', '.join(fixed)} must be the same for all; set it under render")
        return self


class ReportParameters(_Parameters):
    """One page of whatever of these there is."""

    out: Place = Field("report.html", description="the HTML file, or a folder for report.html")
    store: str | None = Field(None, description="a data set")
    version: str | None = Field(None, description="a version of it; default the newest")
    checkpoint: str | None = Field(None, description="a checkpoint folder")
    renders: list[str] = Field([], description="folders written by `dexter render`")
    evaluation: str | None = Field(None, description="a folder written by `dexter evaluate`")
    sweep: str | None = Field(None, description="a folder written by `dexter sweep`")


class JobParameters(_Parameters):
    """The main job: corpora, data set, model, renders, evaluation, report, all under one folder."""

    out: Place = Field(OUT, description="folder of everything the job writes")
    build: BuildParameters = Field(description="the data set")
    train: TrainParameters = Field(description="the model; where it is and what it learns from follow from the others")
    render: RenderParameters = Field(description="how it renders")
    evaluate: EvaluateParameters = Field(description="what the renders are held against")

    @model_validator(mode="before")
    @classmethod
    def _paths_follow_out(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Stages read what the stage before wrote, unless they are told otherwise."""
        given = {stage: values.get(stage) or {} for stage in ("build", "train", "render", "evaluate")}
        if not all(isinstance(stage, dict) for stage in given.values()):
            return values  # pydantic tells what is wrong with them
        out = values.get("out", OUT)
        store, renders = given["build"].get("store", f"{out}/dataset"), f"{out}/renders"
        paths: dict[str, dict[str, Any]] = {
            "build": {"store": store},
            "train": {"store": store, "out": f"{out}/model"},
            "render": {"store": store, "out": renders},
            "evaluate": {"store": store, "renders": [renders], "out": f"{out}/evaluation"},
        }
        return {**values, "out": out, **{stage: paths[stage] | given[stage] for stage in given}}


class NightlyParameters(_Parameters):
    """One night: the data set brought up to date, its split rendered and judged beside the accepted night.

    Or a generator's pieces are made and judged, beside the held-out music of a data set of encoding ``notes``.
    """

    out: Place = Field(f"{OUT}/nightly", description="folder of the nights, each in a folder of its own")
    build: BuildParameters = Field(
        BuildParameters.model_validate({}), description="the data set; what did not change costs nothing"
    )
    render: RenderParameters = Field(
        RenderParameters.model_validate({"store": f"{OUT}/dataset"}),
        description="the model and how it renders; the data set and the folder follow from the others",
    )
    generate: AnyGeneration | None = Field(
        None, description="a generator and how it makes pieces, instead of rendering; the folder follows"
    )
    external: dict[str, str] = Field({}, description="folders CORPUS/PIECE.mid of other renderers, by name")
    baseline: str | None = Field(None, description="folder of a run to compare with; default the accepted night")
    tolerance: Tolerance = Field(Tolerance(), description="how much worse than the baseline is tolerated")
    generated_tolerance: GeneratedTolerance = Field(
        default=GeneratedTolerance(), description="the same of a generator's pieces"
    )
    workers: Workers = Field(None, description="Ray actors of each stage that does not say its own; 0 uses no Ray")

    @model_validator(mode="before")
    @classmethod
    def _renders_what_it_builds(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {name: values.get(name) or {} for name in ("build", "render", "generate")}
        if not all(isinstance(stage, dict) for stage in given.values()):
            return values  # pydantic tells what is wrong with them
        shared = {"workers": values.get("workers")}
        encoding = {"encoding": "notes"} if given["generate"] else {}
        build = {**shared, **encoding, **given["build"]}
        render = {**shared, **given["render"], "store": build.setdefault("store", f"{OUT}/dataset")}
        generate = {**shared, **given["generate"]} if given["generate"] else None
        return {**values, "build": build, "render": render, "generate": generate}

    @model_validator(mode="after")
    def _of_the_whole_data_set(self) -> Self:
        if self.render.scores or self.render.version:
            raise ValueError("render: a night renders the newest version of its data set; leave out scores and version")
        if (self.generate is None) != (self.build.encoding == "codec"):
            raise ValueError("build.encoding: codec for nights that render, notes for those that generate")
        return self
