"""Generated music in the report: how like people's it is, beside how alike people are; some to see and hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dexter_model.errors import InputError
from dexter_model.metrics.generated import CEILINGS, HUMAN, MAIN
from dexter_model.metrics.generated_copies import LENGTHS
from dexter_model.metrics.generated_features import TRAITS, Trait
from dexter_model.metrics.generated_regression import headline, told
from dexter_model.notes import PERFORMED_NOTE, Performance
from dexter_model.places import local, names
from dexter_model.reading.midi import load_midi
from dexter_model.report import audio
from dexter_model.report.examples import SHOWN_SECONDS, Example, Shown
from dexter_model.report.figures import STYLE, data_uri, piano_rolls, system_colour
from dexter_model.report.html import count, number, value_table

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion
    from dexter_model.reading.sandbox import Sandbox

SHOWN = 2  # pieces of each system
PITCHES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
MEASURES = (
    (
        "overlap_area",
        "Overlap area",
        "Of distances between excerpts with people's own (Yang and Lerch). 1 is the best.",
    ),
    ("js", "Jensen-Shannon divergence", "Of distributions of values, in bits. 0 is the same distribution, 1 another."),
    ("wasserstein", "Wasserstein distance", "In the feature's unit: how far values would have to be moved."),
)

Row = dict[str, Any]


def generated_section(judgement: Mapping[str, Any], examples: Sequence[Example] = ()) -> Row:
    """``judgement.json`` as plain values for the page, and what is shown beside it (``generated_examples``)."""
    held_out, training = judgement["held_out"], judgement["training"]
    seconds = judgement["excerpts"]["seconds"]
    made_up = (
        " They were made by rules, not played by people: this shows the plumbing." if held_out["synthetic"] else ""
    )
    summary = (
        f"Excerpts of {seconds:g} s, compared with those of {count(held_out['pieces'], 'held-out performance')} of "
        f"{count(held_out['works'], 'work')}.{made_up} Everybody is measured against one half of these works, in "
        f"{judgement['bootstrap']['halves']} draws; “{HUMAN}” is the other half, and the ceiling. Beside a system's "
        "figures is what people reach with as few pieces and excerpts as it has, at one velocity if it has but one. "
        "Under a figure is its 95 % interval by bootstrap over pieces; for people what the halves gave."
    )
    systems = [*(system["name"] for system in judgement["systems"]), HUMAN]
    known = {(row["system"], row["feature"], row["measure"]): row for row in judgement["rows"]}
    return {
        "summary": summary,
        "verdict": _verdict(judgement.get("regression")),
        "main": value_table(_main(known, systems, judgement)),
        "measures": [value_table(_features(known, systems, *measure)) for measure in MEASURES],
        "chart": _distributions(judgement["distributions"], systems),
        "copies": (
            f"A sequence is {LENGTHS[0]} or {LENGTHS[1]} notes in a row with the intervals and times between them, "
            f"wherever it begins, looked up in {_looked_through(training)}. Music in one style shares some: compare "
            f"with people's other works.{_elsewhere(judgement)}"
        ),
        "longest": _longest(judgement["longest"]),
        "refused": judgement["refused"],
        "examples": list(examples),
    }


def _elsewhere(judgement: Mapping[str, Any]) -> str:
    """Which systems learnt from something else than what copies are looked up in."""
    trained = {system["name"]: system["trained_on"] for system in judgement["systems"]}
    others = [
        name for name, told in trained.items() if not told or told.get("digest") != judgement["data_set"]["digest"]
    ]
    if not others:
        return ""
    named = ", ".join(f"“{name}”" for name in others)
    return f" {named} learnt from another data set, or does not tell: what it copied from there is not found."


def _looked_through(training: Mapping[str, int]) -> str:
    found = f"{count(training['pieces'], 'training piece')} of {number(training['notes'])} notes"
    return f"{found} ({number(training['left_out'])} more are left out)" if training["left_out"] else found


def generated_tiles(judgement: Mapping[str, Any]) -> list[Row]:
    """The few numbers that head the page: the first system beside people."""
    known = {(row["system"], row["feature"], row["measure"]): row["mean"] for row in judgement["rows"]}
    system = judgement["systems"][0]["name"]
    shown = (("overlap_area", "Mean overlap area", 1, ""), ("copy_rate", "Copied from training", 100, " %"))
    return [
        {
            "label": label,
            "value": f"{number(factor * known[system, '', measure])}{unit}",
            "note": f"{system} · people {number(factor * known[HUMAN, '', measure])}{unit}",
        }
        for measure, label, factor, unit in shown
    ]


def _verdict(verdict: Mapping[str, Any] | None) -> Row | None:
    if verdict is None:
        return None
    return {"passed": verdict["passed"], "headline": headline(verdict), "lines": told(verdict)}


def _main(known: Mapping[tuple[str, str, str], Row], systems: Sequence[str], judgement: Mapping[str, Any]) -> Row:
    """The main figures, a row a system."""
    about = {system["name"]: system for system in [*judgement["systems"], {"name": HUMAN, **judgement["held_out"]}]}
    columns = ["Mean overlap area", "that of people, as little music"]
    columns += ["Mean Jensen-Shannon divergence (bits)", "that of people, as little music"]
    columns += ["Excerpts with notes enough (%)"]
    columns += [f"Copied, of {length} notes (%)" for length in LENGTHS]
    rows = []
    for system in systems:
        measures = [each for pair in zip(MAIN[:2], CEILINGS, strict=True) for each in pair]
        cells = [known.get((system, "", measure)) for measure in measures]
        shares = [known.get((system, "", "filled"))]
        shares += [known.get((system, "copies", str(length))) for length in LENGTHS]
        cells += [cell and {end: None if cell[end] is None else 100 * cell[end] for end in _ENDS} for cell in shares]
        rows.append({"label": f"{system} ({count(about[system]['pieces'], 'piece')})", "cells": cells})
    return {"columns": columns, "rows": rows, "heading": "", "note": ""}


_ENDS = ("mean", "low", "high")


def _features(
    known: Mapping[tuple[str, str, str], Row], systems: Sequence[str], measure: str, label: str, note: str
) -> Row:
    """One measure: a row a system, a column a feature."""
    columns = [f"{t.label} ({_unit(t)})" if measure == "wasserstein" else t.label for t in TRAITS]
    rows = [{"label": s, "cells": [known.get((s, trait.name, measure)) for trait in TRAITS]} for s in systems]
    return {"heading": label, "note": note, "columns": columns, "rows": rows}


def _unit(trait: Trait) -> str:
    return "octaves" if trait.octaves else "semitones" if trait.circular else trait.unit


def _longest(pieces: Sequence[Row]) -> list[Row]:
    """The pieces with the longest runs of notes that one training piece has too."""
    return [piece | {"rate": _percent(piece["copied"][str(LENGTHS[0])])} for piece in pieces]


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.1f} %"


@mpl.rc_context(STYLE)
def _distributions(found: Mapping[str, Mapping[str, Sequence[float]]], systems: Sequence[str]) -> str:
    """The distribution of every feature, a line a system."""
    figure = Figure(figsize=(11, 8.4), layout="constrained")
    grid = figure.subplots(3, 3).ravel()
    for axes, trait in zip(grid, TRAITS, strict=True):
        for system in systems:
            wide = {"linewidth": 2.2, "zorder": 3} if system == HUMAN else {"linewidth": 1.3}
            colour = system_colour(system, systems)
            axes.stairs(100 * np.array(found[trait.name][system]), trait.edges, color=colour, label=system, **wide)
        _labelled(axes, trait, [np.array(found[trait.name][system]) for system in systems])
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
    return data_uri(figure, "svg")


def _labelled(axes: Axes, trait: Trait, shares: Sequence[np.ndarray]) -> None:
    axes.set_title(trait.label, fontsize=10, loc="left")
    axes.set_xlabel("" if trait.circular else trait.unit)
    axes.set_ylabel("%")
    if trait.circular:
        axes.set_xticks(np.arange(12) + 0.5, PITCHES, fontsize=8)
        return
    some = np.flatnonzero(np.max(shares, axis=0) > 0.001)
    axes.set_xlim(
        trait.edges[max(some.min(initial=0) - 1, 0)], trait.edges[min(some.max(initial=1) + 2, len(trait.edges) - 1)]
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if trait.octaves:
        ticks = np.arange(np.ceil(trait.edges[0]), trait.edges[-1] + 1, 2)
        axes.set_xticks(ticks, [f"1/{2**-t:.0f}" if t < 0 else f"{2**t:.0f}" for t in ticks])
        left, right = axes.get_xlim()
        axes.set_xlim(left, right)


def generated_examples(
    judgement: Mapping[str, Any],
    folders: Mapping[str, str | Path],
    data: DatasetVersion | None,
    sandbox: Sandbox,
    *,
    sounds: bool,
) -> list[Example]:
    """Some pieces of every system beside one of people's: piano rolls, and what they sound like.

    Args:
        judgement: ``judgement.json``.
        folders: of MIDI files, by system, as they were judged; what is gone is not shown.
        data: the data set that was held against.
        sandbox: reads the files.
        sounds: whether to make sound.
    """
    found = []
    for place in range(SHOWN):
        performances = {}
        for system, folder in folders.items():
            file = _file(judgement, system, folder, place)
            try:
                performance = sandbox.call(load_midi, file) if file else None
            except InputError:
                continue
            if performance is not None:
                performances[f"{system}: {Path(str(file)).name}"] = _from_its_start(performance)
        if data is not None and performances:
            performances |= _person(data, place, judgement["held_out"]["synthetic"])
        if performances:
            found.append(_example(place, performances, sounds))
    return found


def _file(judgement: Mapping[str, Any], system: str, folder: str | Path, place: int) -> str | None:
    """A file of a system that was judged; the ``place``-th of ``SHOWN``, spread over all of them."""
    judged = {piece["piece"] for piece in judgement["pieces"] if piece["system"] == system}
    below = local(folder, missing_ok=True)
    there = [name for name in names(below) if name in judged]
    spread = np.unique(np.linspace(0, len(there) - 1, min(SHOWN, len(there))).round().astype(int))
    return str(below / there[spread[place]]) if place < len(spread) else None


def _person(data: DatasetVersion, place: int, synthetic: bool) -> dict[str, Performance]:
    """A held-out performance by a person, or one by rules where there are only such."""
    rows = data.catalogue.filter(split="test", synthetic=synthetic).sort("corpus", "key").rows(named=True)
    row = rows[int(np.linspace(0, len(rows) - 1, SHOWN + 2)[1 + place])]
    notes = data.item(row["corpus"], row["key"]).notes  # type: ignore[union-attr]
    return {f"{HUMAN}: {row['title'] or row['key']}": _from_its_start(_performance(notes))}


def _performance(notes: np.ndarray) -> Performance:
    """A recording's notes (n,) as a performance whose keys are down as long as its notes sound."""
    performed = np.zeros(len(notes), PERFORMED_NOTE)
    ends = np.where(np.isnan(notes["sustained_sec"]), notes["offset_sec"], notes["sustained_sec"])
    performed["onset_sec"] = notes["onset_sec"]
    performed["duration_sec"] = performed["keydown_sec"] = np.maximum(ends - notes["onset_sec"], 0.01)
    performed["pitch"], performed["velocity"] = notes["pitch"], notes["velocity"]
    return Performance(np.arange(len(notes)).astype(str), performed, np.zeros((0, 2)))


def _from_its_start(performance: Performance) -> Performance:
    """A performance without the silence before it."""
    notes, pedal = performance.notes.copy(), performance.pedal.copy()
    start = notes["onset_sec"].min(initial=np.inf)
    if np.isfinite(start):
        notes["onset_sec"] -= start
        pedal[:, 0] = np.maximum(pedal[:, 0] - start, 0)
    return Performance(performance.note_id, notes, pedal)


def _example(place: int, performances: Mapping[str, Performance], sounds: bool) -> Example:
    rolls = {name: (p.notes, p.pedal) for name, p in performances.items()}
    caption = f"The first {SHOWN_SECONDS:.0f} s, coloured by velocity."
    shown = Shown("Piano rolls", caption, piano_rolls(rolls, SHOWN_SECONDS))
    heard = {name: audio.sound(p) for name, p in performances.items()} if sounds else {}
    caption = f"the first {audio.SECONDS:.0f} s"
    players = [Shown(name, caption, uri) for name, uri in heard.items() if uri]
    return Example(f"Generated pieces, {place + 1} of {SHOWN}", "One of each system.", [shown], players)
