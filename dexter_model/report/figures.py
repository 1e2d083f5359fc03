"""The report's figures, each drawn straight into a data URI.

Figures are matplotlib ``Figure`` objects without pyplot, so nothing is global and nothing needs a display. Lines become
SVG (sharp at any size), images and piano rolls PNG (small).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from dexter_model.metrics.curves import FEATURES

INK = "#1f2937"
RENDERS = ("#c2410c", "#1d4ed8", "#7c3aed", "#be185d")  # one a system, in order
REFERENCES = {"deadpan": "#6b7280", "rule-based performer": "#0f766e", "human": "#111827"}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#eef0f3",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "dexter",  # the same figure gives the same bytes
}
CODEC_STRIPS = (
    ("Beat period", "of mean", 1.0, "viridis"),
    ("Velocity", "MIDI", 127.0, "viridis"),
    ("Timing", "s", 1.0, "RdBu_r"),
    ("Articulation", "log2", 1.0, "RdBu_r"),
    ("Pedal", "CC64", 127.0, "viridis"),
)


def data_uri(figure: Figure, kind: str) -> str:
    """A figure as a data URI; ``kind`` is ``svg`` or ``png``."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def system_colour(system: str, systems: Sequence[str]) -> str:
    """The colour that a system has in every figure."""
    renders = [s for s in systems if s not in REFERENCES]
    return REFERENCES.get(system) or RENDERS[renders.index(system) % len(RENDERS)]


@mpl.rc_context(STYLE)
def loss_curve(history: Sequence[Sequence[float | None]]) -> str:
    """Training and validation loss; ``history`` rows are step, training loss, validation loss or None."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    trained = np.array([row[:2] for row in history], float)
    marker = "." if len(trained) < 30 else ""
    axes.plot(trained[:, 0], trained[:, 1], color=RENDERS[1], linewidth=1.4, marker=marker, label="training")
    validated = [(row[0], row[2]) for row in history if len(row) > 2 and row[2] is not None]
    if validated:
        axes.plot(*zip(*validated, strict=True), "o-", color=RENDERS[0], markersize=4, label="validation")
    axes.set(xlabel="step", ylabel="loss")
    if trained[:, 1].min() > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend()
    return data_uri(figure, "svg")


@mpl.rc_context(STYLE)
def correlations(rows: Sequence[Mapping[str, Any]], systems: Sequence[str]) -> str:
    """Correlation of features and systems with intervals over pieces.

    Args:
        rows: of an evaluation table, correlations that are defined.
        systems: all systems of the table, which fixes their colours.
    """
    shown = [f for f in FEATURES if any(row["feature"] == f.name for row in rows)]
    drawn_systems = [s for s in systems if any(row["system"] == s for row in rows)]
    figure = Figure(figsize=(9, 0.45 + 0.5 * len(shown) + 0.5), layout="constrained")
    axes = figure.subplots()
    for place, system in enumerate(drawn_systems):
        offset = (place - (len(drawn_systems) - 1) / 2) * 0.7 / len(drawn_systems)
        colour = system_colour(system, systems)
        found = {row["feature"]: row for row in rows if row["system"] == system}
        heights = {f.name: y + offset for y, f in enumerate(shown) if f.name in found}
        for name, height in heights.items():
            if found[name]["low"] is not None:
                ends = [found[name]["low"], found[name]["high"]]
                axes.plot(ends, [height, height], color=colour, linewidth=1.6, alpha=0.6)
        means = [found[name]["mean"] for name in heights]
        axes.plot(means, list(heights.values()), "o", color=colour, markersize=6, label=system)
    axes.axvline(0, color="#9ca3af", linewidth=1)
    axes.set_yticks(range(len(shown)), [f.label for f in shown])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Pearson correlation with the performances (mean and 95 % interval over pieces)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return data_uri(figure, "svg")


@mpl.rc_context(STYLE)
def curves(beats: np.ndarray, humans: Mapping[str, np.ndarray], lines: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Tempo and velocity curves, systems over the humans' band of lines.

    Args:
        beats: (U,) score onsets.
        humans: by curve name, (P, U).
        lines: by system, by curve name, (U,).
    """
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    both = figure.subplots(2, 1, sharex=True)
    labels = {f.name: f"{f.label.removesuffix(' curve')} ({f.unit})" for f in FEATURES}
    for axes, name in zip(both, ("tempo_curve", "velocity_curve"), strict=True):
        few = len(humans[name]) < 5
        for number, human in enumerate(humans[name]):
            label = None if number else "performances"
            axes.plot(beats, human, color="#8b93a1" if few else "#b6bcc6", linewidth=1.1 if few else 0.8, label=label)
        for system, values in lines.items():
            reference = system in REFERENCES
            style: dict[str, Any] = {"linestyle": "--", "linewidth": 1.3} if reference else {"linewidth": 1.8}
            axes.plot(beats, values[name], color=system_colour(system, list(lines)), label=system, **style)
        axes.set_ylabel(labels[name])
        axes.set_ylim(*_limits([humans[name], *(values[name] for values in lines.values())]))
        axes.margins(x=0.01)
    both[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5)
    both[1].set_xlabel("score time (beats)")
    return data_uri(figure, "svg")


