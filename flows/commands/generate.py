"""``dexter generate``: performances and pieces that need no score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands import options

app = typer.Typer(no_args_is_help=True, help="Make music without a score, by a trained generator.")

Out = Annotated[str, typer.Argument(help="Folder for MIDI files and renders.json.")]
Pieces = Annotated[int | None, typer.Option("--n", min=1, help="How many pieces.", show_default="8")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the job.", show_default="13")]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="A checkpoint; of Performance RNN also a bundle or a .mag file.", show_default="the model that ships"
    ),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Pieces made together.", show_default="64")]
Config = Annotated[Path | None, typer.Option(help="YAML file of parameters.")]


@app.command("performance-rnn")
def performance_rnn(
    out: Out,
    n: Pieces = None,
    seed: Seed = None,
    checkpoint: Checkpoint = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length in steps of 10 ms.", show_default="3000")] = None,
    temperature: Annotated[float | None, typer.Option(help="Below 1 tamer, above 1 wilder.", show_default="1")] = None,
    notes_per_second: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="Density, or several over time: 5 or [5, 20].")
    ] = None,
    pitch_class_histogram: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="12 weights of C, C sharp, ...: [2,0,1,0,1,1,0,1,0,1,0,1].")
    ] = None,
    primer_pitches: Annotated[str | None, typer.Option(metavar="PITCHES", help="A chord first: [60, 64, 67].")] = None,
    primer_melody: Annotated[str | None, typer.Option(metavar="EVENTS", help="Or a melody: [60, -2, 62, -1].")] = None,
    primer_midi: Annotated[str | None, typer.Option(metavar="FILE", help="Or a MIDI file.")] = None,
    batch_size: BatchSize = None,
    workers: options.Workers = None,
    config: Config = None,
    overrides: options.Overrides = None,
    dry_run: options.DryRun = False,
) -> None:
    """Make performances by Performance RNN. Example: dexter generate performance-rnn --n 4 --seed 7 out

    Everything else that can be said: -s how.top_p=0.95, how.constrained=true, how.beam_size, how.branch_factor,
    how.steps_per_iteration, how.disable_conditioning, how.precision=bfloat16 (faster where the processor has it, and
    other performances). Pieces that are there already are kept.
    """
    density, weights = _listed(notes_per_second), _listed(pitch_class_histogram)
    _generate(
        "performance_rnn",
        config,
        overrides,
        {
            "out": out,
            "pieces": n,
            "seed": seed,
            "checkpoint": checkpoint,
            "how.num_steps": steps,
            "how.temperature": temperature,
            "how.notes_per_second": density,
            "how.pitch_class_histogram": [weights] if weights and not isinstance(weights[0], list) else weights,
            "how.primer_pitches": _listed(primer_pitches),
            "how.primer_melody": _listed(primer_melody),
            "how.primer_midi": primer_midi,
            "batch_size": batch_size,
            "workers": workers,
        },
        dry_run,
    )


@app.command("composer")
def composer(
    out: Out,
    n: Pieces = None,
    seed: Seed = None,
    checkpoint: Checkpoint = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="ddim|ddpm|ddpm-beta|dpm-solver++", help="How a step is taken.", show_default="dpm-solver++"
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.", show_default="20")] = None,
    batch_size: BatchSize = None,
    workers: options.Workers = None,
    config: Config = None,
    overrides: options.Overrides = None,
    dry_run: options.DryRun = False,
) -> None:
    """Compose pieces by Diffusion Music Composer. Example: dexter generate composer --n 8 out

    Everything else that can be said: -s how.programs=[0, 32], how.lowest, how.highest, how.eta (of ddim), how.faithful,
    how.tempo (60 beats a minute, of a model that counts in beats; of others nothing). As the original composes:
    --config configs/composer/generate_reference.yaml. Pieces that are there already are kept.
    """
    given = {"out": out, "pieces": n, "seed": seed, "checkpoint": checkpoint, "batch_size": batch_size}
    given |= {"how.sampler": sampler, "how.steps": steps, "workers": workers}
    _generate("composer", config, overrides, given, dry_run)


@app.command("page")
def page(
    out: Annotated[str, typer.Argument(help="The HTML file.")] = "performance-rnn.html",
    checkpoint: Checkpoint = None,
    precision: Annotated[str, typer.Option(metavar="float16|float32", help="Of the weights in it.")] = "float16",
) -> None:
    """Write Performance RNN as one page that plays in a browser, steered by hand. Needs no server.

    Web Audio and Web MIDI; sliders for density, gain and pitch classes of a network that is steered by them.
    """
    from dexter_model.performance_rnn.browser import export_page
    from dexter_model.places import absolute
    from tasks.generate import load_model

    if precision not in ("float16", "float32"):
        raise typer.BadParameter(f"{precision} is neither float16 nor float32", param_hint="--precision")
    export_page(load_model("performance_rnn", checkpoint), out, precision=precision)  # type: ignore[arg-type]
    print(absolute(out))


def _generate(
    system: str, config: Path | None, overrides: list[str] | None, given: dict[str, Any], dry_run: bool
) -> None:
    from flows.configuration import load_any
    from flows.parameters import GENERATION

    parameters: Any = load_any(GENERATION, system, config, overrides or (), {"system": system, **given})
    from flows import generate as flow

    if dry_run:
        print(flow.dry_run(parameters))
    elif flow.generate(parameters).quarantined:
        raise typer.Exit(4)


def _listed(text: str | None) -> list[Any] | None:
    """A number or a list of them, written as JSON."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers, such as [60, 64, 67]") from None
    return value if isinstance(value, list) else [value]
