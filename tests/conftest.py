"""Fixtures shared by the tests of all three floors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_servers import CEPH, S3Server, ceph, moto


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read nor fill the user's cache, nor talk to the user's Prefect server."""
    os.environ["DEXTER_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("PREFECT_API_URL", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the real corpora run where ``DEXTER_DATASETS_ROOT`` holds them."""
    missing = pytest.mark.skipif(not os.environ.get("DEXTER_DATASETS_ROOT"), reason="DEXTER_DATASETS_ROOT is not set")
    for item in items:
        if item.get_closest_marker("corpora"):
            item.add_marker(missing)


@pytest.fixture(scope="session")
def corpora_root() -> Path:
    """The folder that holds ``vienna4x22`` and ``asap-dataset``."""
    return Path(os.environ["DEXTER_DATASETS_ROOT"])


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """An S3 protocol server that needs no root."""
    with moto() as server:
        yield server


@pytest.fixture
def moto_bucket(moto_server: S3Server) -> Iterator[str]:
    """``s3://`` URL of an empty bucket; this process and those it starts reach it by ``AWS_*``."""
    with moto_server.used():
        yield moto_server.new_bucket()


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[S3Server]:
    """One that refuses wrong credentials, as Amazon does."""
    with ceph() as server:
        yield server


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.skipif(not CEPH, reason="no Ceph here"))])
def s3_server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """Each server in turn, in use."""
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    with server.used():
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """``s3://`` URL of an empty bucket, on each server in turn."""
    return s3_server.new_bucket()
