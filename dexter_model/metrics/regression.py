"""Whether a run is worse than an earlier one: its main figures, piece by piece, against the stored ones.

The same pieces were rendered twice, so differences are taken piece by piece and pieces are drawn with their difference
(paired bootstrap, Efron and Tibshirani 1993): what makes one piece harder than another cancels. Within a piece only
the human performances that both runs know are counted, so that a corpus that grew is no regression. A figure has
regressed when it is worse by more than its tolerance *and* the 95 % interval of the difference leaves out 0: the first
keeps out what nobody would mind, the second what a few pieces could show by chance. Some ten figures a system are
looked at, so an interval alone would raise a false alarm now and then.

A piece that the earlier run compared and this one cannot is a regression too, whatever its figures were: the hardest
pieces would else be best lost. What neither run could compare is not lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from dexter_model.metrics.intervals import paired_difference
from dexter_model.metrics.main_figures import MAIN_FIGURES, MainFigure, by_human, by_piece, compared_pieces, off_human
from dexter_model.metrics.tolerance import Tolerance

REMEDY = "Render them too, or compare with a baseline of the same pieces"
REGRESSION, WORSE, BETTER, UNCLEAR = "regression", "worse within tolerance", "better", "no clear difference"


def regression(
    now: pl.DataFrame, before: pl.DataFrame, pairs: Sequence[tuple[str, str]], tolerance: Tolerance, seed: int
) -> dict[str, Any]:
    """Compare systems of two runs.

    Args:
        now: measures of this run (``metrics.tables.measures_frame``).
        before: of the earlier one.
        pairs: names of a system now and of the one it is compared with.
        tolerance: how much worse is tolerated.
        seed: of the bootstrap.

    Returns:
        JSON values: ``passed``, nothing regressed and nothing is lost; ``comparisons``, a row a system and figure, what
        is worst first, each with its pieces, the worst first; ``lost``, pieces a system no longer has.
    """
    now, before = compared_pieces(now), compared_pieces(before)
    found = [_comparison(now, before, pair, figure, tolerance, seed) for pair in pairs for figure in MAIN_FIGURES]
    comparisons = sorted(filter(None, found), key=_urgency)
    lost = [row for pair in pairs for row in _lost(now, before, pair)]
    passed = not lost and all(row["verdict"] != REGRESSION for row in comparisons)
    return {"passed": passed, "comparisons": comparisons, "lost": lost}


def _comparison(
    now: pl.DataFrame,
    before: pl.DataFrame,
    pair: tuple[str, str],
    figure: MainFigure,
    tolerance: Tolerance,
    seed: int,
) -> dict[str, Any] | None:
    """One figure of one system; None when the runs have no piece with it in common."""
    ours, theirs = by_human(now, pair[0], figure), by_human(before, pair[1], figure)
    shared = ours.join(theirs, on=["corpus", "piece", "human"], suffix="_before")
    after, earlier = (off_human(by_piece(shared, column), figure) for column in ("value", "value_before"))
    if not after:
        return None
    change = paired_difference(after, earlier, seed=seed)
    allowed = float(getattr(tolerance, figure.kind))
    worse = -1 if figure.higher_is_better else 1  # the sign of a change for the worse
    pieces = [
        {"corpus": corpus, "piece": piece, "before": was, "after": is_, "change": is_ - was}
        for (corpus, piece), is_, was in ((key, after[key], earlier[key]) for key in after)
    ]
    return {
        "system": pair[0],
        "baseline_system": pair[1],
        "figure": figure.name,
        "label": f"{figure.of} spread off the human's" if figure.kind == "spread" else figure.label,
        "unit": figure.unit,
        "before": sum(earlier.values()) / len(earlier),
        "after": sum(after.values()) / len(after),
        "change": change.mean,
        "low": None if math.isnan(change.low) else change.low,
        "high": None if math.isnan(change.high) else change.high,
        "worse_by": worse * change.mean,
        "tolerance": allowed,
        "verdict": verdict_on(worse * change.mean, [worse * change.low, worse * change.high], allowed),
        "pieces": sorted(pieces, key=lambda row: -worse * row["change"]),
    }


def verdict_on(worse_by: float, interval: list[float], allowed: float) -> str:
    """What a worsening with its interval means; without an interval (one piece, NaN) nothing is clear."""
    if min(interval) > 0:
        return REGRESSION if worse_by > allowed else WORSE
    return BETTER if max(interval) < 0 else UNCLEAR


def _urgency(row: dict[str, Any]) -> tuple[bool, float]:
    """Regressions first, and what is worst by its tolerance first among equals."""
    return row["verdict"] != REGRESSION, -row["worse_by"] / max(row["tolerance"], 1e-9)


def _lost(now: pl.DataFrame, before: pl.DataFrame, pair: tuple[str, str]) -> list[dict[str, str]]:
    pieces = [
        frame.filter(system=name).select("corpus", "piece").unique()
        for frame, name in zip((now, before), pair, strict=True)
    ]
    gone = pieces[1].join(pieces[0], on=["corpus", "piece"], how="anti").sort("corpus", "piece")
    return [{"system": pair[0], "corpus": corpus, "piece": piece} for corpus, piece in gone.iter_rows()]


def headline(verdict: Mapping[str, Any]) -> str:
    """The verdict in a sentence."""
    rows, name = verdict["comparisons"], verdict["baseline"]["name"]
    if not rows:
        return f"All pieces of baseline {name} are lost."
    worse = sum(row["verdict"] == REGRESSION for row in rows)
    compared = f"{len(rows)} figures on {max(len(row['pieces']) for row in rows)} pieces"
    if worse:
        also = " Pieces are lost." if verdict["lost"] else ""
        return f"Worse than baseline {name} beyond tolerance: {worse} of {compared}.{also}"
    if verdict["lost"]:
        return f"Pieces of baseline {name} are lost; no other regression: {compared}."
    return f"No regression against baseline {name}: {compared}."


def told(verdict: Mapping[str, Any], most: int = 3) -> list[str]:
    """What is lost and what got worse beyond tolerance, by how much and where: a line each, the worst first."""
    return [*lost_lines(verdict), *(_line(row, most) for row in verdict["comparisons"] if row["verdict"] == REGRESSION)]


def lost_lines(verdict: Mapping[str, Any], most: int = 5) -> list[str]:
    """Which pieces this run lost, and what to do about it: a line a system."""
    lines = []
    for system in dict.fromkeys(row["system"] for row in verdict["lost"]):
        names = [f"{row['corpus']}/{row['piece']}" for row in verdict["lost"] if row["system"] == system]
        kept = max((len(row["pieces"]) for row in verdict["comparisons"] if row["system"] == system), default=0)
        more = f" and {len(names) - most} more" if len(names) > most else ""
        share = f"{len(names)} of {len(names) + kept} pieces"
        lost = f"{share} of the baseline have no figures of {system} now: {', '.join(names[:most])}{more}"
        lines.append(f"{lost}. {REMEDY}")
    return lines


def _line(row: dict[str, Any], most: int) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    worst = ", ".join(f"{p['corpus']}/{p['piece']} ({p['change']:+.2f})" for p in row["pieces"][:most])
    return (
        f"{row['label']} of {row['system']}: {row['before']:.3f} -> {row['after']:.3f}{unit} "
        f"({row['change']:+.3f}, 95 % {row['low']:+.3f} ... {row['high']:+.3f}; tolerance {row['tolerance']:g}); "
        f"worst on {worst}"
    )
