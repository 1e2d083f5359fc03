"""The report's section on how far performances and their alignments can be trusted: distributions, flags, the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dexter_model.dataset.quality import BOUNDS, CORRUPTED, RECORDINGS, Bound
from dexter_model.report.figures import RENDERS, STYLE, data_uri
from dexter_model.report.html import count, number

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion

Row = dict[str, Any]
WORST = 15  # performances listed
BINS = 40
_TAIL = 0.002  # of the performances on either side may lie in the outermost bins


class _Drawn(NamedTuple):
    """A figure of ``Quality`` as people read it; ``share`` are drawn in percent."""

    name: str
    label: str
    share: bool = True


DRAWN = (
    _Drawn("match_ratio", "matches (% of alignment)"),
    _Drawn("deletion_share", "not played (% of score notes)"),
    _Drawn("insertion_share", "not in the score (% of played)"),
    _Drawn("order_violations", "out of order (% of onsets)"),
    _Drawn("tempo_outliers", "beat period outliers (%)"),
    _Drawn("velocity_sd", "velocity (standard deviation)", share=False),
    _Drawn("pedal_down_share", "pedal down (% of time)"),
    _Drawn("seconds", "length (s)", share=False),
)


def quality_section(data: DatasetVersion) -> Row | None:
    """What the section shows; None for a version whose builder did not measure quality."""
    measured = data.performances.filter(pl.col("flags").is_not_null())
    if measured.is_empty():
        return None
    flagged = measured.filter(pl.col("flags") != "")
    refusals = [*(bound.code for bound in BOUNDS), RECORDINGS[CORRUPTED]]
    refused = data.quarantine.filter(pl.col("code").is_in(refusals))
    summary = (
        f"{number(len(flagged))} of {count(len(measured), 'performance')} carry a flag: worth a look, but in the data "
        f"set. Refused for their quality and in the quarantine: {number(len(refused))}."
    )
    return {
        "summary": summary,
        "figure": distributions(measured),
        "flags": [*(_flag(bound, measured, refused) for bound in BOUNDS), *_recordings(measured, refused)],
        "worst": [_worst(row) for row in worst(flagged).iter_rows(named=True)],
        "unlisted": max(0, len(flagged) - WORST),
    }


def worst(flagged: pl.DataFrame) -> pl.DataFrame:
    """The flagged performances to look at first: most flags, then fewest matches."""
    flags = pl.col("flags").str.count_matches(" ") + 1
    return flagged.sort(flags, "match_ratio", "key", descending=[True, False, False]).head(WORST)


@mpl.rc_context(STYLE)
def distributions(measured: pl.DataFrame) -> str:
    """Histograms of the figures, a colour a corpus, a dashed line where doubt begins and a solid one at refusal."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    grid = figure.subplots(2, 4)
    corpora = sorted(measured["corpus"].unique())
    for axes, drawn in zip(grid.flat, DRAWN, strict=True):
        _histogram(axes, drawn, {corpus: measured.filter(pl.col("corpus") == corpus)[drawn.name] for corpus in corpora})
    for axes in grid[:, 0]:
        axes.set_ylabel("performances")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=6)
    return data_uri(figure, "svg")


def _histogram(axes: Axes, drawn: _Drawn, values: dict[str, pl.Series]) -> None:
    factor = 100.0 if drawn.share else 1.0
    every = factor * np.concatenate([series.to_numpy() for series in values.values()])
    low, high = np.quantile(every, [_TAIL, 1 - _TAIL])
    bounds = [bound for bound in BOUNDS if bound.figure == drawn.name]
    lines = [(style, limit) for b in bounds for style, limit in (("--", b.doubtful), ("-", b.hopeless)) if limit]
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    for place, (corpus, series) in enumerate(values.items()):
        heights = np.histogram(np.clip(factor * series.to_numpy(), edges[0], edges[-1]), edges)[0]
        colour = RENDERS[place % len(RENDERS)]
        axes.stairs(heights, edges, fill=True, color=colour, alpha=0.35)
        axes.stairs(heights, edges, color=colour, linewidth=1.2, label=corpus)
    for style, limit in lines:
        if edges[0] <= factor * limit <= edges[-1]:
            axes.axvline(factor * limit, color="#111827", linestyle=style, linewidth=1)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(drawn.label, fontsize=9)
    axes.margins(x=0.02)


def _flag(bound: Bound, measured: pl.DataFrame, refused: pl.DataFrame) -> Row:
    """One line of ``BOUNDS``: what it says, and how many it struck."""
    return {
        "told": bound.told,
        "doubtful": _limit(bound, bound.doubtful),
        "hopeless": "never" if bound.hopeless is None else _limit(bound, bound.hopeless),
        **_counted(bound.code, measured, refused),
    }


def _recordings(measured: pl.DataFrame, refused: pl.DataFrame) -> list[Row]:
    """What corpora's books say of recordings, a line for each thing that is said of any."""
    rows = [
        {
            "told": "say the corpus's books",
            "doubtful": words,
            "hopeless": "always" if words == CORRUPTED else "never",
            **_counted(code, measured, refused),
        }
        for words, code in RECORDINGS.items()
    ]
    return [row for row in rows if row["flagged"] or row["refused"]]


def _counted(code: str, measured: pl.DataFrame, refused: pl.DataFrame) -> Row:
    flagged = measured.filter(pl.col("flags").str.split(" ").list.contains(code))
    return {"code": code, "flagged": len(flagged), "refused": len(refused.filter(pl.col("code") == code))}


def _limit(bound: Bound, limit: float) -> str:
    share = bound.figure not in ("stuck_keys", "pedal_events", "velocity_sd")
    return f"{'above' if bound.above else 'below'} {f'{limit:.0%}' if share else f'{limit:g}'}"


def _worst(row: Row) -> Row:
    names = ("match_ratio", "deletion_share", "insertion_share", "order_violations", "tempo_outliers")
    figures = [f"{row[name]:.0%}" for name in names]
    return {"corpus": row["corpus"], "performance": row["key"], "figures": figures, "flags": row["flags"].split(" ")}
