"""CPU seconds of parsing and encoding aligned corpora, imports excluded, score parsing reported apart.

One process: Vienna 4x22 whole (88 performances) and ASAP's Haydn, Mozart and Schumann (88). Scores are parsed afresh,
each once. With ``--partitura`` the released partitura does the same work in the same run.

    python benchmarks/codec.py --datasets-root DIR [--partitura] [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
import partitura
from partitura.io.importparangonada import load_alignment_from_ASAP

from dexter_model.codec.performance_codec import encode
from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.corpora.sources import PerformanceSource, PieceSource
from dexter_model.dataset.piece import read_performance
from dexter_model.digests import code_version
from dexter_model.reading import score_notes  # noqa: F401 (an import that load_score puts off)
from dexter_model.reading.alignment import score_as_aligned
from dexter_model.reading.score import load_score

# CPU seconds of the original and of partitura, as measured for the specification (section 10) on another machine.
PUBLISHED = {"VIENNA422": {"original": 19.7, "partitura": 23.9}, "ASAP": {"original": 110.0, "partitura": 114.0}}
COMPOSERS = {"ASAP": ("Haydn", "Mozart", "Schumann")}


class Clock(dict[str, float]):
    """CPU seconds of this process by kind of work."""

    def time(self, kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments)
        finally:
            self[kind] = self.get(kind, 0.0) + time.process_time() - start


class Work(NamedTuple):
    """What was encoded, and what it cost."""

    performances: int
    rows: int
    seconds: Clock


def ours(pieces: list[PieceSource]) -> Work:
    clock, rows, performances = Clock(), 0, 0
    for piece in pieces:
        scores: dict[bool, Any] = {}

        def score(unfold: bool, piece: PieceSource = piece, scores: dict[bool, Any] = scores) -> Any:
            if unfold not in scores:
                scores[unfold] = clock.time("scores", lambda: load_score(str(piece.score), unfold=unfold))
            return scores[unfold]

        for source in piece.performances:
            performance, alignment = clock.time("reading", read_performance, source.performance, source.alignment)
            encoded = clock.time("encoding", encode, score_as_aligned(alignment, score), performance, alignment)
            rows, performances = rows + len(encoded.rows), performances + 1
    return Work(performances, rows, clock)


def theirs(pieces: list[PieceSource]) -> Work:
    clock, rows, performances = Clock(), 0, 0
    for piece in pieces:
        unfold = piece.corpus == "ASAP"
        part = clock.time("scores", _partitura_score, str(piece.score), unfold)
        for source in piece.performances:
            performance, alignment = clock.time("reading", _partitura_performance, source)
            codec, _ = clock.time("encoding", partitura.musicanalysis.encode_performance, part, performance, alignment)
            rows, performances = rows + len(codec), performances + 1
    return Work(performances, rows, clock)


def _partitura_score(path: str, unfold: bool) -> Any:
    part = partitura.load_musicxml(path, force_note_ids="keep")[0]
    return partitura.score.unfold_part_maximal(part) if unfold else part


def _partitura_performance(source: PerformanceSource) -> tuple[Any, list[dict]]:
    if source.alignment is None or source.alignment.endswith(".match"):
        return partitura.load_match(source.alignment or source.performance)
    return partitura.load_performance_midi(source.performance), load_alignment_from_ASAP(source.alignment)


def aligned(corpus: str, roots: CorpusRoots) -> list[PieceSource]:
    """The corpus' pieces that have a score, less the performances without alignment."""
    pieces = []
    for piece in discover(corpus, roots):
        whole = tuple(p for p in piece.performances if p.alignment or p.performance.endswith(".match"))
        if piece.score and whole and piece.composer in COMPOSERS.get(corpus, (piece.composer,)):
            pieces.append(PieceSource(**{**vars(piece), "performances": whole}))
    return pieces


def report(corpus: str, name: str, work: Work) -> dict[str, Any]:
    seconds = {kind: round(work.seconds[kind], 2) for kind in ("scores", "reading", "encoding")}
    without = round(work.seconds["reading"] + work.seconds["encoding"], 2)
    row = {"corpus": corpus, "by": name, "performances": work.performances, "rows": work.rows, **seconds}
    row |= {"without_scores": without, "with_scores": round(without + work.seconds["scores"], 2)}
    columns = ("performances", "rows", "reading", "encoding", "without_scores", "scores", "with_scores")
    print(f"{corpus:<10} {name:<10}" + "".join(f"{row[column]:>16}" for column in columns), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--datasets-root", default=os.environ.get("DEXTER_DATASETS_ROOT"), help="folder of the corpora")
    parser.add_argument("--corpus", action="append", choices=list(PUBLISHED), help="default: both")
    parser.add_argument("--partitura", action="store_true", help="time partitura's own codec too (minutes)")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    titles = ("performances", "rows", "reading", "encoding", "without scores", "scores", "with scores")
    print(f"{'CPU seconds':<21}" + "".join(f"{title:>16}" for title in titles))
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DEXTER_CACHE_DIR"] = cache  # no score may come from an earlier run
        for corpus in options.corpus or PUBLISHED:
            pieces = aligned(corpus, CorpusRoots(datasets_root=options.datasets_root))
            rows.append(report(corpus, "dexter", ours(pieces)))
            if options.partitura:
                rows.append(report(corpus, "partitura", theirs(pieces)))
            for name, seconds in PUBLISHED[corpus].items():
                print(f"{corpus:<10} {name:<10}{'(specification, with scores)':>96}{seconds:>16}")
    if options.json:
        about = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "code": code_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "partitura": metadata.version("partitura"),
            },
        }
        with open(options.json, "w") as file:
            json.dump({**about, "published": PUBLISHED, "cpu_seconds": rows}, file, indent=1)


if __name__ == "__main__":
    main()
