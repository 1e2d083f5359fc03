from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import icechunk
import numpy as np
import pytest
from fault_proxy import FAULTS, FaultProxy, Plan, at_random, faults, first
from s3_servers import CEPH, S3Server
from test_dataset_store import FAILURE, assert_equal, piece, publish, write

from dexter_model.dataset import repository
from dexter_model.dataset.build import building, gathered
from dexter_model.dataset.store import list_versions, open_version
from dexter_model.errors import InputError
from dexter_model.refusals import refusal

PIECES = [[piece("a"), piece("b")], [piece("c")]]


@pytest.fixture
def proxy(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """In use, before moto."""
    monkeypatch.setattr(repository, "ACTION_S", 60.0)
    with faults(moto_server.endpoint, stall=6.0) as between:
        with dataclasses.replace(moto_server, endpoint=between.endpoint).used():
            yield between
        between.plan = None


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of a build that nothing disturbs."""
    url = str(tmp_path_factory.mktemp("calm"))
    publish(url, PIECES)
    return open_version(url).digest


def test_a_store_on_s3_is_as_one_in_a_folder(s3_bucket: str) -> None:
    url = f"{s3_bucket}/lab/store"
    publish(url, PIECES, (FAILURE,))
    version = open_version(url)
    for key in "cab":
        assert_equal(version.piece("TEST", key), piece(key))
    publish(url, [[piece("a")]])
    assert list_versions(url) == ["v1", "v2"]
    assert np.array_equal(open_version(url, "v1").catalogue["key"], ["a", "b", "c"])


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "stalled"])
def test_a_build_among_faults_is_as_a_calm_one(fault: str, calm: str, proxy: FaultProxy, moto_server: S3Server) -> None:
    """One request in eight fails; the version and every array are those of a calm build, and little is repeated."""
    url = f"{moto_server.new_bucket()}/store"
    proxy.plan = at_random(1, 0.125, fault)
    publish(url, PIECES)
    version = open_version(url)
    for read in version.pieces():
        assert_equal(read, piece(read.key))
    proxy.plan = None
    assert proxy.injected[fault] > 3
    assert proxy.requests.total() < 500  # a calm one needs some 150
    assert (version.digest, version.id, list_versions(url)) == (calm, "v1", ["v1"])


@pytest.mark.parametrize(
    ("where", "skipped"),
    [("snapshots", 0), ("branch.main", 0), ("branch.main", 1), ("branch.build", 0), ("branch.build", 1), ("tag.v1", 0)],
)
def test_own_writes_are_known_again(
    where: str, skipped: int, calm: str, proxy: FaultProxy, moto_server: S3Server
) -> None:
    """The server did it and the answer is lost: making the store, its branches, a commit, publishing, the tag."""
    url = f"{moto_server.new_bucket()}/store"
    proxy.plan = first("lost", "PUT", where, skipped=skipped)
    publish(url, PIECES)
    assert proxy.injected["lost"] == 1
    assert list_versions(url) == ["v1"]
    assert open_version(url, "v1").digest == calm


@pytest.mark.parametrize(("method", "where"), [("PUT", "branch.build"), ("GET", "snapshots")])
def test_a_request_that_is_never_answered_is_given_up(
    method: str, where: str, calm: str, proxy: FaultProxy, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "ACTION_S", 3.0)
    monkeypatch.setattr(repository, "TRIES", 20)  # on a busy machine an action may take as long without a fault
    monkeypatch.setattr(repository, "PAUSE_S", 0.0)  # and Icechunk asks for a snapshot again when its connection ends
    url = f"{moto_server.new_bucket()}/store"
    proxy.plan = first("stalled", method, where)
    publish(url, PIECES)
    assert proxy.injected["stalled"] == 1
    assert open_version(url).digest == calm


@pytest.mark.parametrize("written", [1, 0])
def test_a_store_whose_making_was_interrupted_is_made(written: int, proxy: FaultProxy, moto_server: S3Server) -> None:
    url = f"{moto_server.new_bucket()}/store"
    puts = iter(range(1000))
    down: Plan = lambda method, _path: "dropped" if method == "PUT" and next(puts) >= written else None  # noqa: E731
    proxy.plan = down
    with pytest.MonkeyPatch.context() as brief:
        brief.setattr("dexter_model.s3.ATTEMPTS", 1)
        with pytest.raises(InputError):
            repository.create_repository(url)
    proxy.plan = None
    with pytest.raises(InputError) as told:
        open_version(url)
    assert told.value.code == "no_dataset"
    publish(url, PIECES)
    assert list_versions(url) == ["v1"]


def test_a_server_that_stays_away_is_told_and_what_was_built_is_found_again(
    proxy: FaultProxy, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "REQUEST_TRIES", 2)
    monkeypatch.setattr(repository, "PAUSE_S", 0.02)
    url = f"{moto_server.new_bucket()}/store"
    with building(url) as build:
        shard = write(build, PIECES[0])
        proxy.plan = lambda _method, _path: "slow down"
        with monkeypatch.context() as brief:
            brief.setattr(repository, "ACTION_S", 1.0)  # Icechunk itself asks ten times whether there is a repository
            with pytest.raises(InputError) as told:
                write(build, PIECES[1])
        assert told.value.code == "store_unreachable"
        assert proxy.injected["slow down"] < 40
        proxy.plan = None
    with building(url) as build:
        assert build.finished_shards() == {shard}


def test_the_second_of_two_builds_stops_and_the_first_goes_on(s3_bucket: str) -> None:
    url = f"{s3_bucket}/store"
    with building(url) as one, building(url) as other:
        a = write(one, PIECES[0])
        with pytest.raises(InputError) as told:
            write(other, PIECES[1])
        assert told.value.code == "store_busy"
        one.publish(gathered([one.manifest(a)]))
    assert open_version(url).catalogue["key"].to_list() == ["a", "b"]


def test_a_build_that_began_meanwhile_keeps_its_shards(moto_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a roll-back a build takes its branch back to before the later version, unless another build did so."""
    url = f"{moto_bucket}/store"
    for key in "ab":
        publish(url, [[piece(key)]])
    with building(url) as build:
        build.roll_back("v1")
    ancestry = icechunk.Repository.ancestry
    shards: list[str] = []

    def meanwhile(self: icechunk.Repository, **given: str) -> list[icechunk.SnapshotInfo]:
        found = list(ancestry(self, **given))
        if not shards:
            shards.append("none yet")
            with building(url) as other:
                shards[0] = write(other, [piece("c")])
        return found

    monkeypatch.setattr(icechunk.Repository, "ancestry", meanwhile)
    with building(url) as build:
        assert shards[0] in build.finished_shards()


@pytest.mark.skipif(not CEPH, reason="no Ceph here")
def test_what_is_refused_is_told_with_a_remedy(ceph_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(**environment: str) -> tuple[str, str]:
        with ceph_server.used():
            os.environ.update(environment)
            url = environment.get("url", bucket)
            with pytest.raises(InputError) as caught:
                publish(f"{url}/store", PIECES)
        assert caught.value.path == f"{url}/store"
        return caught.value.code, f"{caught.value.reason}. {caught.value.remedy}."

    bucket = ceph_server.new_bucket()
    code, words = told(AWS_SECRET_ACCESS_KEY="wrong")
    assert code == "store_refused"
    assert "does not know these credentials. Check AWS_ACCESS_KEY_ID" in words
    assert "does not know" in told(AWS_ACCESS_KEY_ID="nobody")[1]
    assert (
        "no such bucket. Correct the URL, or make it with `dexter store init`" in told(url="s3://bucket-of-nobody")[1]
    )
    with ceph_server.used():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        with pytest.raises(InputError, match="there are no credentials"):
            open_version(bucket)


def test_endpoint_and_region_may_come_from_a_profile(
    moto_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto_server.new_bucket()
    (tmp_path / "config").write_text(f"[profile lab]\nregion = eu-west-1\nendpoint_url = {moto_server.endpoint}\n")
    with moto_server.used():
        for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "lab")
        publish(f"{bucket}/store", PIECES)
        assert list_versions(f"{bucket}/store") == ["v1"]


def icechunk_told(first: str, *causes: str) -> str:
    """A message as Icechunk writes them."""
    context = [
        "context:",
        "   0: icechunk::storage::s3::get_ref",
        '           with ref_key="NoSuchBucket/ref.json"',
        "",
    ]
    arrows = [*(f"|-> {cause}" for cause in (first, *causes[:-1])), f"`-> {causes[-1]}"]
    return "\n".join(
        [f"  x {first}", "  | ", *(f"  | {line}" for line in context), *(f"  {line}" for line in arrows), ""]
    )


SERVICE = "error getting object from object store service error"
BOTO = "An error occurred ({}) when calling the PutObject operation: of QuotaExceeded.mid"


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (BOTO.format("AccessDenied"), "these credentials may not do this there"),
        (BOTO.format("RequestTimeTooSkewed"), "this machine's clock and the server's are too far apart"),
        (BOTO.format("QuotaExceeded"), "there is no space left"),
        (
            f"Failed to upload /a/NoSuchBucket.mid to AccessDenied/x: {BOTO.format('NoSuchBucket')}",
            "there is no such bucket",
        ),
        (BOTO.format("SlowDown"), None),
        (BOTO.format("NoSuchBucketPolicy"), None),
        (f"Failed to upload AccessDenied.mid to no-such/AccessDenied: {BOTO.format('InternalError')}", None),
        ("Unable to locate credentials", "there are no credentials"),
        ('Could not connect to the endpoint URL: "http://host/AccessDenied"', "nobody answers there"),
        ('Read timeout on endpoint URL: "http://host/Connection refused/AccessDenied (403)"', None),
        (
            icechunk_told(SERVICE, "unhandled error (AccessDenied)", 'Error { code: "AccessDenied", message: "a" }'),
            "these",
        ),
        (icechunk_told(SERVICE, "NoSuchBucket: a", "NoSuchBucket: a"), "there is no such bucket"),
        (icechunk_told(SERVICE, "NoSuchBucket"), "there is no such bucket"),
        (icechunk_told(SERVICE, "unhandled error", "Error"), None),
        (
            icechunk_told(SERVICE, "unhandled error (SlowDown)", 'Error { code: "SlowDown", message: "AccessDenied" }'),
            None,
        ),
        (
            icechunk_told("dispatch failure", "other", "no providers in chain provided credentials"),
            "there are no credentials",
        ),
        (
            icechunk_told("dispatch failure", "tcp connect error", "Connection refused (os error 111)"),
            "nobody answers there",
        ),
        (
            icechunk_told("dispatch failure", "dns error", "failed to lookup address information"),
            "nobody answers there",
        ),
        (icechunk_told("object store error", "No space left on device (os error 28)"), "there is no space left"),
    ],
)
def test_refusals_are_known_by_their_codes_and_not_by_names(told: str, reason: str | None) -> None:
    found = refusal(told)
    assert (found and found.reason[: len(reason or "")]) == reason


def test_what_cannot_be_fetched_is_not_taken_for_missing(
    proxy: FaultProxy, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Icechunk says that nodes do not exist while their snapshot cannot be fetched: a store is not empty for that."""
    monkeypatch.setattr(repository, "PAUSE_S", 0.02)
    url = f"{moto_server.new_bucket()}/store"
    publish(url, PIECES)
    proxy.plan = lambda method, path: "cut" if method == "GET" and "snapshots" in path else None
    for look in (lambda: open_version(url), lambda: building(url).__enter__(), lambda: open_version(url, "v1")):
        with pytest.raises(InputError) as told:
            look()
        assert told.value.code == "store_unreachable"
    proxy.plan = None
    assert open_version(url).catalogue.height == 3
