"""Generated music beside people's: what tables, the report and the regression gate are made of.

A generator is to be like the corpus that it did not see, no more than people are like each other. So the held-out
pieces are cut in two halves by work, several times, with one performance of each work: everybody is measured against
the first half, and people by the second one. That is the ceiling. Little music is farther from everything, and some
systems have no dynamics, so each has a ceiling of its own beside it: the second half again, cut to as many pieces
and excerpts as it has, at its one velocity if it has one.

Intervals are percentile bootstrap over a system's pieces, moved so that the figure is their mean (fewer different
pieces are always farther from others: resampling adds to a distance); of people the range over the halves. Pieces are
drawn alike for systems of equally many, so that equal music has a difference of 0.

What is judged are excerpts with notes enough, so the share of those is a figure of its own: a generator that falls
silent, or writes files that cannot be read, must not be judged by its better pieces alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dexter_model.errors import InputError
from dexter_model.metrics.generated_copies import LENGTHS, Copied
from dexter_model.metrics.generated_distances import Figures, Reference
from dexter_model.metrics.generated_features import TRAITS, Excerpts, only_velocity

HUMAN = "human"
HALVES = 10
RESAMPLES = 1000
LEAST_WORKS = 4  # two a half: distances between pieces take two
MAIN = ("overlap_area", "js", "copy_rate", "filled")
CEILINGS = ("overlap_area_within_reach", "js_within_reach")  # of the first two, what people reach with as little


class Drawn(NamedTuple):
    """A figure, and what it is of other draws of pieces (n,), or of halves; n is 0 where there is one piece."""

    value: float
    draws: np.ndarray

    def row(self) -> dict[str, float | None]:
        """``mean`` with its 95 % interval, None where it is not known."""
        low, high = np.quantile(self.draws, [0.025, 0.975]) if len(self.draws) else (np.nan, np.nan)
        values = {"mean": self.value, "low": max(float(low), 0.0), "high": float(high)}
        return {name: value if np.isfinite(value) else None for name, value in values.items()}


Table = dict[tuple[str, str], Drawn]  # by feature ('' for a main figure) and measure


@dataclass(frozen=True, eq=False)
class Played:
    """A piece as judged: its name, its work (itself where it is generated), its excerpts and what of it is copied."""

    name: str
    work: str
    excerpts: Excerpts
    copied: Copied


def judged(systems: Mapping[str, Sequence[Played]], held_out: Sequence[Played], seed: int) -> dict[str, Table]:
    """Every figure of every system, and of people (``HUMAN``), who come last.

    Args:
        systems: pieces by name, some of each.
        held_out: people's, which the systems did not learn from.
        seed: of the halves and of the draws.

    Raises:
        InputError: too few works are held out (``no_held_out``).
    """
    halves = [(Reference(ours), theirs) for ours, theirs in _halves(held_out, seed)]
    tables = {}
    for name, pieces in systems.items():
        weights = _weights(len(pieces), seed)
        found = [reference.measure([piece.excerpts for piece in pieces], weights) for reference, _ in halves]
        figures = {key: np.mean([each[key] for each in found], axis=0) for key in found[0]}
        tables[name] = _table(figures) | _copies([piece.copied for piece in pieces], weights)
        tables[name] |= _filled(pieces, weights) | _within_reach([piece.excerpts for piece in pieces], halves)
    people = [reference.measure(theirs, np.ones((1, len(theirs)))) for reference, theirs in halves]
    works = list({piece.work: piece for piece in reversed(held_out)}.values())
    weights = _weights(len(works), seed)
    copies = _copies([piece.copied for piece in works], weights)
    return tables | {HUMAN: _table(_of_halves(people)) | copies | _filled(works, weights)}


def _of_halves(found: Sequence[Figures]) -> Figures:
    """The mean of halves' figures, then each of them."""
    return {
        key: np.concatenate([np.mean([f[key] for f in found], axis=0), *(f[key] for f in found)]) for key in found[0]
    }


