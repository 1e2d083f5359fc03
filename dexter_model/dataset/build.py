"""Writing a data set: shards grow on a branch that nobody reads, and one atomic step publishes them as a version.

A shard's name is the digest of what goes into it, so a build that was killed finds the shards it had finished and goes
on with the others. Workers write chunks into forks of the branch; the one process that holds the build commits them.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import icechunk
import numpy as np
import polars as pl
import zarr

from dexter_model.dataset.packing import TABLES, Row, describe, pack, quarantine_rows, write_array
from dexter_model.dataset.perceptual import DEFAULT, encoder
from dexter_model.dataset.piece import Piece, Quarantined
from dexter_model.dataset.recordings import Recording
from dexter_model.dataset.repository import (
    BUILD,
    FORMAT,
    MAIN,
    create_repository,
    local_folder,
    open_repository,
    patiently,
    root,
)
from dexter_model.dataset.splits import split_of_works
from dexter_model.dataset.store import DatasetVersion, current_version, read_array, root_group
from dexter_model.digests import json_digest
from dexter_model.errors import InputError
from dexter_model.tally import count

Tables = dict[str, list[Row]]
Place = tuple[str, str]  # corpus and key of a piece
CONTENT = "dexter-dataset-2"  # what a version holds, in whatever format its shards are
ALIVE = 0.5  # a shard less of which is in use is written anew
SHARD_CELLS = 400_000  # in a shard written anew: some 10 MB
SMALL, MANY_SMALL = SHARD_CELLS // 4, 8  # so many shards with fewer cells in use are put together
_VERSION = "version "  # begins the message of the commit of a version


class Build:
    """A build under way; ``building`` makes it. Only one at a time commits to a store."""

    def __init__(self, url: str, repository: icechunk.Repository) -> None:
        self.url = url
        self.repository = repository
        self.current: DatasetVersion | None = current_version(repository, url)
        self._main = repository.lookup_branch(MAIN)
        if self.current is not None:
            self._tag(self.current.id, self._main)
        self._resume_or_start()
        self._tip = repository.lookup_branch(BUILD)

    def finished_shards(self) -> set[str]:
        """Names of the shards on the build branch: of the current version, and finished by a build that was killed."""
        return patiently(self.url, self._finished_shards)

    def _finished_shards(self) -> set[str]:
        group = root_group(self.repository, BUILD)
        return _shards(group) if group is not None else set()

    def commit(self, fork: icechunk.ForkSession, shard: str) -> None:
        """Keep a shard that a worker wrote.

        Raises:
            InputError: another build committed meanwhile (``store_busy``).
        """
        self.commit_all({shard: fork})

    def commit_all(self, forks: Mapping[str, icechunk.ForkSession]) -> None:
        """Keep shards that workers wrote, by name; a commit costs by what the store holds, hardly by what is added."""

        def merged() -> icechunk.Session:
            session = self._session()
            session.merge(*forks.values())
            return session

        self._commit(merged, f"shard {', '.join(forks)}")

    def manifest(self, shard: str) -> Tables:
        """The table rows of a finished shard."""
        return patiently(self.url, lambda: self._manifest(shard))

    def _manifest(self, shard: str) -> Tables:
        group = root_group(self.repository, BUILD)
        assert group is not None
        return json.loads(read_array(group, f"shards/{shard}/manifest").tobytes())

    def carry_over(self, pieces: set[Place]) -> Tables:
        """The table rows of pieces that stay as they are; from shards mostly dead, or many small ones, they move."""
        if self.current is None:
            return gathered([])
        rows = _rows_of(self.current, pieces)
        left = self.current.thin_shards(rows["catalogue"], ALIVE) | _small_shards(rows["catalogue"])
        moving = sorted((row for row in rows["catalogue"] if row["shard"] in left), key=lambda row: row["shard"])
        staying = pieces - set(map(_place, moving))
        return gathered([_rows_of(self.current, staying), *(self._move(self.current, part) for part in _cut(moving))])

    def _move(self, version: DatasetVersion, catalogue: list[Row]) -> Tables:
        """Copy pieces into a shard of their own, if that was not done already; their table rows."""
        shard = shard_name(row["digest"] for row in catalogue)
        if shard not in self.finished_shards():
            pieces: Any = [version.item(*_place(row)) for row in catalogue]
            rows = _rows_of(version, set(map(_place, catalogue)))
            quarantined = [Quarantined(**row) for row in rows["quarantine"]]
            self.commit(write_shard(self.url, shard, pieces, quarantined, rows["sources"]), shard)
        return self.manifest(shard)

    def publish(self, tables: Tables, made_by: Mapping[str, Any] | None = None) -> DatasetVersion:
        """Make a version of table rows whose shards are finished; readers see it from one moment to the next.

        Nothing is published when the content is that of the current version.

        Args:
            tables: the rows.
            made_by: name, version and parameters of what encoded the pieces; default a build's with its defaults.

        Raises:
            InputError: another build published meanwhile (``store_busy``), or nothing was built nor quarantined
                (``no_pieces``).
        """
        frames = _finish(tables)
        if frames["catalogue"].is_empty() and frames["quarantine"].is_empty():
            remedy = "Name a corpus that holds performances"
            raise InputError(self.url, "there is nothing to build: no piece has a performance", remedy, "no_pieces")
        made_by = dict(made_by or encoder(DEFAULT))
        digest = content_digest(frames, made_by)
        now = self.current
        if now is not None and now.digest == digest and now.sources.equals(frames["sources"]):
            self._point(BUILD, self._tip, self._main)  # what failed once more is not done: the next build tries again
            self._tip = self._main
            return now
        version = f"v{1 + max((int(tag[1:]) for tag in patiently(self.url, self.repository.list_tags)), default=0)}"
        attributes: dict[str, Any] = {"format": FORMAT, "version": version, "digest": digest, "encoder": made_by}
        attributes["follows"] = now.id if now else None
        snapshot = self._commit(lambda: self._written(frames, attributes), f"{_VERSION}{version}")
        self._point(MAIN, self._main, snapshot)
        patiently(self.url, lambda: self._tag(version, snapshot))
        store = patiently(self.url, lambda: root(self.repository.readonly_session(snapshot_id=snapshot).store))
        return DatasetVersion(self.url, store)

    def _written(self, frames: Mapping[str, pl.DataFrame], attributes: Mapping[str, Any]) -> icechunk.Session:
        """A session that holds a version, without the shards it left behind."""
        session = self._session()
        everything = root(session.store, "a")
        for dead in _shards(everything) - set(frames["catalogue"]["shard"]):
            del everything[f"shards/{dead}"]
        for name, frame in frames.items():
            _write_table(everything, name, frame)
        everything.attrs.update(attributes)
        return session

    def roll_back(self, version: str) -> None:
        """Make a version that was published before the current one; readers see it from one moment to the next.

        Raises:
            InputError: another build published meanwhile (``store_busy``).
        """
        snapshot = patiently(self.url, lambda: self.repository.lookup_tag(version))
        self._point(MAIN, self._main, snapshot)

    def _session(self) -> icechunk.Session:
        """A session on top of this build's last commit, if that still is the last one."""
        session = self.repository.writable_session(BUILD)
        if session.snapshot_id != self._tip:
            raise _busy(self.url)
        return session

    def _commit(self, changed: Callable[[], icechunk.Session], message: str) -> str:
        """Put what a session changed on top of the build branch.

        In two steps, so that it is known which snapshot is ours: a commit whose answer was lost is found again.
        """
        snapshot = patiently(self.url, lambda: changed().flush(message))
        self._point(BUILD, self._tip, snapshot)
        self._tip = snapshot
        return snapshot

    def _point(self, branch: str, before: str, to: str) -> None:
        """Move a branch that nobody else moved; a try whose answer was lost may have done it already."""

        def move() -> None:
            now = self.repository.lookup_branch(branch)
            if now not in (before, to):
                raise _busy(self.url)
            if now != to:
                self.repository.reset_branch(branch, to, from_snapshot_id=before)

        patiently(self.url, move)

    def _tag(self, version: str, snapshot: str) -> None:
        # A build killed between publishing and tagging leaves this to the next one.
        if version not in self.repository.list_tags():
            self.repository.create_tag(version, snapshot)

    def _resume_or_start(self) -> None:
        """Go on with the build branch if it grew from the current version, else begin it there.

        A version is committed without the shards it left behind. Where one was committed on top of the current version
        (and rolled back, or killed before it was published), the branch goes back to before that commit: every shard
        the current version needs is there, and what was encoded since is found again.
        """
        if BUILD not in self.repository.list_branches():
            self.repository.create_branch(BUILD, self._main)
            return
        tip = onto = self.repository.lookup_branch(BUILD)
        for snapshot in self.repository.ancestry(snapshot_id=tip):
            if snapshot.id == self._main:
                break
            if snapshot.message.startswith(_VERSION) and snapshot.parent_id:
                onto = snapshot.parent_id
        else:
            onto = self._main
        if onto != tip:
            self.repository.reset_branch(BUILD, onto, from_snapshot_id=tip)  # unless another build commits meanwhile


