"""Real S3 protocol servers for tests: moto in a thread, and Ceph's RADOS gateway in processes of its own.

moto needs no root and starts in a second, but takes any credentials; Ceph refuses wrong ones, as Amazon does. Both
enforce conditional writes. Fixtures in ``conftest.py``: ``moto_bucket`` and ``s3_bucket`` (moto, and Ceph where it is
installed) give ``s3://`` URLs of empty buckets with ``AWS_*`` set.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class S3Server:
    """A server that listens: its address and a user that may do everything."""

    endpoint: str
    access_key: str = "test-access-key"
    secret_key: str = "test-secret-key"
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """The standard AWS variables of a process that uses it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @contextmanager
    def used(self) -> Iterator[None]:
        """This process, and those it starts, use the server."""
        with mock.patch.dict(os.environ, self.environment):
            for other in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
                os.environ.pop(other, None)
            yield

    def client(self) -> Any:
        """A plain boto3 client of it."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def new_bucket(self) -> str:
        """URL of an empty bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"


@contextmanager
def moto() -> Iterator[S3Server]:
    """A moto server in a thread of this process; other processes may use it too."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()
