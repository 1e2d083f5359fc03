"""Whether a generator got worse than it was: its main figures against those of an earlier judgement.

Generated pieces of two runs are no pairs, so the difference of two figures is drawn from both sides' own draws. As for
renders (``metrics.regression``), a figure has regressed when it is worse by more than its tolerance *and* the 95 %
interval leaves out 0. Of copy rates counts what is above people's: noise has none, and a model that comes to know a
style must not look worse for it. A system that is gone is a regression too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dexter_model.errors import InputError
from dexter_model.metrics.generated import HUMAN, MAIN, Drawn, Table
from dexter_model.metrics.generated_features import TRAITS
from dexter_model.metrics.regression import REGRESSION, verdict_on
from dexter_model.training.config import setting

LABELS = {
    "overlap_area": "Overlap area",
    "js": "Jensen-Shannon divergence",
    "copy_rate": "Copy rate above people's",
    "filled": "Share of excerpts with notes enough",
}


@dataclass(frozen=True)
class GeneratedTolerance:
    """How much worse a generator's main figure may get: judgements, as those for renders are.

    Args:
        overlap_area: of the mean overlap area; people's is about 0.94, that of random notes 0.6.
        js: of the mean Jensen-Shannon divergence in bits; people's is about 0.03, that of random notes 0.3.
        copy_rate: of the share of sequences of 8 notes that training has, above that of people's other works.
        filled: of the share of excerpts that have notes enough to be judged.
    """

    overlap_area: float = setting(0.03, "of the mean overlap area")
    js: float = setting(0.02, "of the mean Jensen-Shannon divergence, in bits")
    copy_rate: float = setting(0.05, "of the share of sequences of 8 notes that training has, above people's")
    filled: float = setting(0.05, "of the share of excerpts with notes enough to be judged")

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"tolerance.{each.name}", f"is {value}", "Give 0 or more", "option_invalid")


def regression(
    now: Mapping[str, Table], before: Mapping[str, Table], tolerance: GeneratedTolerance, figures: Sequence[str] = MAIN
) -> dict[str, Any]:
    """Compare systems of two judgements that have the same held-out music, by some figures of ``MAIN``.

    Systems of equal names; where none is, the only one of each side.

    Returns:
        JSON values in the shape of ``metrics.regression``: ``passed``; ``comparisons``, a row a system and main figure,
        what is worst first, each with its ``parts``, by feature; ``lost``, systems that are gone.
    """
    ours, theirs = ([name for name in tables if name != HUMAN] for tables in (now, before))
    pairs = [(name, name) for name in theirs if name in ours]
    if not pairs and len(ours) == len(theirs) == 1:
        pairs = [(ours[0], theirs[0])]
    rows = [_comparison(now, before, pair, figure, tolerance) for pair in pairs for figure in figures]
    rows.sort(key=lambda row: (row["verdict"] != REGRESSION, -row["worse_by"] / max(row["tolerance"], 1e-9)))
    lost = [{"system": name} for name in theirs if name not in {before_name for _, before_name in pairs}]
    passed = not lost and all(row["verdict"] != REGRESSION for row in rows)
    return {"passed": passed, "comparisons": rows, "lost": lost}


def _comparison(
    now: Mapping[str, Table],
    before: Mapping[str, Table],
    pair: tuple[str, str],
    figure: str,
    tolerance: GeneratedTolerance,
) -> dict[str, Any]:
    is_, was = (_figure(tables, name, figure) for tables, name in zip((now, before), pair, strict=True))
    ours, theirs = now[pair[0]], before[pair[1]]
    worse = -1 if figure in ("overlap_area", "filled") else 1  # the sign of a change for the worse
    change, (low, high) = is_.value - was.value, _interval(is_, was)
    parts = [
        {"label": trait.label, "before": theirs[key].value, "after": ours[key].value}
        for trait in TRAITS
        if (key := (trait.name, figure)) in ours and key in theirs
    ]
    allowed = float(getattr(tolerance, figure))
    return {
        "system": pair[0],
        "baseline_system": pair[1],
        "figure": figure,
        "label": LABELS[figure],
        "unit": "bits" if figure == "js" else "",
        "before": was.value,
        "after": is_.value,
        "change": change,
        "low": low if np.isfinite(low) else None,
        "high": high if np.isfinite(high) else None,
        "worse_by": worse * change,
        "tolerance": allowed,
        "verdict": verdict_on(worse * change, [worse * low, worse * high], allowed),
        "parts": sorted(parts, key=lambda part: worse * (part["before"] - part["after"])),
    }


def _figure(tables: Mapping[str, Table], system: str, figure: str) -> Drawn:
    """A main figure as it is compared."""
    drawn = tables[system]["", figure]
    if figure != "copy_rate":
        return drawn
    people = tables[HUMAN]["", figure].value
    return Drawn(max(drawn.value - people, 0.0), np.maximum(drawn.draws - people, 0.0))


def _interval(now: Drawn, before: Drawn) -> tuple[float, float]:
    """The 95 % interval of a difference; NaN where a side is one piece."""
    number = min(len(now.draws), len(before.draws))
    if not number:
        return float("nan"), float("nan")
    low, high = np.quantile(now.draws[:number] - before.draws[:number], [0.025, 0.975])
    return float(low), float(high)


def headline(verdict: Mapping[str, Any]) -> str:
    """The verdict in a sentence."""
    rows, name = verdict["comparisons"], verdict["baseline"]["name"]
    worse = sum(row["verdict"] == REGRESSION for row in rows)
    lost = f" Lost: {', '.join(row['system'] for row in verdict['lost'])}." if verdict["lost"] else ""
    if worse:
        return f"Worse than baseline {name} beyond tolerance: {worse} of {len(rows)} figures.{lost}"
    if lost:
        return f"Systems of baseline {name} are gone.{lost}"
    return f"No regression against baseline {name}: {len(rows)} figures."


def told(verdict: Mapping[str, Any], most: int = 3) -> list[str]:
    """What is lost and what got worse beyond tolerance, by how much and in which features: a line each."""
    lost = [f"{row['system']} is gone: judge it too, or compare with another baseline" for row in verdict["lost"]]
    return lost + [_line(row, most) for row in verdict["comparisons"] if row["verdict"] == REGRESSION]


def _line(row: Mapping[str, Any], most: int) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    worst = worst_parts(row["parts"][:most])
    return (
        f"{row['label']} of {row['system']}: {row['before']:.3f} -> {row['after']:.3f}{unit} "
        f"({row['change']:+.3f}, 95 % {row['low']:+.3f} ... {row['high']:+.3f}; tolerance {row['tolerance']:g})"
        + (f"; worst in {worst}" if worst else "")
    )


def worst_parts(parts: Sequence[Mapping[str, Any]]) -> str:
    """Features with how they changed: ``velocity (+0.21), duration (+0.03)``."""
    return ", ".join(f"{part['label'].lower()} ({part['after'] - part['before']:+.2f})" for part in parts)
