"""The versions of a data set over time: what each holds, how two differ, and going back to an earlier one.

Going back moves one pointer. Every version stays under its name, which is never given again, and the next build grows
from the version that is current then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from logging import getLogger
from typing import Any

import icechunk
import polars as pl

from dexter_model.dataset.build import building
from dexter_model.dataset.plan import reason_to_run
from dexter_model.dataset.repository import MAIN, open_repository, root, storage_errors
from dexter_model.dataset.store import DatasetVersion, open_version

Place = tuple[str, str]  # corpus and key
PIECE = ["corpus", "key"]


@dataclass(frozen=True)
class LoggedVersion:
    """A version in the log. ``added``, ``removed``, ``changed`` and ``resplit`` count pieces against ``follows``.

    Attributes:
        id, digest, encoder: as ``store.DatasetVersion`` has them.
        published: when.
        current: whether it is what readers get who name no version.
        follows: the version that its build began with; None for the first.
        pieces, performances, quarantined: how many it holds; the last two count performances.
        rows: score notes times performances.
        shards_written: shards that the version before does not have.
    """

    id: str
    published: datetime
    digest: str
    encoder: Mapping[str, Any]
    current: bool
    follows: str | None
    pieces: int
    performances: int
    quarantined: int
    rows: int
    added: int
    removed: int
    changed: int
    resplit: int
    shards_written: int


@dataclass(frozen=True)
class Difference:
    """What another version has otherwise. Pieces and performances are (corpus, key).

    Attributes:
        before, after: ids of the versions.
        same: whether their content digests are equal.
        added, removed: pieces.
        changed: pieces whose arrays or attributes differ, each with what is known of why.
        resplit: pieces on another side, each with the split before and after.
        performances_added, performances_removed: performances, those of new and removed pieces included.
        quarantined: performances that are in quarantine and were not, or for another reason, each with its code.
        released: performances that were in quarantine and are not, or for another reason.
        encoder: parameters of encoding that differ, before and after.
    """

    before: str
    after: str
    same: bool
    added: list[Place] = field(default_factory=list)
    removed: list[Place] = field(default_factory=list)
    changed: list[tuple[str, str, str]] = field(default_factory=list)
    resplit: list[tuple[str, str, str, str]] = field(default_factory=list)
    performances_added: list[Place] = field(default_factory=list)
    performances_removed: list[Place] = field(default_factory=list)
    quarantined: list[tuple[str, str, str]] = field(default_factory=list)
    released: list[tuple[str, str, str]] = field(default_factory=list)
    encoder: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def log(url: str, limit: int | None = None) -> list[LoggedVersion]:
    """The versions of a data set, newest first.

    Args:
        url: a folder or ``s3://bucket/prefix``.
        limit: only so many.

    Raises:
        InputError: no data set there (``no_dataset``).
    """
    current, repository = open_version(url), open_repository(url)
    with storage_errors(url):
        names = sorted(repository.list_tags(), key=_number, reverse=True)
        opened: dict[str, DatasetVersion] = {}
        logged = []
        for name in names[:limit]:
            after = _open(repository, url, name, opened)
            follows = after.follows if after.follows in names else _older(names, name)
            before = _open(repository, url, follows, opened) if follows else None
            published = repository.lookup_snapshot(repository.lookup_tag(name)).written_at
            logged.append(_logged(after, before, published, current=name == current.id))
            opened = {
                each.id: each for each in (after, before) if each
            }  # tables of 100,000 pieces: no more than needed
    return logged


def published(url: str) -> datetime:
    """When the current version of a data set was published.

    Raises:
        InputError: no data set there (``no_dataset``).
    """
    repository = open_repository(url)
    with storage_errors(url):
        return repository.lookup_snapshot(repository.lookup_branch(MAIN)).written_at


def _older(names: list[str], name: str) -> str | None:
    """The version numbered before; of a version whose build did not tell what it follows."""
    return next(iter(names[names.index(name) + 1 :]), None)


def _number(tag: str) -> int:
    return int(tag[1:])


def _open(repository: icechunk.Repository, url: str, name: str, opened: Mapping[str, DatasetVersion]) -> DatasetVersion:
    session = repository.readonly_session(tag=name)
    return opened.get(name) or DatasetVersion(url, root(session.store))


def _logged(
    after: DatasetVersion, before: DatasetVersion | None, published: datetime, *, current: bool
) -> LoggedVersion:
    now = after.catalogue
    then = before.catalogue if before else now.clear()
    both = _both(then, now)
    return LoggedVersion(
        id=after.id,
        published=published,
        digest=after.digest,
        encoder=after.encoder,
        current=current,
        follows=before.id if before else None,
        pieces=now.height,
        performances=int(now["performances"].sum()),
        quarantined=after.quarantine.height,
        rows=int((now["notes"] * now["performances"]).sum()),
        added=now.join(then, on=PIECE, how="anti").height,
        removed=then.join(now, on=PIECE, how="anti").height,
        changed=both.filter(pl.col("digest") != pl.col("digest_now")).height,
        resplit=both.filter(pl.col("split") != pl.col("split_now")).height,
        shards_written=len(set(now["shard"]) - set(then["shard"])),
    )


def _both(then: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Rows of pieces that two catalogues have, columns of the second with ``_now``."""
    return then.join(now, on=PIECE, suffix="_now").sort(PIECE)


