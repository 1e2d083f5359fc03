"""Fixtures shared by the tests of all three floors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


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
