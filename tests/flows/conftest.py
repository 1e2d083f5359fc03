"""A Prefect server that the tests of flows share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect_api import Server, serving


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It keeps what earlier tests ran: ask what happened ``since``."""
    with serving(tmp_path_factory.mktemp("prefect")) as server:
        yield server