def diff(url: str, before: str, after: str | None = None) -> Difference:
    """What a version has otherwise than another.

    Args:
        url: a folder or ``s3://bucket/prefix``.
        before: a version, ``v1``.
        after: another; the current one when None.

    Raises:
        InputError: no data set there (``no_dataset``), or no such version (``no_version``).
    """
    old, new = open_version(url, before), open_version(url, after)
    then, now = old.catalogue, new.catalogue
    both = _both(then, now)
    moved = both.filter(pl.col("split") != pl.col("split_now"))
    played = [version.performances.select("corpus", key="key").sort(PIECE) for version in (old, new)]
    refused = [version.quarantine.select("corpus", "performance", "code") for version in (old, new)]
    refused_at = ["corpus", "performance", "code"]
    return Difference(
        before=old.id,
        after=new.id,
        same=old.digest == new.digest,
        added=_places(now.join(then, on=PIECE, how="anti")),
        removed=_places(then.join(now, on=PIECE, how="anti")),
        changed=_changed(old, new, _places(both.filter(pl.col("digest") != pl.col("digest_now")))),
        resplit=moved.select(*PIECE, "split", "split_now").rows(),
        performances_added=_places(played[1].join(played[0], on=PIECE, how="anti")),
        performances_removed=_places(played[0].join(played[1], on=PIECE, how="anti")),
        quarantined=refused[1].join(refused[0], on=refused_at, how="anti").sort(refused_at).rows(),
        released=refused[0].join(refused[1], on=refused_at, how="anti").sort(refused_at).rows(),
        encoder=_encoder_changes(old.encoder, new.encoder),
    )


def _places(frame: pl.DataFrame) -> list[Place]:
    return frame.select(PIECE).sort(PIECE).rows()


def _changed(old: DatasetVersion, new: DatasetVersion, pieces: list[Place]) -> list[tuple[str, str, str]]:
    """Pieces that changed with the reason, as far as their sources tell one."""
    wanted = pl.DataFrame(pieces, schema={"corpus": str, "key": str}, orient="row")
    told = [
        {
            (row[0], row[1]): json.loads(row[2])
            for row in version.sources.join(wanted, on=PIECE).select(*PIECE, "fingerprint").rows()
        }
        for version in (old, new)
    ]
    return [(*piece, _why(told[0].get(piece), told[1].get(piece))) for piece in pieces]


def _why(before: Any, now: Any) -> str:
    known = {"encoder", "piece", "score", "performances"}
    if not all(isinstance(each, Mapping) and known <= each.keys() for each in (before, now)):
        return "its sources are not known"  # those of an imported version
    return reason_to_run(now, before) or "tried again"


def _encoder_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    old, new = (
        {"name": encoder.get("name"), "version": encoder.get("version"), **encoder.get("parameters", {})}
        for encoder in (before, after)
    )
    names = sorted(old.keys() | new.keys())
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def rollback(url: str, version: str, *, dry_run: bool = False) -> Difference:
    """Make an earlier version the current one, from one moment to the next; nothing is deleted.

    The version that was current stays under its name. Rolling back to the current version does nothing.

    Args:
        url: a folder or ``s3://bucket/prefix``.
        version: which.
        dry_run: only tell what would change.

    Returns:
        What readers find otherwise now (or would), from the version that was current to ``version``.

    Raises:
        InputError: no data set there (``no_dataset``), no such version (``no_version``), or a build is writing the
            store (``store_busy``).
    """
    target = open_version(url, version)  # before the store is touched
    if dry_run:
        return diff(url, open_version(url).id, target.id)
    with building(url) as build:
        assert build.current is not None
        changes = diff(url, build.current.id, target.id)
        if build.current.id != target.id:
            build.roll_back(target.id)
            told = {"store": url, "before": build.current.id, "version": target.id}
            getLogger(__name__).info("version rolled back", extra=told)
    return changes
