"""The score files that a rendering job is asked for: found in folders, named, and read where they can do no harm."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dexter_model.errors import InputError
from dexter_model.notes import Score
from dexter_model.places import copy_of, local, shown
from dexter_model.reading.safety import check_file
from dexter_model.reading.sandbox import Sandbox, SandboxedError
from dexter_model.reading.score import SUFFIXES, cached_score, load_score


@dataclass(frozen=True)
class ScoreFile:
    """A score file: its path as it was given, or its folder's was, and what of that it is called by.

    ``relative`` is the path inside the folder that was asked for; of a single file, its name.
    """

    path: str
    relative: str


def find_scores(paths: Iterable[str | Path], exclude: str | Path | None = None) -> list[ScoreFile]:
    """Score files among files and folders, each once.

    Args:
        paths: files, taken whatever their suffix, and folders, walked for files of known suffixes. Hidden files and
            folders are passed over, links to folders not followed. What is at S3 is fetched.
        exclude: a folder whose files do not count: where renders go.

    Returns:
        In the order given; inside a folder by path.

    Raises:
        InputError: a path does not exist (``missing_file``), or there is no score at all (``no_scores``).
    """
    named = [local(path) for path in paths]
    found: dict[str, ScoreFile] = {}
    for path in named:
        if not path.exists():
            raise InputError(path, "there is no such file or folder", "Check the path", "missing_file")
        for file, relative in _files(path, exclude) if path.is_dir() else [(path, path.name)]:
            found.setdefault(os.path.abspath(file), ScoreFile(shown(file.as_posix()), relative))
    if not found:
        known = ", ".join(SUFFIXES)
        reason = f"holds no score ({known})" if named else "no score was named"
        raise InputError(", ".join(map(str, named)) or "scores", reason, "Name score files or a folder", "no_scores")
    return list(found.values())


def _files(folder: Path, exclude: str | Path | None) -> list[tuple[Path, str]]:
    excluded = copy_of(exclude).resolve() if exclude is not None else None
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and (Path(parent) / f).resolve() != excluded]
        scores = (name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        files += [Path(parent) / name for name in scores]
    return sorted((file, file.relative_to(folder).as_posix()) for file in files)


def render_names(files: Sequence[ScoreFile]) -> list[str]:
    """What to call the render of each score file: its relative path without suffix.

    Files of equal names keep the suffix where they differ in it alone, else get parent folders in front.
    """
    paths = _told_apart(files)
    bare = [path.with_suffix("") for path in paths]
    whole = [path.with_name(path.name.replace(".", "_")) for path in paths]
    count = Counter(str(path).lower() for path in bare)
    equal = Counter(str(path).lower() for path in paths)
    alike = [count[str(short).lower()] == equal[str(path).lower()] for short, path in zip(bare, paths, strict=True)]
    chosen = [short if so else full for short, full, so in zip(bare, whole, alike, strict=True)]
    # A name as long as file systems allow leaves no room for what is written beside it.
    return [str(path if len(os.fsencode(path.name)) < 200 else path.with_name(path.name[:50])) for path in chosen]


def _told_apart(files: Sequence[ScoreFile]) -> list[PurePosixPath]:
    """Relative paths; of equal ones, as much of the given paths as tells them apart, where that is possible."""
    given = [[part for part in PurePosixPath(file.path).parts if part not in ("/", "..")] for file in files]
    used = [len(PurePosixPath(file.relative).parts) for file in files]
    while True:
        paths = [PurePosixPath(*parts[-n:]) for parts, n in zip(given, used, strict=True)]
        count = Counter(str(path).lower() for path in paths)
        longer = [n + (count[str(p).lower()] > 1 and n < len(g)) for g, n, p in zip(given, used, paths, strict=True)]
        if longer == used:
            return paths
        used = longer


def distinct_names(names: Iterable[str]) -> list[str]:
    """The names, numbered where they repeat; case alone makes no difference, as on some file systems."""
    distinct: list[str] = []
    taken: set[str] = set()
    for name in names:
        numbered = (f"{name}_{k}" for k in itertools.count(2))
        distinct.append(next(each for each in itertools.chain([name], numbered) if each.lower() not in taken))
        taken.add(distinct[-1].lower())
    return distinct


def known_score(path: str) -> Score | None:
    """The score of a file as it was read before, None when it was not."""
    try:
        check_file(copy_of(path))
    except InputError:
        return None
    return cached_score(str(copy_of(path)))


class ScoreReader:
    """Reads scores in a child process that stays; refusals are returned, so that none fails a batch."""

    def __init__(self) -> None:
        self._sandbox = Sandbox()

    def run(self, path: str) -> Score | InputError:
        """The score, or why there is none.

        Raises:
            InputError: S3 cannot be reached, which is no fault of the score.
        """
        file = str(local(path, missing_ok=True))
        try:
            return self._sandbox.call(load_score, file)
        except InputError as error:
            return error
        except SandboxedError as error:
            remedy = "Save it again with another program, or leave it out"
            return InputError(path, f"reading it failed ({error.args[0]})", remedy, "score_unreadable")

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()
