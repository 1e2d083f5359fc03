"""Digests of files: right whatever state the cache is in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from musicxml_samples import scale

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.digests import file_digest
from dexter_model.errors import InputError
from dexter_model.reading.score import load_score


@pytest.fixture(params=["nowhere", "a file", "damaged"])
def broken_cache(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = {"nowhere": "/dev/null/cache", "a file": "file", "damaged": "damaged"}[request.param]
    (tmp_path / "file").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "digests.sqlite").write_bytes(b"no database " * 500)
    monkeypatch.setenv("DEXTER_CACHE_DIR", str(tmp_path / folder))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("broken_cache")
def test_a_broken_cache_costs_time_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.match"
    for text in ("one", "two"):
        path.write_text(text)
        assert file_digest(path) == file_digest(path, verify=True) == sha256(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file_digest(path)


@pytest.mark.usefixtures("broken_cache")
def test_scores_are_read_without_a_cache_and_the_demo_corpus_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a.musicxml"
    path.write_text(scale())
    assert len(load_score(path).notes)
    if "damaged" not in os.environ["DEXTER_CACHE_DIR"]:
        with pytest.raises(InputError, match="DEXTER_CACHE_DIR") as caught:
            discover("DEMO", CorpusRoots())
        assert caught.value.code == "cache_unwritable"


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.match"))
    path.write_text("one")
    assert file_digest(path) == file_digest(path) == sha256(path)


def test_what_is_remembered_is_what_was_read_last(tmp_path: Path) -> None:
    path = tmp_path / "a.match"
    path.write_text("one")
    first, stamp = file_digest(path), path.stat()
    path.write_text("two")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert file_digest(path) == first
    assert file_digest(path, verify=True) == file_digest(path) == sha256(path)
