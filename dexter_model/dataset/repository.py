"""The one door to a data set by its URL: a folder or ``s3://bucket/prefix``, an Icechunk repository either way.

``main`` is the current version, the tags ``v1``, ``v2``, ... are all of them, ``build`` is where the next one grows.
``docs/decisions/0003-store.md`` says why.
"""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import icechunk
import zarr
from zarr.core.sync import sync

from dexter_model.errors import InputError
from dexter_model.refusals import refusal
from dexter_model.s3 import client, endpoint_and_region, s3_errors
from dexter_model.tally import count

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_TROUBLE = (icechunk.IcechunkError, TimeoutError)

MAIN = "main"
BUILD = "build"
FORMAT = "dexter-dataset-4"
READABLE = ("dexter-dataset-1", "dexter-dataset-2", FORMAT)  # 1 has no perceptual features, 2 an array a score field
_INSIDE = "icechunk"  # the repository's folder under the URL
REQUEST_TRIES, LONGEST_PAUSE_MS = 9, 10_000  # of one request: half a minute of SlowDown
STREAM_S = 30  # of an answer that stands still
TRIES = 4  # of an action that consists of requests
PAUSE_S = 0.25  # before the second try, at most twice that; doubles
ACTION_S = 180.0  # of an action, such as writing a shard of 10 MB

icechunk.set_logs_filter("error")  # it warns about local concurrent commits, which the build's lock rules out


def local_folder(url: str) -> Path | None:
    """The folder that a URL names; None when it names a bucket.

    Raises:
        InputError: the URL is neither.
    """
    scheme = urlsplit(url).scheme
    if scheme == "s3":
        return None
    if scheme not in ("", "file"):
        raise InputError(
            url, f"{scheme}:// is no place for a data set", "Give a folder or s3://bucket/prefix", "bad_url"
        )
    folder = Path(urlsplit(url).path if scheme else url)
    if folder.exists() and not folder.is_dir():
        raise InputError(url, "is a file", "A data set is a folder or s3://bucket/prefix", "bad_url")
    return folder


def open_repository(url: str) -> icechunk.Repository:
    """Open the repository at a URL.

    Args:
        url: a folder, or ``s3://bucket/prefix``; credentials, region and endpoint are those of the AWS environment.

    Raises:
        InputError: there is none (``no_dataset``), or it cannot be reached (``store_unreachable``).
    """
    folder = local_folder(url)
    if folder is not None and not (folder / _INSIDE).is_dir():
        raise _no_dataset(url)
    storage = _bucket(url) if folder is None else _folder(folder / _INSIDE)

    def opened() -> icechunk.Repository:
        if not icechunk.Repository.exists(storage):
            raise _no_dataset(url)
        return icechunk.Repository.open(storage, icechunk.RepositoryConfig(storage=_settings()))

    return patiently(url, opened)


def create_repository(url: str) -> None:
    """Make the repository when there is none; whoever is interrupted leaves it to the next.

    Icechunk makes one in two writes and refuses a place that holds the first of them only, so it is made aside. In a
    folder it is renamed then (``build.building`` lets one process do it); to a bucket its files are copied, each if it
    is not there yet, and last the one that says that there is a repository.
    """
    folder = local_folder(url)
    if folder is None:
        patiently(url, lambda: None if icechunk.Repository.exists(_bucket(url)) else _copy_new_to_bucket(url))
    elif not (folder / _INSIDE).exists():
        aside = folder / f"{_INSIDE}.new"
        shutil.rmtree(aside, ignore_errors=True)
        with storage_errors(url):
            icechunk.Repository.create(_folder(aside))
        aside.rename(folder / _INSIDE)