@contextlib.contextmanager
def building(url: str) -> Iterator[Build]:
    """Begin or resume the build of a store.

    In a folder a lock file keeps a second build out. On S3 whichever build finds a commit that is not its own stops,
    and the other goes on; a lease with a heartbeat would stop it sooner, and keep everybody out for minutes after a
    kill. What it would save is the shards at work at that moment, since those committed are found again; schedules
    have Prefect's limit of one build a store besides.

    Raises:
        InputError: another build is at work (``store_busy``), or the URL is no place for a store.
    """
    with locked(url):
        create_repository(url)
        repository = open_repository(url)
        yield patiently(url, lambda: Build(url, repository))


@contextlib.contextmanager
def locked(url: str) -> Iterator[None]:
    """Keep others from writing a store in a folder; the kernel ends it with the process. At S3 it does nothing.

    Raises:
        InputError: somebody else writes it (``store_busy``).
    """
    folder = local_folder(url)
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(url) from None
        yield


def shard_name(results: Iterable[str]) -> str:
    """Name of the shard that holds the pieces with these result digests."""
    return json_digest(sorted(results))[:20]


def write_shard(
    url: str,
    shard: str,
    pieces: Sequence[Piece] | Sequence[Recording],
    quarantined: Sequence[Quarantined],
    sources: Sequence[Row],
) -> icechunk.ForkSession:
    """Write a shard's arrays and table rows into a fork of the build branch; ``Build.commit`` makes them last.

    Safe in any process at the same time as others: it only adds chunks, which nothing refers to yet.
    """
    repository = open_repository(url)
    rows = describe(pieces, shard) | {"quarantine": quarantine_rows(quarantined), "sources": list(sources)}
    arrays = pack(pieces) | {"manifest": np.frombuffer(json.dumps(rows).encode(), np.uint8)}

    def write() -> icechunk.ForkSession:
        fork = repository.writable_session(BUILD).fork()
        group = root(fork.store, "a").require_group("shards").create_group(shard)
        for name, array in arrays.items():
            write_array(group, name, array)
        count("store_bytes", sum(array.nbytes for array in arrays.values()), direction="written")
        return fork

    return patiently(url, write)


