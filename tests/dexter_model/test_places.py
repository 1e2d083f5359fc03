"""Places at S3 on a real S3 protocol server: what is read is what is there, what is written is whole."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_proxy import FAULTS, at_random, faults
from s3_servers import S3Server

from dexter_model import places, s3
from dexter_model.digests import cache_dir, file_digest, sha256_bytes
from dexter_model.errors import InputError


def put(url: str, content: bytes) -> None:
    places.write(url, content)


def test_a_path_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert places.absolute("a/b") == str(tmp_path / "a" / "b")
    assert places.join("a", "b", "c") == "a/b/c"
    assert places.local("a") == Path("a")
    places.write("a/b.json", b"{}")
    assert places.read("a/b.json") == b"{}"
    assert places.names("a") == ["b.json"]
    assert places.names("a/b.json") == [""]
    with places.writing("a") as written:
        (written.folder / "c").write_text("c")
    assert places.names("a") == ["b.json", "c"]


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3://", "s3:///x", "http://host/x"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        places.local(url)
    assert caught.value.code == "bad_url"


def test_a_folder_is_read_as_it_is_now(moto_bucket: str) -> None:
    url = f"{moto_bucket}/corpus"
    for name in ("a.txt", "b/c.txt", "b/d.txt"):
        put(f"{url}/{name}", name.encode())
    put(f"{moto_bucket}/corpus2/other", b"another place with the same beginning")
    folder = places.local(url)
    assert places.names(url) == ["a.txt", "b/c.txt", "b/d.txt"]
    assert {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()} == {
        name: name for name in places.names(url)
    }
    before = file_digest(folder / "a.txt")
    put(f"{url}/a.txt", b"A.TXT")  # as long, within the same second
    put(f"{url}/e.txt", b"new")
    s3.client().delete_object(Bucket=moto_bucket.removeprefix("s3://"), Key="corpus/b/c.txt")
    assert (folder / "a.txt").read_text() == "a.txt"
    assert places.local(url) == folder
    assert (folder / "a.txt").read_text() == "A.TXT"
    assert file_digest(folder / "a.txt") != before
    assert sorted(path.name for path in folder.rglob("*.txt")) == ["a.txt", "d.txt", "e.txt"]
    assert places.local(f"{url}/b/d.txt").read_text() == "b/d.txt"


def test_only_what_changed_is_fetched(s3_bucket: str) -> None:
    """A server's listing and its answers have the same ETag."""
    url = f"{s3_bucket}/corpus"
    put(f"{url}/a", b"a")
    fetched: list[str] = []
    with_hook = s3.client().meta.events
    with_hook.register("before-call.s3.GetObject", lambda params, **_: fetched.append(params["url_path"]))
    places.local(url)
    places.local(url)
    put(f"{url}/b", b"b")
    places.local(url)
    assert [path.rpartition("/")[2] for path in fetched] == ["a", "b"]


def test_what_is_not_there(moto_bucket: str) -> None:
    url = f"{moto_bucket}/nothing"
    with pytest.raises(InputError) as caught:
        places.local(url)
    assert (caught.value.code, caught.value.path) == ("missing_file", url)
    assert not places.local(url, missing_ok=True).exists()
    with pytest.raises(FileNotFoundError):
        places.read(url)
    for look in (places.local, places.read, places.Writing):
        with pytest.raises(InputError) as caught:
            look(f"{moto_bucket}-of-nobody/x")
        assert caught.value.code == "s3_refused"
        assert str(caught.value).startswith(f"{moto_bucket}-of-nobody/x: there is no such bucket")
    assert not scratch()


def once(event: str, action: Callable[[], None]) -> None:
    """Do something right before the next request of a kind."""
    events = s3.client().meta.events

    def do(**_: object) -> None:
        events.unregister(event, do)
        action()

    events.register(event, do)


