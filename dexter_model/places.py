"""Where things lie: every path that the platform takes is a file or folder, or ``s3://bucket/prefix``.

Whoever reads calls ``local``, whoever writes calls ``write`` (a file) or works inside ``writing`` (a folder), and goes
on with ordinary local files either way, so that nothing else knows of S3. Data sets have a door of their own,
``dataset.repository``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from dexter_model import s3
from dexter_model.digests import cache_dir, sha256_bytes, write_atomically
from dexter_model.errors import InputError

PUSH_SECONDS = 10.0  # work that a killed writer may lose
_READ, _WRITTEN = "s3", "s3-writing"  # folders of the cache: copies to read, and what is being written

log = logging.getLogger(__name__)


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
        objects = s3.objects_at(place)
        if not objects and not missing_ok:
            raise InputError(place, "there is nothing", "Check the URL", "missing_file")
        _fetch(place, objects, copy)
    return copy


def copy_of(place: str | Path) -> Path:
    """Where ``local`` has a place; what was fetched before is there, whatever S3 has now."""
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
        InputError: S3 cannot be reached or refuses (``s3_unreachable``).
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
        self._remote = is_url(place)
        self._lock = threading.Lock()
        self._pushed: dict[str, tuple[int, int]] = {}  # what S3 has, as size and modification time here
        self.folder = Path(place)
        if self._remote:
            bucket, key = s3.split(place)
            (cache_dir() / _WRITTEN).mkdir(exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(dir=cache_dir() / _WRITTEN))
            self.folder = self._scratch / bucket / key
            _fetch(place, s3.objects_at(place), self.folder)
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
            with self._lock, s3.s3_errors(self.place):
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
                s3.upload(self.folder / name, join(self.place, name))
                return name
            return None

        for name in s3.at_once(upload, chosen):
            if name is not None:
                self._pushed[name] = stamps[name]

    def _delete(self, chosen: list[str]) -> None:
        s3.at_once(lambda name: s3.delete(join(self.place, name)), chosen)
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
        path, stamp = copy / each.name, _time_of(each.etag)
        with contextlib.suppress(OSError):
            status = path.stat()
            if (status.st_size, status.st_mtime_ns) == (each.size, stamp):
                return
        s3.download(join(place, each.name) if each.name else str(place), path, stamp)

    with s3.s3_errors(place):
        s3.at_once(fetch, objects)


def _time_of(etag: str) -> int:
    """A modification time (ns) that stands for an object's content, so that digests are cached by it as well."""
    return int(sha256_bytes(etag.encode())[:15], 16)
