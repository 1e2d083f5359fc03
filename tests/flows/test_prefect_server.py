"""What a Prefect server keeps apart, and what it costs when it goes away and comes back under work."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect_api import Server, go_on, pieces_done, send, stop_when, wait_until

from dexter_model.dataset.store import open_version
from dexter_model.errors import InputError
from flows.build import build
from flows.parameters import BuildParameters

HOLDING = """
import sys
from tasks.orchestration import flow, only_writer

folder = sys.argv[1]

@flow(name="holding", flow_run_name="holding")
def holding():
    with only_writer(folder), only_writer(folder), only_writer(f"{folder}/inside"):
        with only_writer(f"{folder}/a-set", shared=True), only_writer(f"{folder}/a-set", shared=True):
            pass

holding()
"""


@pytest.mark.cluster
def test_who_holds_a_folder_holds_what_is_in_it_and_waits_for_nobody(prefect_server: Server, tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_API_URL": prefect_server.url}
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "held")]
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=200)
    limits = {
        each["name"]: each["active_slots"] for each in send(prefect_server.url, "v2/concurrency_limits/filter", {})
    }
    found = {name.rpartition("-")[0]: slots for name, slots in limits.items()}
    assert (found["writer-of-held"], found["writer-of-a-set"]) == (0, 0)  # a data set is held by itself
    assert "writer-of-inside" not in found


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