def _copy_new_to_bucket(url: str) -> None:
    from botocore.exceptions import ClientError

    with tempfile.TemporaryDirectory() as aside, s3_errors(url):
        icechunk.Repository.create(_folder(Path(aside)))
        files = [path.relative_to(aside) for path in Path(aside).rglob("*") if path.is_file()]
        for name in sorted(files, key=lambda name: "refs" in name.parts):
            key = f"{_prefix(url)}/{name.as_posix()}"
            data = Path(aside, name).read_bytes()
            try:
                client().put_object(Bucket=urlsplit(url).netloc, Key=key, Body=data, IfNoneMatch="*")
            except ClientError as error:
                if error.response["Error"]["Code"] != "PreconditionFailed":
                    raise


def patiently(url: str, action: Callable[[], Result]) -> Result:
    """Do something in a store; on S3 again, if that fails in passing. The action looks first what is done already.

    Icechunk repeats requests, but not those whose answer breaks off, and waits for ever for one that never comes. When
    the answer to a conditional write is lost, it takes its own write for somebody else's. So actions are repeated.

    Raises:
        InputError: storage refuses (``store_refused``), or still fails after ``TRIES`` (``store_unreachable``).
    """
    with storage_errors(url):
        if local_folder(url) is not None:
            return action()
        for left in reversed(range(TRIES)):
            try:
                return _in_time(action)
            except _TROUBLE as error:
                if not left or refusal(str(error)):
                    raise
                log.info("data set asked again", extra={"store": url, "tries_left": left, "error": repr(error)})
                count("store_retries")
            time.sleep(random.uniform(0, PAUSE_S * 2 ** (TRIES - left)))
        raise AssertionError("the last try returns or raises")


def root(store: icechunk.IcechunkStore, mode: Literal["r", "a"] = "r") -> zarr.Group:
    """Everything in a session's store.

    Icechunk says of any node that it does not exist while it cannot fetch the snapshot that lists them, and an empty
    data set would be made of a fault. So the snapshot is fetched first, by a question that fails when that does.
    """
    awaited(lambda: store.exists("zarr.json"))
    return zarr.open_group(store, mode=mode)


def awaited(begin: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """The result of a coroutine on Zarr's own event loop, whose threads last: new ones would fault their memory in."""
    return sync(begin(), timeout=ACTION_S)


def _in_time(action: Callable[[], Result]) -> Result:
    """The action's result, unless it takes ``ACTION_S``: then it is left to itself in its thread."""
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result(ACTION_S)


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Tell what storage refuses (credentials, a bucket that is not there, a full disk) as bad input."""
    try:
        yield
    except _TROUBLE as error:
        told = str(error).strip() or f"no answer in {ACTION_S:.0f} s"
        refused = refusal(told)
        if refused:
            code = "store_unreachable" if refused.later else "store_refused"
            raise InputError(url, refused.reason, refused.remedy, code) from error
        reason = f"cannot be read or written ({told.splitlines()[-1].strip(' `->')})"
        raise InputError(url, reason, "Try again; what was built is kept", "store_unreachable") from error


def _folder(folder: Path) -> icechunk.Storage:
    return icechunk.local_filesystem_storage(str(folder.absolute()))


def _bucket(url: str) -> icechunk.Storage:
    endpoint, region = endpoint_and_region()
    return icechunk.s3_storage(
        bucket=urlsplit(url).netloc,
        prefix=_prefix(url),
        region=region,
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        force_path_style=bool(endpoint),
        from_env=True,
        network_stream_timeout_seconds=STREAM_S,
    )


def _prefix(url: str) -> str:
    return "/".join(filter(None, [urlsplit(url).path.strip("/"), _INSIDE]))


def _settings() -> icechunk.StorageSettings:
    """A request is tried so many times, after pauses that double, with jitter, up to the longest one."""
    retries = icechunk.StorageRetriesSettings(REQUEST_TRIES, 100, LONGEST_PAUSE_MS)
    return icechunk.StorageSettings(retries=retries)


def _no_dataset(url: str) -> InputError:
    return InputError(
        url, "holds no data set", "Build one with `dexter dataset build`, or correct the URL", "no_dataset"
    )
