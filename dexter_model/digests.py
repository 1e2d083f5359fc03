"""Digests that name every artefact, and the cache that spares reading unchanged files again."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sqlite3
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


def sha256_bytes(data: bytes) -> str:
    """Sha-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def json_digest(value: Any) -> str:
    """Digest of a JSON value in canonical form (sorted keys, no spaces)."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def array_digest(*arrays: np.ndarray) -> str:
    """Digest of arrays: their types, shapes and contents, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.descr}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def cache_dir() -> Path:
    """Folder of what can be computed again: ``DEXTER_CACHE_DIR``, else ``~/.cache/dexter``; made when missing."""
    folder = Path(os.environ.get("DEXTER_CACHE_DIR") or Path.home() / ".cache" / "dexter")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


_CACHE_TROUBLE = (OSError, sqlite3.Error)  # a cache that cannot be read or written costs time, nothing else


def _digest_cache() -> sqlite3.Connection:
    # One connection a process: SQLite connections do not survive a fork.
    return _connection(os.environ.get("DEXTER_CACHE_DIR"), os.environ.get("HOME"), os.getpid())


@functools.cache
def _connection(*_place_and_process: object) -> sqlite3.Connection:
    connection = sqlite3.connect(
        cache_dir() / "digests.sqlite", timeout=30, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE IF NOT EXISTS digests (path BLOB PRIMARY KEY, stamp TEXT, digest TEXT)")
    return connection


def file_digest(path: str | Path, *, verify: bool = False) -> str:
    """Sha-256 of a file, remembered by size and modification time.

    Args:
        path: the file.
        verify: read the file even when size and time are those of the last reading.

    Raises:
        OSError: the file cannot be read.
    """
    path = os.path.join(os.getcwd(), path)  # pathlib takes five times as long, and there may be 300,000 files
    status = os.stat(path)
    key = os.fsencode(path), f"{status.st_size}:{status.st_mtime_ns}"  # bytes: names need not be UTF-8
    if not verify:
        with contextlib.suppress(*_CACHE_TROUBLE):
            known = _digest_cache().execute("SELECT digest FROM digests WHERE path = ? AND stamp = ?", key).fetchone()
            if known:
                return str(known[0])
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(*_CACHE_TROUBLE):
        _digest_cache().execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", (*key, digest))
    return digest


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file so that readers see all of it or nothing; folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@functools.cache
def code_version() -> str:
    """Version of this code: the package's, and the commit (with ``+dirty``) when run from a checkout."""
    try:
        version = metadata.version("dexter")
    except metadata.PackageNotFoundError:  # a copy of the code on a machine that only trains
        version = "0+uninstalled"
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return version
    git = ["git", "-C", str(checkout)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version}+{commit.stdout.strip()}{'.dirty' if changed.stdout.strip() else ''}"