def test_a_copy_is_known_by_what_was_fetched_and_not_by_what_was_listed(moto_bucket: str) -> None:
    url = f"{moto_bucket}/in"
    put(f"{url}/a", b"one")
    once("before-call.s3.GetObject", lambda: put(f"{url}/a", b"two"))
    assert (places.local(url) / "a").read_bytes() == b"two"
    assert file_digest(places.local(url) / "a") == sha256_bytes(b"two")
    put(f"{url}/a", b"one")
    assert (places.local(url) / "a").read_bytes() == b"one"
    assert file_digest(places.local(url) / "a") == sha256_bytes(b"one")


def test_what_is_removed_after_it_was_listed_is_not_there(moto_bucket: str) -> None:
    url = f"{moto_bucket}/in"
    for name in "ab":
        put(f"{url}/{name}", b"1")
    places.local(url)
    put(f"{url}/b", b"2")
    once("before-call.s3.GetObject", lambda: places.remove(f"{url}/b"))
    assert [path.name for path in places.local(url).iterdir()] == ["a"]
    put(f"{url}/a", b"2")
    once("before-call.s3.GetObject", lambda: places.remove(f"{url}/a"))
    with pytest.raises(InputError) as caught:
        places.local(f"{url}/a")
    assert caught.value.code == "missing_file"


@pytest.mark.parametrize("key", ["corpus/../../escaped", "corpus//x", "corpus/./x"])
def test_a_key_leads_nowhere_else(moto_bucket: str, key: str) -> None:
    s3.client().put_object(Bucket=moto_bucket.removeprefix("s3://"), Key=key, Body=b"x")
    with pytest.raises(InputError) as caught:
        places.local(f"{moto_bucket}/corpus")
    assert caught.value.code == "unsafe_key"


def test_errors_tell_the_url_and_not_the_copy(moto_bucket: str) -> None:
    url = f"{moto_bucket}/model"
    put(f"{url}/checkpoint.json", b"{}")
    error = InputError(places.local(url) / "checkpoint.json", "is none", "Give one", "x")
    assert str(error) == f"{url}/checkpoint.json: is none. Give one."
    with places.writing(url) as written:
        assert InputError(written.folder, "is none", "Give one", "x").path == url


def test_what_is_written_is_there_and_what_is_removed_is_gone(moto_bucket: str) -> None:
    url = f"{moto_bucket}/out"
    put(f"{url}/kept", b"kept")
    put(f"{url}/old", b"old")
    with places.writing(url) as written:
        assert sorted(path.name for path in written.folder.iterdir()) == ["kept", "old"]
        (written.folder / "old").unlink()
        (written.folder / "deep" / "er").mkdir(parents=True)
        (written.folder / "deep" / "er" / "new").write_bytes(b"new")
        (written.folder / ".half").write_bytes(b"half")
        put(f"{url}/elses", b"written by another meanwhile")
    assert places.names(url) == ["deep/er/new", "elses", "kept"]
    assert not written.folder.exists()


def test_what_a_failed_job_did_is_kept(moto_bucket: str) -> None:
    url = f"{moto_bucket}/out"

    def fail() -> None:
        with places.writing(url) as written:
            (written.folder / "done").write_text("done")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert places.names(url) == ["done"]


