"""Administration of buckets: what a person sees, on folders and on servers that enforce what they should."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from made_up_renders import made_up_piece
from s3_servers import S3Server
from typer.testing import CliRunner

from dexter_model import s3
from dexter_model.dataset.build import Build, building, shard_name, write_shard
from dexter_model.dataset.piece import Piece
from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError
from flows.cli import app
from flows.commands.store import age, size
from tasks import bucket

A, B, C = (made_up_piece(key, seed=seed) for seed, key in enumerate("abc"))
AT_ONCE = timedelta(0)


def dexter(*words: str) -> str:
    done = CliRunner().invoke(app, ["store", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def write(build: Build, piece: Piece) -> str:
    shard = shard_name([piece.digest()])
    row = {"corpus": piece.corpus, "key": piece.key, "result": piece.digest(), "fingerprint": "{}"}
    build.commit(write_shard(build.url, shard, [piece], (), [row]), shard)
    return shard


def publish(url: str, piece: Piece) -> None:
    with building(url) as build:
        build.publish(build.manifest(write(build, piece)))


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('moto_bucket')}/data"


def test_a_bucket_is_made_fit_once(s3_server: S3Server) -> None:
    place = f"s3://{s3_server.new_bucket().removeprefix('s3://')}-lab/data"
    name, client = place.split("/")[2], s3_server.client()
    assert "would be done: made the bucket" in dexter("init", place, "--dry-run")
    assert name not in [each["Name"] for each in client.list_buckets()["Buckets"]]
    assert dexter("init", place).splitlines()[0] == f"made the bucket {name}"
    assert dexter("init", place) == "nothing to do\n"
    assert "deleted after 7 days" in dexter("init", f"s3://{name}/other")
    rules = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert [rule["Filter"]["Prefix"] for rule in rules] == ["data/", "other/"]
    assert rules[0]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert not client.list_objects_v2(Bucket=name).get("Contents")
    publish(place, A)
    assert dexter("init", place) == "nothing to do\n"


def test_rules_of_others_stay(moto_bucket: str) -> None:
    name = moto_bucket.removeprefix("s3://")
    logs = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
    s3.client().put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [logs]})
    dexter("init", moto_bucket)
    rules = s3.client().get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert [rule["ID"] for rule in rules] == ["logs", bucket.RULE]


def test_a_server_without_conditional_writes_is_refused(moto_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3.client()
    put = client.put_object

    def careless(**asked: object) -> object:
        return put(**{name: value for name, value in asked.items() if name not in ("IfMatch", "IfNoneMatch")})

    monkeypatch.setattr(client, "put_object", careless)
    with pytest.raises(InputError) as told:
        bucket.init(moto_bucket)
    assert told.value.code == "no_conditional_writes"
    with pytest.raises(InputError, match="which needs nothing"):
        bucket.init("a/folder")


def test_garbage_goes_and_everything_that_is_needed_stays(url: str) -> None:
    """An abandoned fork and a build that another one overtook are garbage; versions and a build under way are not."""
    publish(url, A)
    publish(url, B)
    with building(url) as build:
        write_shard(url, "abandoned", [C], (), [])
        kept = write(build, C)
    before = bucket.usage(url)
    planned = bucket.collect_garbage(url, AT_ONCE, dry_run=True)
    assert planned.objects["chunks"] > 0
    assert bucket.usage(url).objects == before.objects
    done = bucket.collect_garbage(url, AT_ONCE)
    assert (done.objects, done.bytes) == (planned.objects, planned.bytes)
    after = bucket.usage(url)
    assert after.objects == before.objects - sum(done.objects.values())
    assert after.bytes == before.bytes - done.bytes
    assert bucket.collect_garbage(url, AT_ONCE).objects == {}
    for version, piece in (("v1", A), ("v2", B)):
        assert [read.digest() for read in open_version(url, version).pieces()] == [piece.digest()]
    with building(url) as build:
        assert kept in build.finished_shards()
        assert build.publish(build.manifest(kept)).id == "v3"
    assert open_version(url).piece(C.corpus, C.key).digest() == C.digest()


def test_what_is_young_stays(url: str) -> None:
    publish(url, A)
    with building(url):
        write_shard(url, "under way", [B], (), [])
    assert bucket.collect_garbage(url, timedelta(hours=1)).objects == {}
    assert "would delete nothing (0 B); 0 uploads" in dexter("gc", url, "--dry-run")


def test_a_folder_that_is_being_built_is_left_alone(tmp_path: Path) -> None:
    publish(str(tmp_path / "store"), A)
    with building(str(tmp_path / "store")), pytest.raises(InputError) as told:
        bucket.collect_garbage(str(tmp_path / "store"), AT_ONCE)
    assert told.value.code == "store_busy"


def test_uploads_that_nobody_finished_are_aborted(s3_bucket: str) -> None:
    url, name = f"{s3_bucket}/data", s3_bucket.removeprefix("s3://")
    publish(url, A)
    for key in ("data/big", "other/big"):
        s3.client().create_multipart_upload(Bucket=name, Key=key)
    assert bucket.usage(url).uploads == 1
    assert bucket.collect_garbage(url, AT_ONCE - timedelta(minutes=1)).uploads == 1
    assert (bucket.usage(url).uploads, bucket.usage(s3_bucket).uploads) == (0, 1)


def test_usage_tells_size_and_cost_by_class(moto_bucket: str) -> None:
    name, client = moto_bucket.removeprefix("s3://"), s3.client()
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    for times in (2, 5):
        client.put_object(Bucket=name, Key="data/x", Body=b"x" * times * 1000)
    client.put_object(Bucket=name, Key="data/icechunk/chunks/AB", Body=b"y" * 500, StorageClass="GLACIER_IR")
    found = json.loads(dexter("usage", f"{moto_bucket}/data", "--json"))
    assert (found["objects"], found["bytes"], found["noncurrent"]) == (2, 5500, {"objects": 1, "bytes": 2000})
    assert found["by_class"]["GLACIER_IR"] == {"objects": 1, "bytes": 500, "month": pytest.approx(500e-9 * 0.004)}
    assert found["by_kind"] == {"chunks": {"objects": 1, "bytes": 500}, "other": {"objects": 1, "bytes": 5000}}
    assert found["month"] == pytest.approx(7000e-9 * 0.023 + 500e-9 * 0.004)
    assert found["write"] == pytest.approx(2 * 0.005 / 1000)
    told = dexter("usage", f"{moto_bucket}/data")
    assert "GLACIER_IR" in told
    assert "1 noncurrent versions (2.0 kB)" in told
    with pytest.raises(InputError, match="there is nothing"):
        bucket.usage(f"{moto_bucket}/nowhere")


@pytest.mark.parametrize(
    ("text", "hours"), [("12h", 12), ("7d", 168), ("2w", 336), ("90m", 1.5), ("5m", None), ("x", None), ("0d", None)]
)
def test_ages(text: str, hours: float | None) -> None:
    if hours is None:
        with pytest.raises(InputError, match="at least 1h"):
            age(text)
    else:
        assert age(text) == timedelta(hours=hours)


def test_sizes() -> None:
    assert [size(count) for count in (0, 999, 1500, 2.5e7, 3e12)] == ["0 B", "999 B", "1.5 kB", "25.0 MB", "3.0 TB"]
