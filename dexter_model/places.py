"""Where things lie: every path that the platform takes is a file or folder, or ``s3://bucket/prefix``.

Whoever reads calls ``local``, whoever writes calls ``write`` (a file) or works inside ``writing`` (a folder), and goes
on with ordinary local files either way, so that nothing else knows of S3. Data sets have a door of their own,
``dataset.repository``.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from dexter_model import s3
from dexter_model.digests import cache_dir, write_atomically
from dexter_model.errors import InputError

PUSH_SECONDS = 10.0  # work that a killed writer may lose
LOOKING = 1 / 20  # of the time at most goes into looking what there is to push
RECORDS = r"\.tfrecords?(?:-\d+-of-\d+)?(?:\.gz)?"  # how names of files of many records end
_RECORD = re.compile(rf"(.+{RECORDS})(#\d+)", re.DOTALL)
_READ, _WRITTEN = "s3", "s3-writing"  # folders of the cache: copies to read, and what is being written

log = logging.getLogger(__name__)

Stamps = dict[str, tuple[int, int]]  # size and modification time of files, by their paths below a folder


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


def record_of(place: str | Path) -> tuple[str, str]:
    """The file of a place, and ``#number`` where the place is one record of it (``notes.tfrecord#12``), else ''."""
    record = _RECORD.fullmatch(str(place))
    return (record[1], record[2]) if record else (str(place), "")


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
        objects = s3.objects_at(place)
        _fetch(place, objects, copy)
        if not missing_ok and not (objects and copy.exists()):
            raise InputError(place, "there is nothing", "Check the URL", "missing_file")
    return copy


def copy_of(place: str | Path) -> Path:
    """Where ``local`` has a place, of a record its file; what was fetched before is there, whatever S3 has now."""
    place = record_of(place)[0]
    return cache_dir().joinpath(_READ, *s3.split(place)) if is_url(place) else Path(place)


def names(place: str | Path) -> list[str]:
    """The files under a place, by their paths below it (posix), sorted; '' when the place is a file."""
    if is_url(place):
        return sorted(found.name for found in s3.objects_at(place))
    below = Path(place)
    return [""] if below.is_file() else sorted(p.relative_to(below).as_posix() for p in below.rglob("*") if p.is_file())


def folders(place: str | Path) -> list[str]:
    """The folders right in a place, sorted; a look at them costs one request a thousand, whatever is inside."""
    if not is_url(place):
        return [str(path) for path in sorted(Path(place).glob("*/"))]
    return s3.folders_at(place)


