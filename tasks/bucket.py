"""What a bucket's administrator does: make one fit for data sets, collect garbage, tell what it holds and costs.

Folders have garbage and sizes too, so all but ``init`` works on both.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dexter_model.errors import InputError
from dexter_model.places import is_url
from dexter_model.s3 import client, s3_errors

RULE = "dexter: uploads that were given up"
GIVEN_UP_DAYS = 7  # after which parts of an upload that nobody finished are deleted
NONCURRENT_DAYS = 30  # for which a bucket with versioning keeps what was deleted or replaced
YOUNGEST = timedelta(hours=1)  # whatever is younger may belong to a build under way
_KINDS = ("chunks", "manifests", "snapshots", "transactions", "refs")  # folders of a data set


@dataclass(frozen=True)
class Garbage:
    """What was, or would be, deleted: objects of a data set by kind, their bytes, and uploads that were given up."""

    place: str
    dry_run: bool
    objects: dict[str, int]
    bytes: int
    uploads: int


@dataclass(frozen=True)
class Usage:
    """What a place holds.

    Attributes:
        place: the folder or URL.
        objects, bytes: all that is there.
        by_class: storage class (``local`` of a folder) to objects, bytes and cost a month.
        by_kind: part of a data set (chunks, manifests, ...), or ``other``, to objects and bytes.
        noncurrent: objects and bytes of versions that were deleted or replaced; they cost as well.
        uploads: uploads that nobody finished.
        month, write, read: estimates in ``currency`` of keeping it for a month, of writing and of reading all once.
        currency: what prices are in.
    """

    place: str
    objects: int
    bytes: int
    by_class: dict[str, dict[str, float]]
    by_kind: dict[str, dict[str, int]]
    noncurrent: dict[str, int]
    uploads: int
    month: float
    write: float
    read: float
    currency: str


def init(place: str, *, dry_run: bool = False) -> list[str]:
    """Make a bucket fit for data sets, as far as it is not yet; what was done, or would be, in words.

    The bucket is made when it is missing; parts of uploads that nobody finished are deleted after some days, and so
    are noncurrent versions; the rules that others set stay. Then conditional writes are tried, which data sets need.

    Raises:
        InputError: the place is no bucket (``bad_url``), the server refuses (``s3_refused``), or does not enforce
            conditional writes (``no_conditional_writes``).
    """
    if not is_url(place):
        raise InputError(place, "is a folder, which needs nothing", "Give s3://bucket/prefix", "bad_url")
    bucket, prefix = _split(place)
    with s3_errors(place):
        done = []
        missing = not _exists(bucket)
        if missing:
            done.append(f"made the bucket {bucket}")
            if not dry_run:
                _make(bucket)
        rules = [] if missing else _rules(bucket)
        wanted = _rule(prefix)
        if wanted not in rules:
            done.append(
                f"uploads given up are deleted after {GIVEN_UP_DAYS} days, noncurrent versions after {NONCURRENT_DAYS}"
            )
            others = [rule for rule in rules if rule.get("ID") != wanted["ID"]]
            if not dry_run:
                told = {"Rules": [*others, wanted]}
                client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=told)
        if not dry_run:
            _try_conditional_writes(place, bucket, prefix)
    return done


def _exists(bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client().list_objects_v2(Bucket=bucket, MaxKeys=1)  # a HEAD would not say why it is refused
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise
        return False
    return True


def _make(bucket: str) -> None:
    region = client().meta.region_name
    where = {} if region in ("us-east-1", "aws-global", None) else {"LocationConstraint": region}
    client().create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": where} if where else {}))


def _rules(bucket: str) -> list[dict[str, Any]]:
    from botocore.exceptions import ClientError

    try:
        return client().get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise
        return []


def _rule(prefix: str) -> dict[str, Any]:
    return {
        "ID": f"{RULE} {prefix}".strip(),
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": GIVEN_UP_DAYS},
        "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
    }


def _try_conditional_writes(place: str, bucket: str, prefix: str) -> None:
    """Without them two builds of a store would overwrite each other's work."""
    from botocore.exceptions import ClientError

    probe = {"Bucket": bucket, "Key": f"{prefix}.dexter-probe-{uuid.uuid4().hex}"}
    client().put_object(**probe, Body=b"first")
    try:
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"of-nothing"'}):
            try:
                client().put_object(**probe, Body=b"second", **condition)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                    raise
            else:
                reason = f"the server ignores {next(iter(condition))}: builds at the same time would damage a data set"
                raise InputError(place, reason, "Use a server with conditional writes", "no_conditional_writes")
    finally:
        client().delete_object(**probe)


