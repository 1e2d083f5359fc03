"""Where things lie: every path that the platform takes is a file or folder, or ``s3://bucket/prefix``.

Whoever reads calls ``local``, whoever writes calls ``write`` (a file) or works inside ``writing`` (a folder), and goes
on with ordinary local files either way, so that nothing else knows of S3. Endpoint, region and credentials come from
the standard AWS environment and profiles. Data sets have a door of their own, ``dataset.repository``.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dexter_model.digests import cache_dir, sha256_bytes, write_atomically
from dexter_model.errors import InputError
from dexter_model.refusals import refusal
from dexter_model.tally import watch_s3

if TYPE_CHECKING:
    from botocore.client import BaseClient

ATTEMPTS = 8  # of a request, with jittered exponential back-off between them (botocore's standard mode)
CONNECT_SECONDS, READ_SECONDS = 10, 30
PUSH_SECONDS = 10.0  # work that a killed writer may lose
_TRANSFERS = 16  # at the same time
_READ, _WRITTEN = "s3", "s3-writing"  # folders of the cache: copies to read, and what is being written
_MULTIPART = 256 << 20  # bytes; below, an object is written by one request, which can be repeated without harm


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Object:
    """An object under a place: its name below it, what tells its content from others', and its size in bytes."""

    name: str
    etag: str
    size: int


def is_url(place: str | Path) -> bool:
    """Whether a place is at S3.

    Raises:
        InputError: it is a URL of another kind, or names no bucket (``bad_url``).
    """
    scheme, found, rest = str(place).partition("://")
    if not found:
        return False
    if scheme != "s3" or not rest.partition("/")[0]:
        raise InputError(place, "is neither a path nor s3://bucket/prefix", "Give one of these", "bad_url")
    return True


def absolute(place: str | Path) -> str:
    """A place as processes in other folders understand it."""
    return str(place).rstrip("/") if is_url(place) else str(Path(place).absolute())


def join(place: str | Path, *names: str) -> str:
    """A place inside a place."""
    return "/".join([str(place).rstrip("/"), *names]) if is_url(place) else str(Path(place, *names))


def name_of(place: str | Path) -> str:
    """The last part of a place's path."""
    return PurePosixPath(str(place)).name if is_url(place) else Path(place).resolve().name


def local(place: str | Path, *, missing_ok: bool = False) -> Path:
    """A file or folder to read: itself, or a copy of what S3 has now, for which only what changed is fetched.

    Args:
        place: a file, a folder, or ``s3://bucket/key`` of an object or of several under a prefix.
        missing_ok: return a path where nothing is when S3 has nothing there.

    Raises:
        InputError: S3 cannot be reached or refuses (``s3_unreachable``), or has nothing there (``missing_file``).
    """
    copy = copy_of(place)
    if is_url(place):
        objects = _objects(place)
        if not objects and not missing_ok:
            raise InputError(place, "there is nothing", "Check the URL", "missing_file")
        _fetch(place, objects, copy)
    return copy


def copy_of(place: str | Path) -> Path:
    """Where ``local`` has a place; what was fetched before is there, whatever S3 has now."""
    return cache_dir().joinpath(_READ, *_split(place)) if is_url(place) else Path(place)


def names(place: str | Path) -> list[str]:
    """The files under a place, by their paths below it (posix), sorted; '' when the place is a file."""
    if is_url(place):
        return sorted(found.name for found in _objects(place))
    below = Path(place)
    return [""] if below.is_file() else sorted(p.relative_to(below).as_posix() for p in below.rglob("*") if p.is_file())


def folders(place: str | Path) -> list[str]:
    """The folders right in a place, sorted; a look at them costs one request a thousand, whatever is inside."""
    if not is_url(place):
        return [str(path) for path in sorted(Path(place).glob("*/"))]
    bucket, key = _split(place)
    below = f"{key}/" if key else ""
    with s3_errors(place):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below, Delimiter="/")
        return sorted(
            f"s3://{bucket}/{each['Prefix']}".rstrip("/") for p in pages for each in p.get("CommonPrefixes", ())
        )