def _within_reach(
    pieces: Sequence[Excerpts], halves: Sequence[tuple[Reference, Sequence[Excerpts]]]
) -> dict[tuple[str, str], Drawn]:
    """What people reach with as many pieces of as many excerpts, at one velocity if these have but one."""
    number, velocity = [len(piece) for piece in pieces if len(piece)], only_velocity(pieces)
    if not number:
        return {}
    found = []
    for reference, theirs in halves:
        cut = [piece.first(n) for piece, n in zip(theirs, number, strict=False)]  # fewer, where people have fewer
        played = cut if velocity is None else [piece.without_dynamics(velocity) for piece in cut]
        found.append(reference.measure(played, np.ones((1, len(played)))))
    table = _table(_of_halves(found))
    return {("", ceiling): table["", measure] for ceiling, measure in zip(CEILINGS, MAIN[:2], strict=True)}


def _filled(pieces: Sequence[Played], weights: np.ndarray) -> Table:
    """Share of excerpts with notes enough to be judged; a piece that cannot be read has one, without."""
    full, sparse = (
        np.array(each, float) for each in zip(*((len(p.excerpts), p.excerpts.sparse) for p in pieces), strict=True)
    )
    return {("", "filled"): _drawn(weights @ full / (weights @ (full + sparse)))}


def _halves(held_out: Sequence[Played], seed: int) -> list[tuple[list[Excerpts], list[Excerpts]]]:
    """Halves of the works, one performance of each, drawn several times."""
    of_work: dict[str, list[Excerpts]] = {}
    for piece in held_out:
        if len(piece.excerpts):
            of_work.setdefault(piece.work, []).append(piece.excerpts)
    works = sorted(of_work)
    if len(works) < LEAST_WORKS:
        reason = f"holds music of {len(works)} works, too few to tell how alike people's own works are"
        raise InputError("held-out split", reason, f"Hold out {LEAST_WORKS} works or more", "no_held_out")
    random = np.random.default_rng(seed)
    found = []
    for _ in range(HALVES):
        drawn = [of_work[works[i]] for i in random.permutation(len(works))]
        one = [performances[random.integers(len(performances))] for performances in drawn]
        found.append((one[: len(one) // 2], one[len(one) // 2 :]))
    return found


def _weights(pieces: int, seed: int) -> np.ndarray:
    """How often each piece counts (draws, pieces): once each, then as drawn with replacement."""
    once = np.ones((1, pieces))
    if pieces < 2:
        return once
    drawn = np.random.default_rng(seed).multinomial(pieces, np.full(pieces, 1 / pieces), RESAMPLES)
    return np.concatenate([once, drawn])


def _table(figures: Figures) -> Table:
    """Figures by feature, and the mean over features of those measures that have no unit."""
    table = {key: _drawn(values) for key, values in figures.items()}
    for measure in MAIN[:2]:
        values = np.mean([figures[trait.name, measure] for trait in TRAITS], axis=0)
        table["", measure] = _drawn(values)
    return table


def _drawn(values: np.ndarray) -> Drawn:
    """A figure and its draws, with what resampling added to them on average taken away; to ten decimals, so that the
    last bits, which depend on how a machine adds up, are in no digest.
    """
    values = values.round(10)
    draws = values[1:][np.isfinite(values[1:])]
    return Drawn(float(values[0]), (draws - draws.mean() + values[0]).round(10) if len(draws) else draws)


def _copies(copied: Sequence[Copied], weights: np.ndarray) -> Table:
    """Shares of sequences that training has too; the shorter ones are a main figure."""
    table = {}
    for length in LENGTHS:
        found, number = (np.array([getattr(c, what)[length] for c in copied]) for what in ("found", "sequences"))
        table["copies", str(length)] = _drawn(weights @ found / np.maximum(weights @ number, 1))
    return table | {("", "copy_rate"): table["copies", str(LENGTHS[0])]}


def rows(tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """The tables as JSON values: a row a system, feature (or ``copies``; '' for a main figure) and measure."""
    return [
        {"system": system, "feature": feature, "measure": measure, **drawn.row()}
        for system, table in tables.items()
        for (feature, measure), drawn in table.items()
    ]


def distributions(systems: Mapping[str, Sequence[Played]]) -> dict[str, dict[str, list[float]]]:
    """By feature and system, the share of every bin."""
    found: dict[str, dict[str, list[float]]] = {}
    for trait in TRAITS:
        for system, pieces in systems.items():
            total = np.sum([piece.excerpts.histograms[trait.name].sum(axis=0) for piece in pieces], axis=0)
            found.setdefault(trait.name, {})[system] = (total / max(total.sum(), 1)).round(6).tolist()
    return found
