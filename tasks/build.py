"""One unit of work: a data set version from the files of corpora, encoded piece by piece over Ray actors.

The unit of fan-out is a shard of pieces, cut by the plan: the actor that encodes it writes it, so that arrays never
pass through the driver, and a shard that was committed survives a kill.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from dexter_model.corpora.sources import PieceSource
from dexter_model.dataset.build import Build, Tables, building, gathered, rows_in, shard_name, write_shard
from dexter_model.dataset.encodings import Encoding
from dexter_model.dataset.packing import quarantine_rows
from dexter_model.dataset.piece import Quarantined
from dexter_model.dataset.plan import CODECS, Plan, Run, cut_shards, plan_build, source_bytes
from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.errors import InputError
from dexter_model.places import absolute
from dexter_model.reading.sandbox import Sandbox
from dexter_model.tally import count
from tasks.cluster import WorkerDied, fan_out
from tasks.orchestration import task
from tasks.progress import bar
from tasks.telemetry import bound

if TYPE_CHECKING:
    from icechunk import ForkSession

log = logging.getLogger(__name__)

Shards = dict[str, tuple[Run, ...]]
WORTH_RAY = 16 << 20  # bytes of alignments: less is encoded sooner than a local Ray has started


@dataclass(frozen=True)
class BuildResult:
    """What a build did, or would do. Performances: ``discovered`` = ``built`` + ``quarantined``.

    Attributes:
        version: id of the version that now is the current one; None when a dry run found no version.
        digest: its content digest.
        discovered, built, quarantined: performances in the corpora, in the version, and refused.
        pieces: pieces in the version.
        runs: corpus, piece and reason of every piece that was encoded (or would be).
        resumed: how many of those an interrupted build had finished already.
        unchanged: pieces that stayed as they were.
        removed: corpus and key of pieces of the version before that are in no corpus any more.
        resplit: corpus and key of pieces that the version before had in another split than the rule of today.
        codes: performances in quarantine by reason code.
        perceptual: performances in the version by the source of their perceptual features.
        seconds: wall time.
    """

    version: str | None
    digest: str | None
    discovered: int
    built: int
    quarantined: int
    pieces: int
    runs: list[tuple[str, str, str]]
    resumed: int
    unchanged: int
    removed: list[tuple[str, str]]
    resplit: list[tuple[str, str]]
    seconds: float
    codes: dict[str, int] = field(default_factory=dict)
    perceptual: dict[str, int] = field(default_factory=dict)


@task(name="build data set")
def build_dataset(
    sources: Iterable[PieceSource],
    url: str,
    *,
    encoding: Encoding = CODECS,
    workers: int | None = None,
    retry_quarantined: bool = False,
    verify: bool = False,
    dry_run: bool = False,
) -> BuildResult:
    """Make the data set at ``url`` hold exactly these pieces, encoding what changed alone, split by today's rule.

    Args:
        sources: every piece the version is to hold; pieces of the version before that are not among them are left out.
        url: a folder or ``s3://bucket/prefix``.
        encoding: what the data set is to hold of them.
        workers: Ray actors; 0 works in this process, None takes as many as there are CPUs if Ray is worth starting.
        retry_quarantined: try everything in quarantine again, not only what may have passed.
        verify: read every file instead of trusting size and modification time.
        dry_run: only tell what would run, and why.

    Raises:
        InputError: another build is writing the store (``store_busy``), the URL is no place for one, or the encoding
            has no such perceptual features.
    """
    started = time.monotonic()
    encoding = encoding.checked()
    sources, url, made_by = encoding.sources(sources), absolute(url), encoding.described()
    planned = partial(plan_build, sources, encoding=encoding, retry_quarantined=retry_quarantined, verify=verify)
    if dry_run:
        version = _version_if_any(url)
        return _result(sources, planned(version), version, 0, started)
    with building(url) as build:
        plan = planned(build.current)
        version, resumed = build.current, 0
        if version is None or not plan.changes_nothing:
            kept = build.carry_over(set(plan.unchanged))
            encoded, resumed = _encode(build, plan.runs, encoding, workers)
            version = build.publish(gathered([kept, *encoded]), made_by)
            log.info("version published", extra={"store": url, "version": version.id, "digest": version.digest})
    return _result(sources, plan, version, resumed, started)


class ShardEncoder:
    """A worker: encodes the pieces of a shard and writes them into a fork of the build branch."""

    def __init__(self, url: str, encoding: Encoding) -> None:
        self.url = url
        self.encoding = encoding.checked()  # here: it fetches what it names
        self.sandbox = Sandbox()

    def run(self, job: tuple[str, Sequence[Run]]) -> tuple[ForkSession, Tables]:
        """Encode and write a shard; whoever holds the build commits the fork. And the shard's table rows."""
        shard, runs = job
        encoded = [self._encoded(run.source) for run in runs]
        pieces = [piece for piece, _ in encoded if piece is not None]
        quarantined = [item for _, items in encoded for item in items]
        fork = write_shard(self.url, shard, pieces, quarantined, [run.source_row() for run in runs])
        return fork, rows_in(fork, shard)

    def _encoded(self, source: PieceSource) -> tuple[Any, list[Quarantined]]:
        with bound(corpus=source.corpus, piece=source.key):
            piece, quarantined = self.encoding.encode(source.fetched(), self.sandbox)
            for item in quarantined:
                told = {"performance": item.performance, "code": item.code, "reason": item.reason}
                log.info("performance quarantined", extra=told)
        return piece, quarantined

    def close(self) -> None:
        """End the child process that parses."""
        self.sandbox.close()


