"""Downloads of corpora, from a server of this machine."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from dexter_model.corpora import discover
from dexter_model.corpora.download import ARCHIVES, download
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.errors import InputError


class _Archives(BaseHTTPRequestHandler):
    bodies: ClassVar[dict[str, bytes]] = {}
    cut: ClassVar[int] = 0  # bytes promised and not sent

    def do_GET(self) -> None:
        body = self.bodies.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - self.cut])

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    _Archives.bodies, _Archives.cut = {}, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _Archives) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def archive(*names: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 5
            tar.addfile(member, io.BytesIO(b"music"))
    return packed.getvalue()


def serve(corpus: str, body: bytes) -> None:
    _Archives.bodies[f"/{ARCHIVES[corpus]}"] = body


def test_a_download_is_unpacked_under_its_public_name_and_kept(tmp_path: Path, server: str) -> None:
    serve("VIENNA422", archive("vienna4x22-decce/match/A_p01.match", "vienna4x22-decce/musicxml/A.musicxml"))
    roots, received = CorpusRoots(tmp_path / "new"), list[float]()
    folder = Path(download("VIENNA422", roots, received.append, server))
    assert folder == tmp_path / "new" / "vienna4x22"
    assert received[-1] == len(_Archives.bodies[f"/{ARCHIVES['VIENNA422']}"])
    (piece,) = discover("VIENNA422", roots)
    assert Path(str(piece.score)).read_bytes() == b"music"
    assert [path.name for path in folder.parent.iterdir()] == ["vienna4x22"]  # nothing temporary is left
    _Archives.bodies.clear()
    assert download("VIENNA422", roots, base_url=server) == str(folder)  # the server is not asked again


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>no archive</html>",
        archive("top/a")[:-20],
        archive("top/a", "../escaped"),
        archive("/top/a", "other/b"),
        archive(),
    ],
    ids=["empty", "html", "truncated", "escaping", "two folders", "hollow"],
)
def test_a_damaged_archive_leaves_nothing_behind(body: bytes, tmp_path: Path, server: str) -> None:
    serve("ASAP", body)
    with pytest.raises(InputError) as caught:
        download("ASAP", CorpusRoots(tmp_path / "root"), base_url=server)
    assert caught.value.code == "download_failed"
    assert list((tmp_path / "root").iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_network_errors_are_one_clear_error(tmp_path: Path, server: str) -> None:
    roots = CorpusRoots(tmp_path)
    with pytest.raises(InputError, match="Not Found"):
        download("ASAP", roots, base_url=server)
    serve("ASAP", archive("top/a"))
    _Archives.cut = 10
    with pytest.raises(InputError, match="bytes arrived"):
        download("ASAP", roots, base_url=server)
    with pytest.raises(InputError, match="could not be downloaded"):
        download("ASAP", roots, base_url="http://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEXTER_DATASETS_ROOT", raising=False)
    assert Path(download("MUSIC21", CorpusRoots()), "bach").is_dir()
    assert Path(download("DEMO", CorpusRoots())).is_dir()
    for corpus in ("FOLDER", "NOPE"):
        with pytest.raises(InputError) as caught:
            download(corpus, CorpusRoots(tmp_path))
        assert caught.value.code == "download_unknown"
    with pytest.raises(InputError, match="--datasets-root"):
        download("ASAP", CorpusRoots())