def read(place: str | Path) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: there is none.
        InputError: S3 cannot be reached or refuses (``s3_unreachable``).
    """
    if not is_url(place):
        return Path(place).read_bytes()
    from botocore.exceptions import ClientError

    bucket, key = _split(place)
    content = io.BytesIO()
    with s3_errors(place):
        try:
            client().download_fileobj(bucket, key, content, Config=_transfer())  # which repeats what breaks off
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                raise
            raise FileNotFoundError(2, "No such object", str(place)) from None
    return content.getvalue()


def write(place: str | Path, data: bytes) -> None:
    """Write a file, so that readers see all of it or nothing.

    Raises:
        InputError: S3 cannot be reached or refuses (``s3_unreachable``).
    """
    if not is_url(place):
        write_atomically(place, data)
        return
    bucket, key = _split(place)
    with s3_errors(place):
        client().put_object(Bucket=bucket, Key=key, Body=data)


def remove(place: str | Path) -> None:
    """Remove a file, if it is there.

    Raises:
        InputError: S3 cannot be reached or refuses (``s3_unreachable``).
    """
    if not is_url(place):
        Path(place).unlink(missing_ok=True)
        return
    bucket, key = _split(place)
    with s3_errors(place):
        client().delete_object(Bucket=bucket, Key=key)


class Writing:
    """A folder that is being written: ``folder`` is where, ``push`` makes what was written so far last.

    At S3 the folder is a copy that starts as what is there; hidden files stay here. JSON files tell what is in the
    others: they are taken away before others change, and written after them, so that nobody takes a part for the whole.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = place
        self._remote = is_url(place)
        self._lock = threading.Lock()
        self._pushed: dict[str, tuple[int, int]] = {}  # what S3 has, as size and modification time here
        self.folder = Path(place)
        if self._remote:
            bucket, key = _split(place)
            (cache_dir() / _WRITTEN).mkdir(exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(dir=cache_dir() / _WRITTEN))
            self.folder = self._scratch / bucket / key
            _fetch(place, _objects(place), self.folder)
            self._pushed = self._stamps()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot be made a folder ({error.strerror})"
            raise InputError(place, reason, "Name another folder with --out", "out_unwritable") from None

    def push(self) -> None:
        """Bring S3 to what the folder holds now; of a local folder nothing is to be done.

        Raises:
            InputError: S3 cannot be reached or refuses (``s3_unreachable``).
        """
        if self._remote:
            with self._lock, s3_errors(self.place):
                self._push()

    def _push(self) -> None:
        first = self._stamps()
        now = self._stamps()  # looked at after the JSON files, and so holding all that these tell of
        changed = [name for name, stamp in now.items() if self._pushed.get(name) != stamp]
        gone = [name for name in self._pushed if name not in now]
        data = [name for name in changed if not _tells(name)]
        folders = {os.path.dirname(name) for name in data}
        outdated = [n for n in self._pushed if _tells(n) and os.path.dirname(n) in folders and n in changed]
        unfinished = [n for n in gone if _tells(n) and (self.folder / n).parent.is_dir()]
        self._delete([*outdated, *unfinished])
        self._upload(data, now)
        self._tell([name for name in changed if _tells(name) and first.get(name) == now[name]], now)
        for pruned in (True, False):  # what tells of others goes first
            self._delete([name for name in gone if name in self._pushed and _tells(name) == pruned])

    def _tell(self, chosen: Iterable[str], now: Mapping[str, tuple[int, int]]) -> None:
        """Write JSON files, each if nothing in its folder changed since what is beside it was written."""
        contents = {}
        for name in chosen:
            with contextlib.suppress(FileNotFoundError):
                contents[name] = (self.folder / name).read_bytes()
        later = self._stamps()
        for name, content in contents.items():
            if _beside(name, later) == _beside(name, now):
                write(join(self.place, name), content)
                self._pushed[name] = now[name]

    def _stamps(self) -> dict[str, tuple[int, int]]:
        """Size and modification time of the files by name; hidden ones are half-written."""
        stamps = {}
        for folder, folders, found in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(folder, name) for name in found if not name.startswith(".")):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    stamps[path.relative_to(self.folder).as_posix()] = (status.st_size, status.st_mtime_ns)
        return stamps

    def _upload(self, chosen: Iterable[str], stamps: dict[str, tuple[int, int]]) -> None:
        def upload(name: str) -> str | None:
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile: the next push deletes it
                _upload(self.folder / name, join(self.place, name))
                return name
            return None

        for name in _at_once(upload, chosen):
            if name is not None:
                self._pushed[name] = stamps[name]

    def _delete(self, chosen: list[str]) -> None:
        def delete(name: str) -> None:
            bucket, key = _split(join(self.place, name))
            client().delete_object(Bucket=bucket, Key=key)

        _at_once(delete, chosen)
        for name in chosen:
            del self._pushed[name]

    def close(self) -> None:
        """Remove the copy."""
        if self._remote:
            shutil.rmtree(self._scratch, ignore_errors=True)


@contextlib.contextmanager
def writing(place: str | Path) -> Iterator[Writing]:
    """Write a folder; at S3 what is written lasts after some seconds, and all of it at the end, also of what failed.

    Raises:
        InputError: S3 cannot be reached or refuses (``s3_unreachable``).
    """
    written, over = Writing(place), threading.Event()

    def push_now_and_then() -> None:
        while not over.wait(PUSH_SECONDS):
            try:
                written.push()
            except InputError as error:  # the last push raises
                log.warning("what was written waits: %s", error)

    pusher = threading.Thread(target=push_now_and_then, daemon=True)
    if is_url(place):
        pusher.start()
    try:
        yield written
    finally:
        over.set()
        if pusher.is_alive():
            pusher.join()
        try:
            written.push()
        except InputError as error:
            reason = f"{error.reason}; what was written stays in {written.folder}"
            raise InputError(place, reason, error.remedy, error.code) from error
        written.close()


