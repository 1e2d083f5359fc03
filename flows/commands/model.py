"""``dexter train``, ``render``, ``evaluate`` and ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import options


def train(
    config: options.Config = None,
    store: Annotated[str | None, typer.Option(help="The data set to train on.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for checkpoints and TensorBoard event files.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Ray Train workers that share a batch.", show_default="1")
    ] = None,
    gpus: Annotated[
        bool | None,
        typer.Option(help="A GPU for each worker, also one to wait for; or none.", show_default="if there are GPUs"),
    ] = None,
    overrides: options.Overrides = None,
    dry_run: options.DryRun = False,
) -> None:
    """Train a system on a data set by Ray Train; an interrupted training goes on from its last checkpoint.

    DExter, unless the configuration names another system: configs/performance_rnn/*.yaml, configs/composer/*.yaml, on
    data sets of encoding notes. Or config.py, as the original of Diffusion Music Composer has it (docs/composer.md).

    Writes checkpoints/ (what it goes on from), best/ (the model whose renders of validation windows are nearest to
    their pianists), validation/ (those renders) and tensorboard/ (see `tensorboard --logdir OUT`). Every setting of
    configs/dexter.yaml can be given with -s. Example: dexter train configs/dexter.yaml -s training.steps=2000; the
    U-Net: -s denoiser.network=unet -s denoiser.channels=48 -s denoiser.layers=3
    """
    from flows.configuration import load_any
    from flows.parameters import TRAINING

    given = {"store": store, "out": out, "workers": workers, "gpus": gpus}
    parameters = load_any(TRAINING, "dexter", config, overrides or (), given)
    if dry_run:
        from tasks.train import describe_training

        print(describe_training(parameters.store, parameters.config(), parameters.version))
        return
    from flows.train import train as flow

    flow(parameters)


def render(
    scores: Annotated[list[str] | None, typer.Argument(help="Score files, or folders of them.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder for MIDI and codec files.", show_default="dexter-out/renders")
    ] = None,
    store: Annotated[str | None, typer.Option(help="Render the pieces of a data set's split instead.")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test.", show_default="test")] = None,
    paired: Annotated[
        bool | None, typer.Option("--paired", help="Only pieces with two or more human performances.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="A checkpoint folder.", show_default="the model that ships")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", show_default="10")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.", show_default="1.5")] = None,
    sampler: Annotated[
        str | None, typer.Option(metavar="ddim|ddpm|dpm-solver++", help="Sampler.", show_default="dpm-solver++")
    ] = None,
    eta: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of DDPM's noise in DDIM's steps.", show_default="0")
    ] = None,
    steer: Annotated[
        list[str] | None,
        typer.Option(metavar="FEATURE=LEVEL", help="less, normal, more or standard deviations; repeatable."),
    ] = None,
    steer_curve: Annotated[
        str | None, typer.Option(help="CSV: beat or fraction, then a column of levels for each feature.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="PERF[:ALIGNMENT]", help="Start from a performance: match, MIDI or codec.")
    ] = None,
    depth: Annotated[
        float | None, typer.Option(min=0, max=1, help="How far the source is noised.", show_default="0.75")
    ] = None,
    like: Annotated[str | None, typer.Option(metavar="PERF[:ALIGNMENT]", help="Sound like a performance.")] = None,
    samples: Annotated[int | None, typer.Option(help="Performances a score.", show_default="1")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed; a render's noise depends on it alone.", show_default="13")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows denoised together.", show_default="16")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Ray actors.", show_default="by the work")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of parameters.")] = None,
    overrides: options.Overrides = None,
) -> None:
    """Render scores (MusicXML, MXL, MEI, Kern, match, MIDI) as expressive performance MIDI with pedal.

    Writes NAME.mid, its codec NAME.npz and renders.json; renders that are there already are kept. Scores that cannot be
    read are told and the exit code is 4. Example: dexter render score.musicxml --out renders --samples 3

    Checkpoints trained with perceptual rows can be steered: melodiousness, articulation (more is staccato),
    rhythm_complexity, rhythm_stability, dissonance, tonal_stability, minorness. Example: --steer articulation=more
    """
    from flows.configuration import load, named
    from flows.parameters import RenderParameters

    given = {
        "scores": scores or None,
        "out": out,
        "store": store,
        "split": split,
        "paired": paired,
        "checkpoint": checkpoint,
        "steps": steps,
        "guidance": guidance,
        "sampler": sampler,
        "eta": eta,
        "steer": named("--steer", steer or (), "articulation=more") or None,
        "steer_curve": steer_curve,
        "source": source,
        "depth": depth,
        "like": like,
        "samples": samples,
        "seed": seed,
        "batch_size": batch_size,
        "workers": workers,
    }
    parameters = load(RenderParameters, config, overrides or (), given)
    from flows.render import render as flow

    if flow(parameters).quarantined:
        raise typer.Exit(4)


def evaluate(
    renders: Annotated[
        list[str] | None, typer.Option(help="Folder written by render or generate; repeatable, a system each.")
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="MIDI files CORPUS/PIECE.mid of another renderer; repeatable."),
    ] = None,
    store: Annotated[str | None, typer.Option(help="The data set the renders were made from.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Folder of an earlier evaluation; exit code 3 when this one is worse.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder for tables.", show_default="dexter-out/evaluation")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Ray actors; 0 works in this process.", show_default="by the work")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of parameters.")] = None,
    overrides: options.Overrides = None,
) -> None:
    """Measure renders against every human performance of their pieces.

    Beside deadpan, the rule-based performer and human against human, with 95 % intervals over works or pieces, as
    evaluation.json tells of each part. Writes measures.parquet and evaluation.json. Renders that cannot be compared are
    told and the exit code is 4.

    With --baseline the main figures are compared with a stored run's by paired bootstrap over pieces, and report.html
    is written too: what is worse by more than its tolerance, with a 95 % interval that leaves out 0, and pieces that
    are lost, end with exit code 3. Tolerances: -s tolerance.correlation=0.05 (velocity_error, spread).

    On a data set of encoding notes, folders of generated music are held against its held-out music instead: how alike
    distributions are, beside how alike people are, and what was copied from training. Writes judgement.json and
    report.html. Tolerances there: -s generated_tolerance.overlap_area=0.05 (js, copy_rate).
    """
    from flows.configuration import load, named
    from flows.parameters import EvaluateParameters

    given = {
        "renders": renders or None,
        "external": named("--external", external or ()) or None,
        "store": store,
        "baseline": baseline,
        "out": out,
        "workers": workers,
    }
    parameters = load(EvaluateParameters, config, overrides or (), given)
    from flows.evaluate import evaluate as flow

    if flow(parameters).refused:
        raise typer.Exit(4)


def report(
    out: Annotated[str | None, typer.Option(help="The HTML file, or a folder.", show_default="report.html")] = None,
    store: Annotated[str | None, typer.Option(help="A data set.")] = None,
    version: Annotated[str | None, typer.Option(help="A version of it.", show_default="the newest")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="A checkpoint folder.")] = None,
    renders: Annotated[list[str] | None, typer.Option(help="Folder written by render; repeatable.")] = None,
    evaluation: Annotated[str | None, typer.Option(help="Folder written by evaluate.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Folder written by sweep.")] = None,
) -> None:
    """Write one self-contained HTML report of whatever of these there is."""
    from flows.configuration import load
    from flows.parameters import ReportParameters
    from flows.report import report as flow

    given = {
        "out": out,
        "store": store,
        "version": version,
        "checkpoint": checkpoint,
        "renders": renders or None,
        "evaluation": evaluation,
        "sweep": sweep,
    }
    print(flow(load(ReportParameters, options=given)))
