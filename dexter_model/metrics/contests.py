"""Who is compared with whom on one piece: the renders, and the references that give their figures a meaning.

Every render is compared with every human performance; of a system with several samples of the piece so is their mean,
as a system of its own. Beside it stand deadpan (the score as written, at the humans' mean tempo), the rule-based
performer, and the human ceiling: each human against the others (leave one out). A render that was made from a human
performance, or to sound like one, is not compared with that one, which would flatter it. On a piece whose performances
are synthetic the rule-based performer made the "humans", so both it and the ceiling say nothing and are left out. Where
real and synthetic performances of one piece meet, the real ones alone are the references.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dexter_model.errors import InputError
from dexter_model.metrics.distributions import Distributions, histograms, jensen_shannon
from dexter_model.metrics.features import Written, written
from dexter_model.metrics.measures import SPACE, Measure, Played, compare
from dexter_model.metrics.renders import Render, played
from dexter_model.metrics.steering import features_of, movements
from dexter_model.notes import Score
from dexter_model.performers import deadpan, kth

if TYPE_CHECKING:
    from dexter_model.dataset.piece import Piece
    from dexter_model.reading.sandbox import Sandbox

DEADPAN, RULES, HUMAN = "deadpan", "rule-based performer", "human"
REFERENCES = (DEADPAN, RULES, HUMAN)


@dataclass(frozen=True, eq=False)
class Contest:
    """One performance of a system, the humans it is compared with, and their keys."""

    system: str
    name: str
    sample: int
    prediction: Played
    humans: Played
    keys: list[str]


@dataclass(frozen=True)
class Refused:
    """A render that could not be compared, and why."""

    system: str
    name: str
    code: str
    reason: str


def is_synthetic(piece: Piece) -> bool:
    """Whether no performance of the piece is a person's."""
    return all(row["synthetic"] for row in piece.performances)


def humans_of(piece: Piece) -> tuple[Played, list[str]]:
    """The performances that a piece's renders are compared with, and their keys: the real ones if there are any."""
    rows = [i for i, row in enumerate(piece.performances) if row["synthetic"] == is_synthetic(piece)]
    everybody = Played(
        piece.performance.astype(float), piece.matched & piece.named, piece.keydown_articulation.astype(float)
    )
    return everybody[np.array(rows)], [piece.performances[i]["key"] for i in rows]


def reference_codec(piece: Piece, system: str) -> np.ndarray:
    """The codec (N, 5) of deadpan or of the rule-based performer, at the mean tempo of the piece's humans."""
    humans, _ = humans_of(piece)
    tempo = float(60.0 / np.mean(humans.codec[..., 0][humans.counts]))
    if system == DEADPAN:
        return deadpan.perform(piece.score, tempo)
    return kth.perform(piece.score, kth.Pianist(RULES, noise=0), tempo)


def contests(piece: Piece, performed: Sequence[tuple[Render, Played]]) -> Iterator[Contest]:
    """Every comparison that a piece takes part in, renders first."""
    humans, keys = humans_of(piece)

    def all_but(known: Iterable[str]) -> tuple[Played, list[str]]:
        rows = [row for row, key in enumerate(keys) if key not in known]
        return humans[np.array(rows)], [keys[row] for row in rows]

    for render, prediction in performed:
        yield Contest(render.system, render.name, render.sample, prediction, *all_but(render.known_performances))
    for system, samples in _of_systems(performed).items():
        if len(samples) > 1:
            name, first = f"{system} mean of {len(samples)}", samples[0][0]  # a system's samples know the same
            mean = mean_of([prediction for _, prediction in samples])
            yield Contest(name, f"mean of {len(samples)} samples", 0, mean, *all_but(first.known_performances))
    if all(np.isnan(prediction.keydown).all() for _, prediction in performed):
        humans = Played(humans.codec, humans.counts, np.full(humans.counts.shape, np.nan))
    for system in (DEADPAN,) if is_synthetic(piece) else (DEADPAN, RULES):
        codec = reference_codec(piece, system).astype(float)[None]
        everywhere = np.ones(codec.shape[:2], bool)
        yield Contest(system, system, 0, Played(codec, everywhere, codec[..., 3]), humans, keys)
    if not is_synthetic(piece) and len(keys) > 1:
        for one, key in enumerate(keys):
            others = np.arange(len(keys)) != one
            rest = [k for k in keys if k != key]
            yield Contest(HUMAN, key, 0, humans[one : one + 1], humans[others], rest)