def collect_garbage(place: str, older_than: timedelta, *, dry_run: bool = False) -> Garbage:
    """Delete what no version of a data set refers to, nor its build branch, and uploads that were given up.

    Every version stays, and every shard that a build under way or an interrupted one has committed. The history of
    commits inside builds stays as well: it was 5 % of 100,000 tiny pieces, is less of real ones, and builds look at it.

    Args:
        place: the data set, a folder or ``s3://bucket/prefix``.
        older_than: what is younger stays. At S3 a build that began earlier than this, and still runs, would be harmed.
        dry_run: only count.

    Raises:
        InputError: there is no data set (``no_dataset``), it is being built (``store_busy``; folders only), or storage
            refuses.
    """
    from dexter_model.dataset.build import locked
    from dexter_model.dataset.repository import local_folder, open_repository, storage_errors

    repository, before = open_repository(place), datetime.now(UTC) - older_than
    folder = local_folder(place)
    with contextlib.nullcontext() if dry_run else locked(place), storage_errors(place):
        found = repository.garbage_collect(before, dry_run=dry_run)
    uploads = [] if folder is not None else [each for each in _uploads(place) if each["Initiated"] < before]
    if uploads and not dry_run:
        with s3_errors(place):
            for each in uploads:
                told = {"Bucket": _split(place)[0], "Key": each["Key"], "UploadId": each["UploadId"]}
                client().abort_multipart_upload(**told)
    objects = {
        "chunks": found.chunks_deleted,
        "manifests": found.manifests_deleted,
        "snapshots": found.snapshots_deleted,
        "transactions": found.transaction_logs_deleted,
        "attributes": found.attributes_deleted,
    }
    told_objects = {kind: count for kind, count in objects.items() if count}
    return Garbage(place, dry_run, told_objects, found.bytes_deleted, len(uploads))


def usage(place: str) -> Usage:
    """What a place holds, by storage class and kind, and what it costs by ``configs/prices.yaml``.

    Raises:
        InputError: nothing is there (``missing_file``), or storage refuses.
    """
    from dexter_model.prices import currency, prices

    listed = list(_objects(place))
    if not listed:
        raise InputError(place, "there is nothing", "Check the URL", "missing_file")
    remote = is_url(place)
    noncurrent = list(_noncurrent(place)) if remote else []
    price = prices("storage")
    by_class: dict[str, dict[str, float]] = {}
    for _, size, storage_class in [*listed, *noncurrent]:
        held = by_class.setdefault(storage_class, {"objects": 0, "bytes": 0, "month": 0.0})
        held["objects"] += 1
        held["bytes"] += size
    for storage_class, held in by_class.items() if remote else ():
        each = price["gb_month"].get(storage_class, price["gb_month"]["other"])
        held["month"] = held["bytes"] / 1e9 * float(each["price"])
    counts: Counter[str] = Counter(_kind(name) for name, _, _ in listed)
    sizes: Counter[str] = Counter()
    for name, size, _ in listed:
        sizes[_kind(name)] += size
    asked = {name: float(each["price"]) / 1000 if remote else 0.0 for name, each in price["thousand_requests"].items()}
    return Usage(
        place=place,
        objects=len(listed),
        bytes=sum(sizes.values()),
        by_class=dict(sorted(by_class.items())),
        by_kind={kind: {"objects": counts[kind], "bytes": sizes[kind]} for kind in sorted(counts)},
        noncurrent={"objects": len(noncurrent), "bytes": sum(size for _, size, _ in noncurrent)},
        uploads=len(_uploads(place)) if remote else 0,
        month=sum(held["month"] for held in by_class.values()),
        write=len(listed) * asked["write"],
        read=len(listed) * asked["read"],
        currency=currency(),
    )


def _kind(name: str) -> str:
    """Which part of a data set an object is."""
    return next((part for part in name.split("/")[:-1] if part in _KINDS), "other")


def _objects(place: str) -> Iterator[tuple[str, int, str]]:
    """Name, bytes and storage class of everything at a place."""
    if not is_url(place):
        for folder, _, names in os.walk(place):
            for name in names:
                path = Path(folder, name)
                yield path.relative_to(place).as_posix(), path.stat().st_size, "local"
        return
    bucket, prefix = _split(place)
    with s3_errors(place):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Contents", ()):
                yield each["Key"].removeprefix(prefix), each["Size"], each.get("StorageClass", "STANDARD")


def _noncurrent(place: str) -> Iterator[tuple[str, int, str]]:
    """Versions that were replaced or deleted, in a bucket that keeps them."""
    bucket, prefix = _split(place)
    with s3_errors(place):
        if client().get_bucket_versioning(Bucket=bucket).get("Status") is None:
            return
        for page in client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Versions", ()):
                if not each["IsLatest"]:
                    yield each["Key"].removeprefix(prefix), each["Size"], each.get("StorageClass", "STANDARD")


def _uploads(place: str) -> list[dict[str, Any]]:
    """Uploads of several parts that nobody has finished."""
    bucket, prefix = _split(place)
    with s3_errors(place):
        pages = client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
        return [each for page in pages for each in page.get("Uploads", ())]


def _split(place: str) -> tuple[str, str]:
    """Bucket, and prefix with a final slash unless it is empty."""
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    return bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
