"""S3, by boto3: objects under a URL, fetched and put with bounded, jittered retries and time-outs.

Endpoint, region and credentials come from the standard AWS environment and profiles. ``places`` is what the rest of the
platform speaks to.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from dexter_model.digests import sha256_bytes
from dexter_model.errors import InputError
from dexter_model.refusals import refusal
from dexter_model.tally import watch_s3

if TYPE_CHECKING:
    from botocore.client import BaseClient

ATTEMPTS = 8  # of a request, with jittered exponential back-off between them (botocore's standard mode)
CONNECT_SECONDS, READ_SECONDS = 10, 30
_TRANSFERS = 16  # at the same time
_MULTIPART = 256 << 20  # bytes; below, an object is written by one request, which can be repeated without harm


@dataclass(frozen=True)
class Object:
    """An object under a URL: its name below it, what tells its content from others', and its size in bytes."""

    name: str
    etag: str
    size: int


class NoObjectError(FileNotFoundError):
    """There is no such object."""


def client() -> BaseClient:
    """A boto3 client of S3 with bounded, jittered retries and time-outs; safe in threads, one a process."""
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _client(os.getpid(), environment)


@functools.cache
def _client(_process: int, _environment: tuple[tuple[str, str], ...]) -> BaseClient:
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    timeouts: Any = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
    session = boto3.Session()  # the default one keeps the credentials it first saw
    signed: Any = {"signature_version": "s3v4"}  # links too, which boto3 signs as of old in us-east-1
    made = session.client("s3", config=Config(retries=retries, max_pool_connections=_TRANSFERS, **signed, **timeouts))
    watch_s3(made)
    return made


def endpoint_and_region() -> tuple[str | None, str]:
    """Where S3 is, None for Amazon's, and its region, for clients other than boto3's.

    boto3, half a second, is asked only where a profile may tell.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser().is_file():
        known = client().meta
        endpoint = None if known.endpoint_url.endswith(("amazonaws.com", "amazonaws.com.cn")) else known.endpoint_url
        region = region or known.region_name
    return endpoint, region if region and region != "aws-global" else "us-east-1"


@contextlib.contextmanager
def s3_errors(place: str | Path) -> Iterator[None]:
    """Tell what S3 refuses (credentials, a bucket that is not there), or that it is out of reach, as bad input."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        refused = refusal(str(error))
        if refused:
            code = "s3_unreachable" if refused.later else "s3_refused"
            raise InputError(place, refused.reason, refused.remedy, code) from error
        remedy = "Check the URL and AWS_ENDPOINT_URL; the same command goes on from here"
        raise InputError(place, f"cannot be read or written ({error})", remedy, "s3_unreachable") from error


def split(url: str | Path) -> tuple[str, str]:
    """Bucket and key of a URL."""
    bucket, _, key = str(url).removeprefix("s3://").partition("/")
    return bucket, key.strip("/")


def objects_at(url: str | Path) -> list[Object]:
    """The object that a URL names, under the name '', or those below it.

    Raises:
        InputError: S3 cannot be reached, or a key leads out of its folder (``unsafe_key``).
    """
    bucket, key = split(url)
    with s3_errors(url):
        first = client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        for each in first.get("Contents", ()):
            if key and each["Key"] == key:
                return [Object("", each["ETag"], each["Size"])]
        below = f"{key}/" if key else ""
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below)
        found = [each for page in pages for each in page.get("Contents", ()) if not each["Key"].endswith("/")]
    objects = [Object(each["Key"].removeprefix(below), each["ETag"], each["Size"]) for each in found]
    folders = {folder.as_posix() for each in objects for folder in PurePosixPath(each.name).parents}
    for each in objects:
        if each.name and each.name in folders:
            reason = f"holds {each.name!r} both as an object and as the folder of others"
            raise InputError(url, reason, "Remove one of them", "unsafe_key")
        if {"", ".", ".."} & set(each.name.split("/")) or "\0" in each.name:
            reason = f"holds the key {each.name!r}, which is no path below it"
            raise InputError(url, reason, "Remove that object", "unsafe_key")
    return objects


def folders_at(url: str | Path) -> list[str]:
    """URLs of the folders right below a URL, sorted."""
    bucket, key = split(url)
    below = f"{key}/" if key else ""
    with s3_errors(url):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below, Delimiter="/")
        found = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", ())]
    return sorted(f"s3://{bucket}/{prefix}".rstrip("/") for prefix in found)


def get(url: str | Path) -> bytes:
    """The content of an object.

    Raises:
        FileNotFoundError: there is none.
        InputError: S3 cannot be reached or refuses (``s3_unreachable``, ``s3_refused``).
    """
    content = io.BytesIO()
    with s3_errors(url):
        _fetch(url, content)
    return content.getvalue()


def put(url: str | Path, data: bytes) -> None:
    """Write an object, whole or not at all."""
    bucket, key = split(url)
    with s3_errors(url):
        client().put_object(Bucket=bucket, Key=key, Body=data)


def delete(url: str | Path) -> None:
    """Delete an object, if it is there."""
    bucket, key = split(url)
    with s3_errors(url):
        client().delete_object(Bucket=bucket, Key=key)


def download(url: str, path: Path) -> None:
    """Fetch an object as a file with the modification time that stands for what came, whole or not at all.

    Raises:
        NoObjectError: there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with open(descriptor, "wb") as file:
            stamp = time_of(_fetch(url, file))
        os.utime(scratch, ns=(stamp, stamp))
        os.replace(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def time_of(etag: str) -> int:
    """A modification time (ns) that stands for an object's content, so that digests are cached by it as well."""
    return int(sha256_bytes(etag.encode())[:15], 16)


def _fetch(url: str | Path, file: IO[bytes]) -> str:
    """Write an object into a file and return the ETag of what came: it may be younger than a listing.

    One request has all of it, so that no two contents are mixed; boto3 repeats that, but not an answer that breaks off.
    """
    from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

    bucket, key = split(url)
    for left in reversed(range(ATTEMPTS)):
        try:
            answer = client().get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                raise
            raise NoObjectError(2, "No such object", str(url)) from None
        file.seek(0)
        file.truncate()
        try:
            with contextlib.closing(answer["Body"]) as body:
                shutil.copyfileobj(body, file, 1 << 20)
            return str(answer["ETag"])
        except (HTTPClientError, IncompleteReadError):
            if not left:
                raise
        time.sleep(random.uniform(0, 0.1 * 2 ** (ATTEMPTS - left)))
    raise AssertionError("the last attempt returns or raises")


def upload(path: Path, url: str) -> None:
    """Write an object. One of several parts is tried as a whole, since its last request cannot be repeated."""
    from boto3.exceptions import S3UploadFailedError

    bucket, key = split(url)
    for left in reversed(range(3)):
        try:
            client().upload_file(str(path), bucket, key, Config=_transfer())
            return
        except S3UploadFailedError as error:
            if not left or "NoSuchUpload" not in str(error):
                raise


def at_once(work: Callable[[Any], Any], things: Iterable[Any]) -> list[Any]:
    """Do work on things in threads, in any order; the results in theirs."""
    things = list(things)
    if len(things) < 2:
        return [work(each) for each in things]
    with ThreadPoolExecutor(_TRANSFERS) as threads:
        return list(threads.map(work, things))


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=_MULTIPART, use_threads=False)