def _of_systems(performed: Sequence[tuple[Render, Played]]) -> dict[str, list[tuple[Render, Played]]]:
    """The samples of the piece that each system made, in order."""
    found: dict[str, list[tuple[Render, Played]]] = {}
    for one in sorted(performed, key=lambda one: one[0].sample):
        found.setdefault(one[0].system, []).append(one)
    return {render.system: found[render.system] for render, _ in performed}


def mean_of(samples: Sequence[Played]) -> Played:
    """The mean of samples' codecs, which estimates what a sampler expects; of the notes that all of them play."""
    codec, keydown = (np.mean([getattr(s, name) for s in samples], axis=0) for name in ("codec", "keydown"))
    return Played(codec, np.all([s.counts for s in samples], axis=0), keydown)


@dataclass(frozen=True)
class Evaluated:
    """What came out of a piece: rows of measures, distributions of values, renders that could not be compared.

    A row a measure: system, reference (bool), corpus, piece, work, synthetic, render, sample, human (key, or '' for all
    of them), feature, measure, value (NaN: undefined), undefined (why), n, near_zero.
    """

    rows: list[dict[str, Any]]
    distributions: list[Distributions]
    refused: list[Refused]


def evaluate_piece(piece: Piece, renders: Sequence[Render], sandbox: Sandbox, seed: int) -> Evaluated:
    """Every measure of a piece's renders and references."""
    performed, refused = [], []
    for render in renders:
        try:
            if set(humans_of(piece)[1]) <= render.known_performances:
                raise _nothing_else(render)
            performed.append((render, played(render, piece, sandbox)))
        except InputError as error:
            refused.append(Refused(render.system, render.name, error.code, error.reason))
    score = written(piece.score)
    rows: list[dict[str, Any]] = []
    distributions = []
    for contest in contests(piece, performed):
        values = _distributions(piece, score, contest)
        distributions.append(values)
        measures = [*compare(contest.prediction, contest.humans, score, seed), *_divergences(values)]
        rows += _rows(piece, contest, measures)
    rows += _of_steering(piece, [(render, prediction) for render, prediction in performed if render.steered])
    return Evaluated(rows, distributions, refused)


def _of_steering(piece: Piece, steered: Sequence[tuple[Render, Played]]) -> Iterator[dict[str, Any]]:
    """What is heard of the steering of renders; what is heard of the humans, which takes longest, once for all."""
    if not steered:
        return
    notes, (humans, keys) = Score(piece.note_id, piece.score), humans_of(piece)
    people = features_of(humans, notes)
    for render, prediction in steered:
        others = people[[row for row, key in enumerate(keys) if key not in render.known_performances]]
        contest = Contest(render.system, render.name, render.sample, prediction, humans, keys)
        yield from _rows(piece, contest, movements(features_of(prediction, notes), others, render.steered))


def _nothing_else(render: Render) -> InputError:
    reason = "was made from or like the only performance of its piece: there is none to compare it with"
    return InputError(render.name, reason, "Render pieces with several performances (--paired)", "no_other_performance")


def _distributions(piece: Piece, score: Written, contest: Contest) -> Distributions:
    by_key = bool(np.isfinite(contest.prediction.keydown).any())
    ours, theirs = (
        histograms(played.codec, played.counts, score, played.keydown if by_key else None)
        for played in (contest.prediction, contest.humans)
    )
    return Distributions(contest.system, (piece.corpus, piece.key), is_synthetic(piece), ours, theirs)


def _divergences(found: Distributions) -> Iterator[Measure]:
    for name in filter(found.theirs.__contains__, found.ours):
        value = jensen_shannon(found.ours[name], found.theirs[name])
        yield Measure(SPACE, name, "js", value, round(float(found.ours[name].sum())))


def _rows(piece: Piece, contest: Contest, measures: Iterable[Measure]) -> Iterator[dict[str, Any]]:
    about = {
        "system": contest.system,
        "reference": contest.system in REFERENCES,
        "corpus": piece.corpus,
        "piece": piece.key,
        "work": piece.work,
        "synthetic": is_synthetic(piece),
        "render": contest.name,
        "sample": contest.sample,
    }
    for measure in measures:
        yield {
            **about,
            "human": "" if measure.human == SPACE else contest.keys[measure.human],
            "feature": measure.feature,
            "measure": measure.name,
            "value": measure.value,
            "undefined": measure.undefined,
            "n": measure.n,
            "near_zero": measure.near_zero,
        }
