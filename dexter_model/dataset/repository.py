"""The one door to a data set by its URL: a folder or ``s3://bucket/prefix``, an Icechunk repository either way.

``main`` is the current version, the tags ``v1``, ``v2``, ... are all of them, ``build`` is where the next one grows.
``docs/decisions/0003-store.md`` says why.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import icechunk

from dexter_model.errors import InputError

MAIN = "main"
BUILD = "build"
FORMAT = "dexter-dataset-2"
READABLE = ("dexter-dataset-1", FORMAT)  # 1 has no perceptual features
_INSIDE = "icechunk"  # the repository's folder under the URL

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
        url: a folder, or ``s3://bucket/prefix``; S3 credentials, region and endpoint come from the usual AWS variables.

    Raises:
        InputError: there is none (``no_dataset``), or it cannot be reached (``store_unreachable``).
    """
    folder = local_folder(url)
    if folder is not None and not (folder / _INSIDE).is_dir():
        raise _no_dataset(url)
    storage = _bucket(url) if folder is None else _folder(folder / _INSIDE)
    with storage_errors(url):
        if not icechunk.Repository.exists(storage):
            raise _no_dataset(url)
        return icechunk.Repository.open(storage)


def create_repository(url: str) -> None:
    """Make the repository when there is none. One process at a time: ``build.building`` sees to it.

    Icechunk makes one in two writes and refuses a place that holds the first of them only, so in a folder it is made
    aside and renamed: a kill in between does no harm.
    """
    folder = local_folder(url)
    with storage_errors(url):
        if folder is None:
            icechunk.Repository.open_or_create(_bucket(url))
        elif not (folder / _INSIDE).exists():
            aside = folder / f"{_INSIDE}.new"
            shutil.rmtree(aside, ignore_errors=True)
            icechunk.Repository.create(_folder(aside))
            aside.rename(folder / _INSIDE)


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Tell what storage refuses (credentials, a bucket that is not there, a full disk) as bad input."""
    try:
        yield
    except icechunk.IcechunkError as error:
        reason = f"cannot be read or written ({str(error).strip().splitlines()[-1].strip(' `->')})"
        remedy = "Check the URL, the credentials and the space left; what was built is kept"
        raise InputError(url, reason, remedy, "store_unreachable") from error


def _folder(folder: Path) -> icechunk.Storage:
    return icechunk.local_filesystem_storage(str(folder.absolute()))


def _bucket(url: str) -> icechunk.Storage:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return icechunk.s3_storage(
        bucket=urlsplit(url).netloc,
        prefix="/".join(filter(None, [urlsplit(url).path.strip("/"), _INSIDE])),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        force_path_style=bool(endpoint),
        from_env=True,
    )


def _no_dataset(url: str) -> InputError:
    return InputError(
        url, "holds no data set", "Build one with `dexter dataset build`, or correct the URL", "no_dataset"
    )
