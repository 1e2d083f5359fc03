"""The rights of infra/iam, held against a server that enforces them: enough to work, and none to spare."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import ClientError
from s3_servers import S3Server
from test_dataset_store import piece, publish

from dexter_model import places
from dexter_model.dataset.store import list_versions, open_version
from dexter_model.errors import InputError
from tasks.bucket import collect_garbage, init, usage

POLICIES = Path(__file__).parents[2] / "infra" / "iam"


def policy(name: str, bucket: str) -> dict[str, Any]:
    """A policy of infra/iam for a bucket."""
    told: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text().replace("your-bucket", bucket))
    return told


def actions(name: str) -> set[str]:
    return {action for statement in policy(name, "b")["Statement"] for action in statement["Action"]}


@contextmanager
def held_to(rights: dict[str, Any], server: S3Server) -> Iterator[tuple[S3Server, set[str]]]:
    """This process is a user whom moto allows what a policy says; yields the user, and the rights that were needed.

    moto knows no conditions, and ours have none.
    """
    import boto3
    from moto import settings
    from moto.iam.access_control import S3IAMRequest

    needed: set[str] = set()
    check = S3IAMRequest.check_action_permitted

    def noted(request: S3IAMRequest, resource: str) -> None:
        check(request, resource)
        needed.add(request._action)

    access = {"aws_access_key_id": "nobody", "aws_secret_access_key": "none", "region_name": server.region}
    accounts = boto3.client("iam", endpoint_url=server.endpoint, **access)
    name = f"user-{uuid.uuid4().hex}"
    accounts.create_user(UserName=name)
    accounts.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=json.dumps(rights))
    key = accounts.create_access_key(UserName=name)["AccessKey"]
    user = replace(server, access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])
    enforced = mock.patch.object(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    with enforced, mock.patch.object(S3IAMRequest, "check_action_permitted", noted), user.used():
        yield user, needed


def test_the_lab_has_the_rights_it_needs_and_no_others(moto_server: S3Server) -> None:
    """A data set built, built again and read; a folder of results written, read, and a file of it deleted."""
    bucket = moto_server.new_bucket().removeprefix("s3://")
    place = f"s3://{bucket}/lab"
    with held_to(policy("lab", bucket), moto_server) as (_, needed):
        publish(f"{place}/dataset", [[piece("a")]])
        publish(f"{place}/dataset", [[piece("a"), piece("b")]])
        assert len(list(open_version(f"{place}/dataset").pieces())) == 2
        with places.writing(f"{place}/renders") as renders:
            (renders.folder / "a.txt").write_text("a")
        with places.writing(f"{place}/renders") as renders:
            (renders.folder / "a.txt").rename(renders.folder / "b.txt")
        assert [path.name for path in places.local(f"{place}/renders").glob("*.txt")] == ["b.txt"]
    assert needed == actions("lab") - {"s3:AbortMultipartUpload"}  # when an upload of several parts fails


def test_the_lab_keeps_to_its_prefix(moto_server: S3Server) -> None:
    bucket = moto_server.new_bucket().removeprefix("s3://")
    with held_to(policy("lab", bucket), moto_server) as (user, _):
        user.client().put_object(Bucket=bucket, Key="lab/file", Body=b"")
        for where in ("other", "corpora", "laboratory"):
            with pytest.raises(ClientError, match="AccessDenied"):
                user.client().put_object(Bucket=bucket, Key=f"{where}/file", Body=b"")
        with pytest.raises(ClientError, match="AccessDenied"):
            user.client().get_object(Bucket=bucket, Key="other/file")
        with pytest.raises(ClientError, match="AccessDenied"):
            user.client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": []})


def test_a_reader_reads(moto_server: S3Server) -> None:
    bucket = moto_server.new_bucket().removeprefix("s3://")
    url = f"s3://{bucket}/lab/dataset"
    with moto_server.used():
        publish(url, [[piece("a")]])
    with held_to(policy("reader", bucket), moto_server) as (_, needed):
        assert open_version(url).piece("TEST", "a").key == "a"
        assert list_versions(url) == ["v1"]
        assert needed == actions("reader")
        with pytest.raises(InputError):
            publish(url, [[piece("a"), piece("b")]])


def test_an_administrator_has_the_rights_it_needs_and_no_others(moto_server: S3Server) -> None:
    """From a bucket that is not there to one that keeps versions, whose garbage is collected and counted."""
    bucket = f"lab-{uuid.uuid4().hex[:12]}"
    place = f"s3://{bucket}/lab/dataset"
    with held_to(policy("administrator", bucket), moto_server) as (_, needed):
        init(f"s3://{bucket}/lab")
    with moto_server.used():
        publish(place, [[piece("a")]])
        server = moto_server.client()
        server.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        server.create_multipart_upload(Bucket=bucket, Key="lab/dataset/given-up")
    with held_to(policy("administrator", bucket), moto_server) as (_, then_needed):
        init(f"s3://{bucket}/lab")
        assert collect_garbage(place, timedelta(0)).uploads == 1
        assert usage(place).objects > 0
    assert needed | then_needed == actions("administrator")