def rows_in(fork: icechunk.ForkSession, shard: str) -> Tables:
    """The table rows of a shard, in the fork that it was written to."""
    return json.loads(read_array(zarr.open_group(fork.store, mode="r"), f"shards/{shard}/manifest").tobytes())


def gathered(parts: Iterable[Tables]) -> Tables:
    """Table rows of several parts of a version together."""
    parts = list(parts)
    return {name: [row for part in parts for row in part[name]] for name in TABLES}


def _rows_of(version: DatasetVersion, pieces: set[Place]) -> Tables:
    """The table rows of pieces of a version."""
    keys = {name: "piece" if "piece" in columns else "key" for name, columns in TABLES.items()}
    return {
        name: [row for row in getattr(version, name).iter_rows(named=True) if (row["corpus"], row[key]) in pieces]
        for name, key in keys.items()
    }


def _place(row: Row) -> Place:
    return row["corpus"], row["key"]


def _small_shards(catalogue: list[Row]) -> set[str]:
    """Small shards, when many small additions have made many of them."""
    used: Counter[str] = Counter()
    for row in catalogue:
        used[row["shard"]] += row["notes"] * row["performances"]
    small = {shard for shard, cells in used.items() if cells < SMALL}
    return small if len(small) >= MANY_SMALL else set()


def _cut(catalogue: list[Row]) -> Iterator[list[Row]]:
    """Catalogue rows in parts of at most ``SHARD_CELLS``, or of one piece."""
    part: list[Row] = []
    cells = 0
    for row in catalogue:
        size = row["notes"] * row["performances"]
        if part and cells + size > SHARD_CELLS:
            yield part
            part, cells = [], 0
        part.append(row)
        cells += size
    if part:
        yield part


def content_digest(tables: dict[str, pl.DataFrame], made_by: Mapping[str, Any]) -> str:
    """Digest of a version's content: independent of shards, of the order of work and of the wording of failures."""
    pieces = tables["catalogue"].select("corpus", "key", "split", "digest").rows()
    quarantined = tables["quarantine"].select("corpus", "piece", "performance", "code", "digest").rows()
    return json_digest({"format": CONTENT, "encoder": made_by, "pieces": pieces, "quarantined": quarantined})


def _finish(tables: Tables) -> dict[str, pl.DataFrame]:
    """Rows as sorted tables, with the split of every piece."""
    splits = split_of_works(row["work"] for row in tables["catalogue"])
    catalogue = [row | {"split": row.get("assigned") or splits[row["work"]]} for row in tables["catalogue"]]
    rows = tables | {"catalogue": catalogue}
    frames = {name: pl.DataFrame(rows[name], schema=schema) for name, schema in TABLES.items()}
    order = {
        "catalogue": ["key"],
        "sources": ["key"],
        "performances": ["piece", "row"],
        "quarantine": ["piece", "performance"],
    }
    return {name: frame.sort("corpus", *order[name]) for name, frame in frames.items()}


def _shards(group: zarr.Group) -> set[str]:
    shards: Any = group.get("shards")
    return set(shards.group_keys()) if shards is not None else set()


def _write_table(group: zarr.Group, name: str, table: pl.DataFrame) -> None:
    file = io.BytesIO()
    table.write_parquet(file)
    data = np.frombuffer(file.getvalue(), np.uint8)
    group.require_group("tables").create_array(name, data=data, chunks=data.shape, overwrite=True)


def _busy(url: str) -> InputError:
    return InputError(url, "another build is writing this store", "Wait until it has finished", "store_busy")
