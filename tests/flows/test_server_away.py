"""A Prefect server that goes away and comes back under work that it does not do."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect_api import Server, go_on, pieces_done, stop_when, wait_until

from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError
from flows.build import build
from flows.parameters import BuildParameters


def version(store: Path) -> str | None:
    """The digest of what a data set has published."""
    try:
        return open_version(str(store)).digest
    except InputError:
        return None


@pytest.mark.cluster
def test_a_server_that_is_killed_and_comes_back_costs_a_build_nothing(prefect_server: Server, tmp_path: Path) -> None:
    wanted = build(BuildParameters(perceptual="none", workers=0, store=str(tmp_path / "embedded"))).digest
    words = ["--corpus", "DEMO", "--perceptual", "none", "--workers", "0", "--store", str(tmp_path / "served")]
    command, began = [sys.executable, "-m", "flows.cli", "dataset", "build", *words], datetime.now(UTC)
    environment = {**os.environ, "PREFECT_API_URL": prefect_server.url}
    with (tmp_path / "log").open("w") as log:
        building = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    stop_when(building, lambda: pieces_done(tmp_path / "served") > 0, "the first shard is finished")
    prefect_server.kill()
    go_on(building)
    wait_until(lambda: version(tmp_path / "served"), "all is published although there is no server")
    assert building.poll() is None  # it waits to say so
    prefect_server.start()
    assert building.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert version(tmp_path / "served") == wanted
    said = (tmp_path / "log").read_text()
    assert said.count("the Prefect server is not told") == 1
    (run,), artifacts = prefect_server.since(began)
    assert run["state_type"] == "COMPLETED"
    assert "9 pieces encoded" in artifacts["dataset"]
    # The place is free again: the next build does not wait for a lease of the first.
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "0 pieces encoded" in again.stderr