def _tells(name: str) -> bool:
    """Whether a file tells what is in others."""
    return name.endswith(".json")


def _beside(name: str, stamps: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """What is in a file's folder."""
    return {other: stamp for other, stamp in stamps.items() if os.path.dirname(other) == os.path.dirname(name)}


def shown(path: str | Path) -> str:
    """A path as a person knows it: the URL where it is a copy of what is there."""
    if f"/{_READ}" not in str(path):
        return str(path)
    inside = re.match(rf"{re.escape(str(cache_dir()))}/(?:{_READ}|{_WRITTEN}/[^/]+)/(.+)", str(path))
    return f"s3://{inside[1]}" if inside else str(path)


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


def _split(place: str | Path) -> tuple[str, str]:
    """Bucket and key."""
    bucket, _, key = str(place).removeprefix("s3://").partition("/")
    return bucket, key.strip("/")


def _objects(place: str | Path) -> list[_Object]:
    """The object that a URL names, under the name '', or those below it.

    Raises:
        InputError: S3 cannot be reached, or a key leads out of its folder (``unsafe_key``).
    """
    bucket, key = _split(place)
    with s3_errors(place):
        first = client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        for each in first.get("Contents", ()):
            if key and each["Key"] == key:
                return [_Object("", each["ETag"], each["Size"])]
        below = f"{key}/" if key else ""
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below)
        found = [each for page in pages for each in page.get("Contents", ()) if not each["Key"].endswith("/")]
    objects = [_Object(each["Key"].removeprefix(below), each["ETag"], each["Size"]) for each in found]
    folders = {folder.as_posix() for each in objects for folder in PurePosixPath(each.name).parents}
    for each in objects:
        if each.name and each.name in folders:
            reason = f"holds {each.name!r} both as an object and as the folder of others"
            raise InputError(place, reason, "Remove one of them", "unsafe_key")
        if {"", ".", ".."} & set(each.name.split("/")) or "\0" in each.name:
            reason = f"holds the key {each.name!r}, which is no path below it"
            raise InputError(place, reason, "Remove that object", "unsafe_key")
    return objects


def _fetch(place: str | Path, objects: list[_Object], copy: Path) -> None:
    """Make ``copy`` what S3 has; hidden files beside are on their way into it, for another process."""
    kept = {copy / each.name for each in objects}
    above = {folder for path in kept for folder in path.parents}
    for path in sorted([copy, *copy.rglob("*")], reverse=True):  # files before the folders that hold them
        if path.is_dir() and path not in above:
            with contextlib.suppress(OSError):  # something hidden is in it
                path.rmdir()
        elif path.is_file() and path not in kept and not path.name.startswith("."):
            path.unlink(missing_ok=True)

    def fetch(each: _Object) -> None:
        path, stamp = copy / each.name, _time_of(each.etag)
        with contextlib.suppress(OSError):
            status = path.stat()
            if (status.st_size, status.st_mtime_ns) == (each.size, stamp):
                return
        _download(join(place, each.name) if each.name else str(place), path, stamp)

    with s3_errors(place):
        _at_once(fetch, objects)


def _download(url: str, path: Path, stamp: int) -> None:
    bucket, key = _split(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=".")
    os.close(descriptor)
    try:
        client().download_file(bucket, key, scratch, Config=_transfer())
        os.utime(scratch, ns=(stamp, stamp))
        os.replace(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _upload(path: Path, url: str) -> None:
    """Write an object. One of several parts is tried as a whole, since its last request cannot be repeated."""
    from boto3.exceptions import S3UploadFailedError

    bucket, key = _split(url)
    for left in reversed(range(3)):
        try:
            client().upload_file(str(path), bucket, key, Config=_transfer())
            return
        except S3UploadFailedError as error:
            if not left or "NoSuchUpload" not in str(error):
                raise


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=_MULTIPART, use_threads=False)


def _time_of(etag: str) -> int:
    """A modification time (ns) that stands for an object's content, so that digests are cached by it as well."""
    return int(sha256_bytes(etag.encode())[:15], 16)


def _at_once(work: Callable[[Any], Any], things: Iterable[Any]) -> list[Any]:
    """Do work on things in threads, in any order; the results in theirs."""
    things = list(things)
    if len(things) < 2:
        return [work(each) for each in things]
    with ThreadPoolExecutor(_TRANSFERS) as threads:
        return list(threads.map(work, things))
