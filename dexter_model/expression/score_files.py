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
from dexter_model.reading.safety import check_file
from dexter_model.reading.sandbox import Sandbox, SandboxedError
from dexter_model.reading.score import SUFFIXES, cached_score, load_score


@dataclass(frozen=True)
class ScoreFile:
    """A score file: its path, and its path inside the folder that was asked for (of a single file: its name)."""

    path: str
    relative: str


def find_scores(paths: Iterable[str | Path], exclude: str | Path | None = None) -> list[ScoreFile]:
    """Score files among files and folders, each once.

    Args:
        paths: files, taken whatever their suffix, and folders, walked for files of known suffixes. Hidden files and
            folders are passed over, links to folders not followed.
        exclude: a folder whose files do not count: where renders go.

    Returns:
        In the order given; inside a folder by path.

    Raises:
        InputError: a path does not exist (``missing_file``), or there is no score at all (``no_scores``).
    """
    named = [Path(path) for path in paths]
    found: dict[Path, ScoreFile] = {}
    for path in named:
        if not path.exists():
            raise InputError(path, "there is no such file or folder", "Check the path", "missing_file")
        for file, relative in _files(path, exclude) if path.is_dir() else [(path, path.name)]:
            found.setdefault(file.absolute(), ScoreFile(str(file), relative))
    if not found:
        known = ", ".join(SUFFIXES)
        reason = f"holds no score ({known})" if named else "no score was named"
        raise InputError(", ".join(map(str, named)) or "scores", reason, "Name score files or a folder", "no_scores")
    return list(found.values())


def _files(folder: Path, exclude: str | Path | None) -> list[tuple[Path, str]]:
    excluded = Path(exclude).resolve() if exclude is not None else None
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and (Path(parent) / f).resolve() != excluded]
        scores = (name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        files += [Path(parent) / name for name in scores]
    return sorted((file, file.relative_to(folder).as_posix()) for file in files)


def render_names(relatives: Sequence[str]) -> list[str]:
    """What to call the render of each score file: its path without suffix, with it where several differ in it alone."""
    paths = [PurePosixPath(relative) for relative in relatives]
    bare = [path.with_suffix("") for path in paths]
    count = Counter(str(path).lower() for path in bare)
    whole = [path.with_name(path.name.replace(".", "_")) for path in paths]
    chosen = [short if count[str(short).lower()] == 1 else full for short, full in zip(bare, whole, strict=True)]
    # A name as long as file systems allow leaves no room for what is written beside it.
    return [str(path if len(os.fsencode(path.name)) < 200 else path.with_name(path.name[:50])) for path in chosen]


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
        check_file(Path(path))
    except InputError:
        return None
    return cached_score(path)


class ScoreReader:
    """Reads scores in a child process that stays; refusals are returned, so that none fails a batch."""

    def __init__(self) -> None:
        self._sandbox = Sandbox()

    def run(self, path: str) -> Score | InputError:
        """The score, or why there is none."""
        try:
            return self._sandbox.call(load_score, path)
        except InputError as error:
            return error
        except SandboxedError as error:
            remedy = "Save it again with another program, or leave it out"
            return InputError(path, f"reading it failed ({error.args[0]})", remedy, "score_unreadable")

    def close(self) -> None:
        """End the child process."""
        self._sandbox.close()