def read(place: str | Path) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: there is none.
        InputError: S3 cannot be reached (``s3_unreachable``) or refuses, as without the bucket (``s3_refused``).
    """
    return s3.get(place) if is_url(place) else Path(place).read_bytes()


def write(place: str | Path, data: bytes) -> None:
    """Write a file, so that readers see all of it or nothing.

    Raises:
        InputError: S3 cannot be reached or refuses (``s3_unreachable``).
    """
    if is_url(place):
        s3.put(place, data)
    else:
        write_atomically(place, data)


def remove(place: str | Path) -> None:
    """Remove a file, if it is there.

    Raises:
        InputError: S3 cannot be reached or refuses (``s3_unreachable``).
    """
    if is_url(place):
        s3.delete(place)
    else:
        Path(place).unlink(missing_ok=True)


class Writing:
    """A folder that is being written: ``folder`` is where, ``push`` makes what was written so far last.

    At S3 the folder is a copy that starts as what is there; hidden files stay here. JSON files tell what is in the
    others: they are taken away before others change, and written after them, so that nobody takes a part for the whole.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = place
        self.folder = Path(place)
        self.seconds_looking = 0.0  # what the last push spent on finding what changed
        self._lock = threading.Lock()
        self._pushed: Stamps = {}  # what S3 has
        self._scratch = _Scratch() if is_url(place) else None
        try:
            if self._scratch:
                self.folder = self._scratch.folder.joinpath(*s3.split(place))
                _fetch(place, s3.objects_at(place), self.folder)
                self._pushed = _stamps(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            reason = f"cannot be made a folder ({error.strerror})"
            raise InputError(place, reason, "Name another folder with --out", "out_unwritable") from None

    def push(self) -> None:
        """Bring S3 to what the folder holds now; of a local folder nothing is to be done.

        Raises:
            InputError: S3 cannot be reached or refuses (``s3_unreachable``).
        """
        if self._scratch:
            with self._lock, s3.s3_errors(self.place):
                self._push()

    def _push(self) -> None:
        began = time.monotonic()
        now = _stamps(self.folder)
        self.seconds_looking = time.monotonic() - began
        changed = [name for name, stamp in now.items() if self._pushed.get(name) != stamp]
        gone = [name for name in self._pushed if name not in now]
        data, telling = ([name for name in changed if _tells(name) == tells] for tells in (False, True))
        folders = {os.path.dirname(name) for name in data}
        outdated = [name for name in telling if name in self._pushed and os.path.dirname(name) in folders]
        unfinished = [name for name in gone if _tells(name) and (self.folder / name).parent.is_dir()]
        self._delete([*outdated, *unfinished])
        self._upload(data, now)
        self._tell(telling, now)
        for pruned in (True, False):  # what tells of others goes first
            self._delete([name for name in gone if name in self._pushed and _tells(name) == pruned])

    def _tell(self, chosen: list[str], now: Stamps) -> None:
        """Write JSON files, each if nothing in its folder changed since what is beside it was written."""
        contents = {}
        for name in chosen:
            with contextlib.suppress(FileNotFoundError):
                contents[name] = (self.folder / name).read_bytes()
        later = _stamps(self.folder) if contents else now
        moving = {os.path.dirname(name) for name, _ in now.items() ^ later.items()}
        for name, content in contents.items():
            if os.path.dirname(name) not in moving:
                write(join(self.place, name), content)
                self._pushed[name] = now[name]

    def _upload(self, chosen: list[str], now: Stamps) -> None:
        def upload(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile: the next push deletes it
                s3.upload(self.folder / name, join(self.place, name))
                self._pushed[name] = now[name]

        s3.at_once(upload, chosen)

    def _delete(self, chosen: list[str]) -> None:
        def delete(name: str) -> None:
            s3.delete(join(self.place, name))
            del self._pushed[name]

        s3.at_once(delete, chosen)

    def close(self, *, keep: bool = False) -> None:
        """Remove the copy, or leave it for good to whoever was told where it is."""
        if self._scratch:
            self._scratch.close(keep=keep)


class _Scratch:
    """A folder of the cache for what is being written. A lock tells that the writer lives: without, the next clears it
    away, as what a killed one left; ``close`` with ``keep`` takes away the lock's file, and so nobody ever does.
    """

    def __init__(self) -> None:
        written = cache_dir() / _WRITTEN
        written.mkdir(exist_ok=True)
        with (written / ".lock").open("w") as door:  # between a folder's making and its lock nobody else looks at it
            fcntl.flock(door, fcntl.LOCK_EX)
            for left in written.glob("*/.lock"):
                _clear_if_left(left)
            self.folder = Path(tempfile.mkdtemp(dir=written))
            self._alive = (self.folder / ".lock").open("w")
            fcntl.flock(self._alive, fcntl.LOCK_EX)

    def close(self, *, keep: bool) -> None:
        """End its use."""
        if keep:
            (self.folder / ".lock").unlink(missing_ok=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._alive.close()


def _clear_if_left(lock: Path) -> None:
    """Remove what a writer left, unless it lives."""
    with contextlib.suppress(OSError), lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.parent, ignore_errors=True)


@contextlib.contextmanager
def writing(place: str | Path) -> Iterator[Writing]:
    """Write a folder; at S3 what is written lasts after some seconds, and all of it at the end, also of what failed.

    Raises:
        InputError: S3 cannot be reached or refuses (``s3_unreachable``).
    """
    written, over = Writing(place), threading.Event()

    def push_now_and_then() -> None:
        while not over.wait(max(PUSH_SECONDS, written.seconds_looking / LOOKING)):
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
            written.close(keep=True)
            reason = f"{error.reason}; what was written stays in {written.folder}"
            raise InputError(place, reason, error.remedy, error.code) from error
        written.close()


def _tells(name: str) -> bool:
    """Whether a file tells what is in others."""
    return name.endswith(".json")


def _stamps(folder: Path) -> Stamps:
    """What is in a folder; hidden files are half-written. All that a JSON file here tells of is found as well."""
    stamps: Stamps = {}
    waiting = [""]
    for below in waiting:
        found = _visible(folder / below)
        telling = [each for each in found if _tells(each.name)]
        if telling:  # what they told of when they were looked at is there by now
            stamps |= _stamps_of(telling, below)
            found = [each for each in _visible(folder / below) if not _tells(each.name)]
        stamps |= _stamps_of(found, below)
        waiting += [f"{below}{each.name}/" for each in found if each.is_dir(follow_symlinks=False)]
    return stamps


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        return [each for each in found if not each.name.startswith(".")]
    return []


def _stamps_of(files: Iterable[os.DirEntry[str]], below: str) -> Stamps:
    stamps: Stamps = {}
    for each in files:
        with contextlib.suppress(FileNotFoundError):
            if each.is_file():
                status = each.stat()
                stamps[below + each.name] = (status.st_size, status.st_mtime_ns)
    return stamps


def shown(path: str | Path) -> str:
    """A path as a person knows it: the URL where it is a copy of what is there."""
    if f"/{_READ}" not in str(path):
        return str(path)
    inside = re.match(rf"{re.escape(str(cache_dir()))}/(?:{_READ}|{_WRITTEN}/[^/]+)/(.+)", str(path))
    return f"s3://{inside[1]}" if inside else str(path)


def _fetch(place: str | Path, objects: list[s3.Object], copy: Path) -> None:
    """Make ``copy`` what S3 has; hidden files beside are on their way into it, for another process."""
    kept = {copy / each.name for each in objects}
    above = {folder for path in kept for folder in path.parents}
    for path in sorted([copy, *copy.rglob("*")], reverse=True):  # files before the folders that hold them
        if path.is_dir() and path not in above:
            with contextlib.suppress(OSError):  # something hidden is in it
                path.rmdir()
        elif path.is_file() and path not in kept and not path.name.startswith("."):
            path.unlink(missing_ok=True)

    def fetch(each: s3.Object) -> None:
        path = copy / each.name
        with contextlib.suppress(OSError):
            status = path.stat()
            if (status.st_size, status.st_mtime_ns) == (each.size, s3.time_of(each.etag)):
                return
        try:
            s3.download(join(place, each.name) if each.name else str(place), path)
        except s3.NoObjectError:  # since it was listed
            path.unlink(missing_ok=True)

    with s3.s3_errors(place):
        s3.at_once(fetch, objects)
