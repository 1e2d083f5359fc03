"""Public corpora from GitHub, each at the revision that the project's numbers were made with.

An archive is streamed to a temporary file, checked, unpacked beside its place and renamed into it: a corpus is there
whole or not at all. GitHub packs archives anew from time to time, so their bytes have no digest to pin; the commit does
the pinning, and length and the compressed stream's own checksums say whether all of it arrived.
"""

from __future__ import annotations

import contextlib
import http.client
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dexter_model.corpora import CORPORA, layouts
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.errors import InputError
from dexter_model.places import is_url, names, writing

ARCHIVES = {
    "VIENNA422": "CPJKU/vienna4x22/archive/decce458a2ae1fa41395fc71117180f91cff4aa4.tar.gz",
    "ASAP": "CPJKU/asap-dataset/archive/4097b45757bed854818cf87e77b92323ebf90615.tar.gz",
}
# Why others cannot be downloaded, and what to do.
_NOT_TO_HAVE = {
    "FOLDER": ("is your own folder", "Name it with --data-root DIR"),
    "MIDI": ("is your own folder", "Name it with --data-root DIR"),
    "MAESTRO": (
        "is no archive of a repository",
        "Unpack maestro-v3.0.0-midi.zip from https://magenta.tensorflow.org/datasets/maestro under the datasets root",
    ),
    "LAKH": (
        "is no archive of a repository",
        "Unpack lmd_full.tar.gz from https://colinraffel.com/projects/lmd under the datasets root",
    ),
    "ATEPP": (
        "is sent on request by its authors",
        "Agree to the disclaimer in the repository tangjjbetsy/ATEPP, unpack what you get as the folder ATEPP under "
        "the datasets root, and put the alignments into it: COMPOSER/PIECE/NUMBER/align.csv",
    ),
}
BASE_URL = "https://github.com"
MAX_BYTES = 8 << 30  # unpacked; (n)ASAP, the larger one, has 1 GB
_CHUNK = 1 << 20
_TIMEOUT = 60  # s without a byte


def download(
    corpus: str, roots: CorpusRoots, progress: Callable[[float], None] = lambda done: None, base_url: str = BASE_URL
) -> str:
    """Fetch a public corpus; one that is there is left as it is.

    Args:
        corpus: VIENNA422 or ASAP; MUSIC21 and DEMO come with the installation.
        roots: tells the folder or URL it goes to.
        progress: called with the bytes received so far.
        base_url: the server.

    Returns:
        Where the corpus is.

    Raises:
        InputError: ``download_unknown``, ``download_failed`` (network, disk or a damaged archive), ``corpus_missing``.
    """
    if corpus == "MUSIC21":
        return str(layouts.packaged("music21", "corpus"))
    if corpus == "DEMO":
        return str(layouts.packaged("parangonar", "assets"))
    if corpus not in ARCHIVES:
        reason, remedy = _NOT_TO_HAVE.get(corpus, ("is no corpus", f"Choose one of {', '.join(CORPORA)}"))
        raise InputError(corpus, f"{reason}; there is nothing to download", remedy, "download_unknown")
    destination, url = roots.destination(corpus), f"{base_url}/{ARCHIVES[corpus]}"
    try:
        if names(destination):
            return destination
        if not is_url(destination):
            _fetch_and_unpack(url, Path(destination), progress)
        else:
            with writing(destination) as written:
                _fetch_and_unpack(url, written.folder, progress)
    except (OSError, EOFError, zlib.error, tarfile.TarError, http.client.HTTPException) as error:
        remedy = f"Try again, or unpack the archive yourself as {destination}"
        raise InputError(url, f"could not be downloaded ({_told(error)})", remedy, "download_failed") from error
    return destination


def _fetch_and_unpack(url: str, destination: Path, progress: Callable[[float], None]) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".download-") as unfinished:
        _unpack(url, Path(unfinished), destination, progress)


def _unpack(url: str, unfinished: Path, destination: Path, progress: Callable[[float], None]) -> None:
    archive = unfinished / "archive.tar.gz"
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, archive.open("wb") as file:
        _copy(response, file, progress)
    with tarfile.open(archive, "r:gz") as tar:
        _check_size(tar)
        tar.extractall(unfinished / "unpacked", filter="data")
    top = _only_folder(unfinished / "unpacked")
    with contextlib.suppress(FileNotFoundError):
        destination.rmdir()  # an empty folder made beforehand
    top.rename(destination)


def _copy(response: http.client.HTTPResponse, file: IO[bytes], progress: Callable[[float], None]) -> None:
    expected = response.headers.get("Content-Length")
    received = 0
    while chunk := response.read(_CHUNK):
        file.write(chunk)
        received += len(chunk)
        progress(received)
    if expected is not None and received != int(expected):
        raise EOFError(f"{received} of {expected} bytes arrived")


def _check_size(tar: tarfile.TarFile) -> None:
    size = 0
    for member in tar:
        size += member.size
        if size > MAX_BYTES:
            raise tarfile.TarError(f"more than {MAX_BYTES >> 30} GB unpacked")


def _only_folder(unpacked: Path) -> Path:
    inside = list(unpacked.iterdir())
    if len(inside) != 1 or not inside[0].is_dir():
        raise tarfile.TarError("it does not hold one folder, as archives of repositories do")
    return inside[0]


def _told(error: Exception) -> str:
    reason = getattr(error, "reason", None) if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason or error).split()) or type(error).__name__