def _encode(build: Build, runs: Sequence[Run], encoding: Encoding, workers: int | None) -> tuple[list[Tables], int]:
    """Table rows of the pieces that run, and how many of these an interrupted build had finished."""
    finished = build.finished_shards()
    wanted = _named(cut_shards(runs))
    done = [build.manifest(shard) for shard in wanted if shard in finished]
    left = {shard: members for shard, members in wanted.items() if shard not in finished}
    resumed = len(runs) - sum(map(len, left.values()))
    if workers is None and sum(source_bytes(run.source) for members in left.values() for run in members) < WORTH_RAY:
        workers = 0
    with bar("Encoding pieces", len(runs)) as advance_to:
        advance_to(resumed)
        for tables in _encode_shards(build, left, partial(ShardEncoder, build.url, encoding), workers):
            done.append(tables)
            count("pieces_done", len(tables["sources"]), work="build")
            for row in tables["quarantine"]:
                count("quarantined", work="build", code=row["code"])
            advance_to(sum(len(tables["sources"]) for tables in done))
    return done, resumed


def _encode_shards(
    build: Build, shards: Shards, encoders: Callable[[], ShardEncoder], workers: int | None
) -> Iterable[Tables]:
    """Encode shards and commit them as they finish; pieces whose worker died three times run once more, each alone.

    Commits take at most half the time: what finishes in the other half goes into the next one.
    """
    names = list(shards)
    alone: list[tuple[Run, ...]] = []
    written: dict[str, tuple[ForkSession, Tables]] = {}
    again = 0.0
    for index, outcome in fan_out(encoders, list(shards.items()), workers=workers, shared=[build.url]):
        members = shards[names[index]]
        if not isinstance(outcome, WorkerDied):
            written[names[index]] = outcome
        elif len(members) == 1:
            yield _worker_died(members[0], outcome)
        else:
            alone += [(run,) for run in members]
        if written and (began := time.monotonic()) >= again:
            yield from _committed(build, written)
            written.clear()
            again = 2 * time.monotonic() - began
    if written:
        yield from _committed(build, written)
    if alone:
        yield from _encode_shards(build, _named(alone), encoders, workers)


def _committed(build: Build, written: dict[str, tuple[ForkSession, Tables]]) -> list[Tables]:
    """Commit shards; their table rows."""
    build.commit_all({shard: fork for shard, (fork, _) in written.items()})
    for shard, (_, rows) in written.items():
        log.info("shard committed", extra={"shard": shard, "pieces": len(rows["sources"])})
    return [rows for _, rows in written.values()]


def _named(shards: Iterable[tuple[Run, ...]]) -> Shards:
    return {shard_name(run.name for run in members): members for members in shards}


def _worker_died(run: Run, died: WorkerDied) -> Tables:
    """Rows of a piece that nobody survived encoding."""
    remedy = "Look at the piece's files; the next build tries again"
    told = (run.source.corpus, run.source.key)
    quarantined = [
        Quarantined(*told, performance.key, "worker_died", "its worker died three times", remedy, "", died.reason)
        for performance in run.source.performances
    ]
    return {
        "catalogue": [],
        "performances": [],
        "quarantine": quarantine_rows(quarantined),
        "sources": [run.source_row()],
    }


def _version_if_any(url: str) -> DatasetVersion | None:
    try:
        return open_version(url)
    except InputError as error:
        if error.code == "no_dataset":
            return None
        raise


def _result(
    sources: Sequence[PieceSource], plan: Plan, version: DatasetVersion | None, resumed: int, started: float
) -> BuildResult:
    return BuildResult(
        version=version.id if version else None,
        digest=version.digest if version else None,
        discovered=sum(len(source.performances) for source in sources),
        built=version.performances.height if version else 0,
        quarantined=version.quarantine.height if version else 0,
        pieces=version.catalogue.height if version else 0,
        runs=[(run.source.corpus, run.source.key, run.reason) for run in plan.runs],
        resumed=resumed,
        unchanged=len(plan.unchanged),
        removed=list(plan.removed),
        resplit=list(plan.resplit),
        seconds=round(time.monotonic() - started, 3),
        codes=dict(sorted(Counter(version.quarantine["code"]).items())) if version else {},
        perceptual=dict(Counter(version.performances["perceptual"]).most_common()) if version else {},
    )