def _limits(series: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits that show nearly all of every series; a single wild onset must not flatten the rest."""
    known = [s[np.isfinite(s)] for s in series]
    low = min(float(np.quantile(s, 0.005)) for s in known if len(s))
    high = max(float(np.quantile(s, 0.995)) for s in known if len(s))
    margin = 0.08 * max(high - low, 1.0)
    return low - margin, high + margin


@mpl.rc_context(STYLE)
def codec_images(codecs: Mapping[str, np.ndarray]) -> str:
    """Codecs (N, 5) side by side, a strip a column on a common scale; NaN (not played) is grey.

    Beat periods are shown over each performance's own mean: the shape of the tempo, whatever its level.
    """
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    grid = figure.subplots(5, len(codecs), squeeze=False)
    for row, (label, unit, factor, colours) in enumerate(CODEC_STRIPS):
        values = [factor * codec[:, row] for codec in codecs.values()]
        if row == 0:
            values = [strip / np.nanmean(strip) for strip in values]
        low, high = _colour_limits(np.concatenate(values), centred=colours.startswith("RdBu"))
        for axes, (title, strip) in zip(grid[row], zip(codecs, values, strict=True), strict=True):
            axes.set_facecolor("#9ca3af")
            image = axes.imshow(strip[None], aspect="auto", cmap=colours, vmin=low, vmax=high, interpolation="nearest")
            axes.grid(visible=False)
            axes.set_yticks([])
            if row == 0:
                axes.set_title(title, fontsize=10)
            if row < len(CODEC_STRIPS) - 1:
                axes.set_xticks([])
        grid[row][0].set_ylabel(label, rotation=0, ha="right", va="center")
        figure.colorbar(image, ax=list(grid[row]), label=unit, aspect=6, pad=0.01)
    for axes in grid[-1]:
        axes.set_xlabel("score note")
    return data_uri(figure, "png")


def _colour_limits(values: np.ndarray, *, centred: bool) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.02, 0.98]) if len(known) else (0.0, 1.0)
    if centred:
        widest = max(abs(low), abs(high), 1e-3)
        return -widest, widest
    return float(low), float(max(high, low + 1e-3))


@mpl.rc_context(STYLE)
def piano_rolls(performances: Mapping[str, tuple[np.ndarray, np.ndarray]], seconds: float) -> str:
    """Piano rolls coloured by velocity, the sustain pedal as a line under each.

    Args:
        performances: by title, notes (n,) of PERFORMED_NOTE and pedal (k, 2): CC64 times and values.
        seconds: how much from the beginning is shown.
    """
    figure = Figure(figsize=(9, 2.6 * len(performances) + 0.3), layout="constrained")
    grid = figure.subplots(len(performances), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    early = {title: notes[notes["onset_sec"] < seconds] for title, (notes, _) in performances.items()}
    pitches = np.concatenate([notes["pitch"] for notes in early.values()])
    lowest, highest = int(pitches.min(initial=127)), int(pitches.max(initial=0))
    for axes, (title, (_, pedal)) in zip(grid, performances.items(), strict=True):
        bars = _bars(axes, early[title])
        if len(pedal):
            axes.step(pedal[:, 0], lowest - 8 + 5 * pedal[:, 1] / 127, where="post", color="#64748b", linewidth=0.9)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylabel("MIDI pitch")
    grid[-1].set(xlabel="seconds", xlim=(0, seconds), ylim=(lowest - 9, highest + 3))
    figure.colorbar(bars, ax=list(grid), label="velocity", aspect=30, pad=0.01)
    return data_uri(figure, "png")


def _bars(axes: Axes, notes: np.ndarray) -> LineCollection:
    ends = notes["onset_sec"] + np.maximum(notes["keydown_sec"], 0.03)
    segments = [((n["onset_sec"], n["pitch"]), (end, n["pitch"])) for n, end in zip(notes, ends, strict=True)]
    bars = LineCollection(segments, cmap="plasma_r", linewidths=2.6, capstyle="butt")
    bars.set_array(notes["velocity"])
    bars.set_clim(10, 110)
    axes.add_collection(bars)
    return bars
