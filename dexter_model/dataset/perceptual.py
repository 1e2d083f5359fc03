"""Which perceptual features a build stores: the choice, how it decides results, and the features of one performance.

``csv`` takes the file that the corpus has beside a performance and the estimate where there is none. The two are on
different scales, so every performance records its source, and builds and listings tell when a version holds several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dexter_model.codec.performance_codec import EncodedPerformance
from dexter_model.corpora.sources import PerformanceSource
from dexter_model.digests import file_digest
from dexter_model.errors import InputError
from dexter_model.notes import Performance, Score
from dexter_model.perceptual.cep_csv import load_cep_csv
from dexter_model.perceptual.estimate import SOURCE as ESTIMATE
from dexter_model.perceptual.estimate import estimate_encoded
from dexter_model.perceptual.features import PerceptualFeatures, nothing_known
from dexter_model.places import absolute, copy_of, local
from dexter_model.reading.sandbox import Sandbox
from dexter_model.reading.score import READER_VERSION
from dexter_model.synthesis import instrument, why_silent

if TYPE_CHECKING:
    from dexter_model.dataset.store import DatasetVersion

CHOICES = r"csv|estimate|none|cnn:.+"
DEFAULT = "estimate"


def checked(choice: str) -> str:
    """The choice with its checkpoint's absolute place, after a look at what would refuse every performance alike.

    Raises:
        InputError: the checkpoint cannot be read, or nothing can be synthesised for a network to hear.
    """
    name, _, checkpoint = choice.partition(":")
    if name != "cnn":
        return choice
    from dexter_model.perceptual.cnn import load_network

    load_network(str(local(checkpoint)))
    if why_silent():
        reason = "the network hears sound, and none can be made"
        raise InputError(choice, reason, why_silent().rstrip("."), "no_synthesis")
    return f"cnn:{absolute(checkpoint)}"


def encoder(choice: str) -> dict[str, Any]:
    """What decides a piece's result beside its files: name, version and parameters of what encodes it.

    The version is raised when the codec or a reader of performances or alignments gives other results; the reader of
    scores and the estimator of perceptual features count their own.

    Args:
        choice: ``csv``, ``estimate``, ``none`` or ``cnn:CHECKPOINT``.

    Raises:
        InputError: it is none of these (``perceptual_source``), or the checkpoint cannot be read.
    """
    parameters = {"score_reader": READER_VERSION, "perceptual": _source(choice)}
    return {"name": "performance_codec", "version": 3, "parameters": parameters}


def _source(choice: str) -> str:
    if not re.fullmatch(CHOICES, choice):
        remedy = "Give csv, estimate, cnn:CHECKPOINT or none"
        raise InputError(choice, "is no source of perceptual features", remedy, "perceptual_source")
    name, _, checkpoint = choice.partition(":")
    if name != "cnn":
        return {"csv": f"csv, else {ESTIMATE}", "estimate": ESTIMATE, "none": "none"}[name]
    try:
        return f"cnn:{file_digest(copy_of(checkpoint))[:12]}{instrument()}"
    except OSError as error:
        remedy = "Name the checkpoint's file, or choose --perceptual estimate"
        raise InputError(checkpoint, str(error.strerror), remedy, "perceptual_source") from None


def perceive(
    choice: str,
    source: PerformanceSource,
    performance: Performance,
    encoded: EncodedPerformance,
    score: Score,
    sandbox: Sandbox,
) -> PerceptualFeatures:
    """The perceptual features of a performance as ``choice`` has them, on the clock of ``decode``.

    Files, and estimates, whose size the times in a file decide, are made in the sandbox; networks do not fit in there.

    Args:
        choice: as for ``encoder``.
        source: where it comes from.
        performance: its notes.
        encoded: its codec.
        score: the score that the codec's rows count in.
        sandbox: the child process.

    Raises:
        InputError: the CSV file that is there cannot be read, or the checkpoint.
    """
    if choice == "none":
        return nothing_known()
    if choice.startswith("cnn:"):
        from dexter_model.perceptual.hearing import hear

        return hear(performance, str(copy_of(choice.removeprefix("cnn:")))).shifted(-encoded.start)
    if choice == "csv" and source.features:
        return sandbox.call(load_cep_csv, source.features).shifted(-encoded.start)
    return sandbox.call(_estimate, source.performance, performance, encoded, score)


def _estimate(_path: str, performance: Performance, encoded: EncodedPerformance, score: Score) -> PerceptualFeatures:
    """``estimate_encoded`` with the file that errors of the sandbox name in front."""
    return estimate_encoded(performance, encoded, score)


def refuse_unlearnable(data: DatasetVersion, wanted: str) -> None:
    """Refuse a version for training whose perceptual features are not what a model is to see.

    Args:
        data: the version; performances of the test split are not looked at.
        wanted: ``none``, ``absolute`` or ``delta``: as heard, or beside the deadpan score, which only the estimator
            hears.

    Raises:
        InputError: they come from several sources (``mixed_perceptual``), or from one that knows no deadpan score
            (``no_deadpan``).
    """
    learnt = data.catalogue.filter(data.catalogue["split"] != "test")
    rows = data.performances.join(learnt, left_on=["corpus", "piece"], right_on=["corpus", "key"], how="semi")
    sources = sorted(set(rows["perceptual"]) - {"none"})
    if wanted != "none" and len(sources) > 1:
        reason = f"has perceptual features of several sources, whose scales differ ({', '.join(sources)})"
        remedy = "Build it with --perceptual estimate, or train with -s denoiser.perceptual=none"
        raise InputError(data.url, reason, remedy, "mixed_perceptual")
    if wanted == "delta" and sources and sources != [ESTIMATE]:
        reason = f"has perceptual features of {sources[0]}, which are not known of the deadpan score"
        remedy = "Build it with --perceptual estimate, or train with -s denoiser.perceptual=absolute"
        raise InputError(data.url, reason, remedy, "no_deadpan")


def told_sources(count: Mapping[str, int]) -> str:
    """How many performances have features from which source, in words, with a warning when scales would mix."""
    told = ", ".join(f"{number} {source}" for source, number in count.items()) or "no performance"
    mixed = len(count.keys() - {"none"}) > 1
    return told + (" (several sources: their scales differ, do not train on them together)" if mixed else "")