def test_what_tells_of_files_is_there_only_while_they_are_whole(moto_bucket: str) -> None:
    """Every request that changes something is looked at: no listing beside files it does not tell of."""
    url = f"{moto_bucket}/renders"
    seen: list[list[str]] = []
    with places.writing(url) as written:
        (written.folder / "a.mid").write_text("first")
        (written.folder / "renders.json").write_text("first")
        (written.folder / "checkpoints" / "1").mkdir(parents=True)
        (written.folder / "checkpoints" / "1" / "checkpoint.json").write_text("first")
        (written.folder / "checkpoints" / "1" / "weights").write_text("first")
    with places.writing(url) as written:
        (written.folder / "a.mid").write_text("second time")
        (written.folder / "b.mid").write_text("second time")
        (written.folder / "renders.json").write_text("second time")
        (written.folder / "checkpoints" / "1").rename(written.folder / "checkpoints" / "2")
        (written.folder / "checkpoints" / "2" / "weights").write_text("second time")
        watch = s3.client().meta.events
        watch.register_first("before-call.s3.PutObject", lambda **_: seen.append(places.names(url)))
        watch.register_first("before-call.s3.DeleteObject", lambda **_: seen.append(places.names(url)))
    assert places.names(url) == [
        "a.mid",
        "b.mid",
        "checkpoints/2/checkpoint.json",
        "checkpoints/2/weights",
        "renders.json",
    ]
    assert {"renders.json"} <= set(seen[0])
    writing_midi = [names for names in seen if "renders.json" not in names]
    assert len(writing_midi) >= 2
    for names in seen:
        assert "checkpoints/1/checkpoint.json" in names or "checkpoints/2/checkpoint.json" in names
        assert "checkpoints/2/checkpoint.json" not in names or "checkpoints/2/weights" in names


def test_a_long_job_lasts_from_time_to_time(moto_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{moto_bucket}/out"
    monkeypatch.setattr(places, "PUSH_SECONDS", 0.05)
    pushed = threading.Event()
    with places.writing(url) as written:
        (written.folder / "first").write_text("1")
        for _ in range(200):
            if places.names(url):
                pushed.set()
                break
            pushed.wait(0.05)
        assert pushed.is_set()
        assert places.names(url) == ["first"]


def test_other_credentials_are_another_client(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_server.used():
        first = s3.client()
        assert s3.client() is first
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody else")
        assert s3.client() is not first


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_on_the_way_change_nothing(fault: str, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request in six fails; everything is written, read and removed all the same, and little is repeated."""
    if fault == "stalled":
        monkeypatch.setattr(s3, "READ_SECONDS", 0.5)
    url = f"{moto_server.new_bucket()}/out"
    contents = {f"{name}.mid": os.urandom(5000) for name in range(12)} | {"renders.json": b"{}"}
    with faults(moto_server.endpoint, 1.0) as proxy, dataclasses.replace(moto_server, endpoint=proxy.endpoint).used():
        proxy.plan = at_random(3, 1 / 6, fault)
        with places.writing(url) as written:
            for name, content in contents.items():
                (written.folder / name).write_bytes(content)
            (written.folder / "old").write_text("old")
            written.push()
            (written.folder / "old").unlink()
        assert {name: places.read(f"{url}/{name}") for name in contents} == contents
        folder = places.local(url)
        proxy.plan = None
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
    assert proxy.injected[fault] > 2
    assert proxy.requests.total() < 100  # a calm job needs some 45
    with moto_server.used():
        assert places.names(url) == sorted(contents)


def test_what_was_removed_is_not_read_again(moto_bucket: str) -> None:
    put(f"{moto_bucket}/score.mid", b"score")
    assert places.local(f"{moto_bucket}/score.mid").exists()
    places.remove(f"{moto_bucket}/score.mid")
    assert not places.local(f"{moto_bucket}/score.mid", missing_ok=True).exists()


def test_a_file_may_become_a_folder_and_a_folder_a_file(moto_bucket: str) -> None:
    put(f"{moto_bucket}/in/a/b", b"1")
    assert places.local(f"{moto_bucket}/in").joinpath("a/b").read_bytes() == b"1"
    places.remove(f"{moto_bucket}/in/a/b")
    put(f"{moto_bucket}/in/a", b"2")
    assert places.local(f"{moto_bucket}/in").joinpath("a").read_bytes() == b"2"
    places.remove(f"{moto_bucket}/in/a")
    put(f"{moto_bucket}/in/a/b", b"3")
    assert places.local(f"{moto_bucket}/in").joinpath("a/b").read_bytes() == b"3"
    put(f"{moto_bucket}/in/a", b"4")
    with pytest.raises(InputError) as caught:
        places.local(f"{moto_bucket}/in")
    assert caught.value.code == "unsafe_key"


def test_processes_of_one_machine_read_the_same(moto_bucket: str) -> None:
    for name in range(40):
        put(f"{moto_bucket}/in/{name}", os.urandom(2000))
    code = "import sys; from dexter_model import places; print(len(list(places.local(sys.argv[1]).glob('[0-9]*'))))"
    command = [sys.executable, "-c", code, f"{moto_bucket}/in"]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [reader.communicate()[0] for reader in readers] == ["40\n"] * 4


def test_a_whole_bucket_is_written(moto_bucket: str) -> None:
    with places.writing(moto_bucket) as written:
        (written.folder / "a").write_text("a")
    with places.writing(moto_bucket) as written:
        (written.folder / "a").rename(written.folder / "b")
    assert places.names(moto_bucket) == ["b"]


def test_what_cannot_be_written_stays_here(moto_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{moto_bucket}/out"
    monkeypatch.setattr(s3, "ATTEMPTS", 1)

    def work() -> None:
        with places.writing(url) as written:
            (written.folder / "work").write_text("of a night")
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(InputError, match="stays in") as caught:
        work()
    kept = re.search(r"stays in (\S+)", caught.value.reason)
    assert kept is not None
    monkeypatch.undo()
    with places.writing(url):
        pass
    assert Path(kept[1].rstrip(".;"), "work").read_text() == "of a night"


def scratch() -> list[str]:
    """What is in the cache of what is being written."""
    return sorted(path.name for path in (cache_dir() / "s3-writing").glob("*") if path.name != ".lock")


def test_what_a_killed_writer_left_is_cleared_away_and_not_what_another_writes(moto_bucket: str) -> None:
    code = """
import os, signal, sys
from dexter_model import places
with places.writing(sys.argv[1]) as written:
    (written.folder / "a").write_text("a")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    before = set(scratch())
    killed = subprocess.run([sys.executable, "-c", code, f"{moto_bucket}/out"], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = set(scratch()) - before
    assert len(left) == 1
    with places.writing(f"{moto_bucket}/a") as one:
        (one.folder / "a").write_text("a")
        with places.writing(f"{moto_bucket}/b") as other:
            (other.folder / "b").write_text("b")
            assert not left & set(scratch())
    assert places.names(moto_bucket) == ["a/a", "b/b"]
    assert set(scratch()) == before


def test_a_push_that_failed_goes_on_where_it_was(moto_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[str] = []
    upload = s3.upload

    def failing(path: Path, url: str) -> None:
        if path.name == "z" and "z" not in uploaded:
            uploaded.append("z")
            raise InputError(url, "is away", "Wait", "s3_unreachable")
        uploaded.append(path.name)
        upload(path, url)

    monkeypatch.setattr(s3, "upload", failing)
    with places.writing(f"{moto_bucket}/out") as written:
        for name in "abz":
            (written.folder / name).write_text(name)
        with pytest.raises(InputError):
            written.push()
    assert places.names(f"{moto_bucket}/out") == ["a", "b", "z"]
    assert uploaded.count("a") == uploaded.count("b") == 1


def test_what_tells_of_files_that_change_meanwhile_waits(moto_bucket: str) -> None:
    url = f"{moto_bucket}/best"

    def replaced(**_: object) -> None:
        (written.folder / "weights").write_text("of step two")
        (written.folder / "checkpoint.json").write_text("two")
        events.unregister("before-call.s3.PutObject", replaced)

    events = s3.client().meta.events
    with places.writing(url) as written:
        (written.folder / "weights").write_text("of step one")
        (written.folder / "checkpoint.json").write_text("one")
        events.register("before-call.s3.PutObject", replaced)
        written.push()
        assert "checkpoint.json" not in places.names(url)
    assert (places.read(f"{url}/weights"), places.read(f"{url}/checkpoint.json")) == (b"of step two", b"two")
