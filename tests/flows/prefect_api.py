"""A real Prefect server for tests, what it knows, and workers of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import icechunk
import psutil

from dexter_model.dataset.repository import BUILD, open_repository
from dexter_model.dataset.store import read_array, root_group
from dexter_model.errors import InputError

OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Server:
    """A Prefect server with a database of its own in ``home``; it can be killed and started again."""

    home: Path
    url: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        host, _, port = self.url.removeprefix("http://").removesuffix("/api").partition(":")
        environment = {
            **os.environ,
            "PREFECT_HOME": str(self.home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": self.url,
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        }
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", port]
        with (self.home / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5)
                return
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None, (self.home / "server.log").read_text()
                time.sleep(0.5)

    def kill(self) -> None:
        """End it at once, as a machine that fails does."""
        assert self.process is not None
        kill_with_children(self.process)

    def since(self, began: datetime) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The flow runs that began since then, and what they published by its key."""
        found = ask(self.url, "flow_runs", flow_runs={"start_time": {"after_": began.isoformat()}})
        runs = [run for run in found if run["start_time"]]  # the filter lets those through that are still to begin
        theirs = {"flow_run_id": {"any_": [run["id"] for run in runs]}}
        return runs, {each["key"]: each["data"] for each in ask(self.url, "artifacts", artifacts=theirs)}


@contextmanager
def serving(home: Path, host: str = "127.0.0.1") -> Iterator[Server]:
    """A Prefect server that runs."""
    with socket.socket() as free:
        free.bind((host, 0))
        server = Server(home, f"http://{host}:{free.getsockname()[1]}/api")
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.process.terminate()
            server.process.wait()


def send(url: str, path: str, content: Any = None, method: str = "POST") -> Any:
    """What the API answers to a request; asked again while the server has too much to do (503), as its clients do."""
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(f"{url}/{path}", body, {"Content-Type": "application/json"}, method=method)

    def answer() -> bytes | None:
        try:
            return urllib.request.urlopen(request, timeout=300).read()
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return None

    got = wait_until(lambda: (found := answer()) is not None and [found], f"an answer to {path}")[0]
    return json.loads(got) if got else None


def ask(url: str, what: str, **filters: Any) -> list[dict[str, Any]]:
    """Everything of a kind that the server has and that passes."""
    return send(url, f"{what}/filter", filters)


def run_deployment(url: str, name: str, **parameters: Any) -> str:
    """Ask for a run of a deployment, called FLOW/DEPLOYMENT; its id."""
    deployment = send(url, f"deployments/name/{name}", method="GET")
    made = send(url, f"deployments/{deployment['id']}/create_flow_run", {"parameters": {"parameters": parameters}})
    return made["id"]


def state_of(url: str, run: str) -> dict[str, Any]:
    """The state a run is in: type, name, message, data."""
    return send(url, f"flow_runs/{run}", method="GET")["state"]


def wait_until(holds: Callable[[], Any], what: str, seconds: float = 400, pause: float = 0.5) -> Any:
    """Ask until the answer is truthy, and return it."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if answer := holds():
            return answer
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def ended(url: str, run: str) -> dict[str, Any]:
    """Wait until a run is over; its state."""
    return wait_until(lambda: (state := state_of(url, run))["type"] in OVER and state, f"run {run} is over")


def start_worker(
    environment: Mapping[str, str], log: Path, pool: str = "dexter", within: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """A process worker that looks for work every second or two, ``within`` what its command begins with."""
    quick = {"PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_WORKER_HEARTBEAT_SECONDS": "10"}
    command = [*within, sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    with log.open("a") as out:
        return subprocess.Popen(command, env={**environment, **quick}, stdout=out, stderr=out)


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process that runs and all that descend from it."""
    if process.poll() is not None:
        return []
    head = psutil.Process(process.pid)
    return [head, *head.children(recursive=True)]


def stop_when(process: subprocess.Popen[bytes], holds: Callable[[], Any], what: str) -> None:
    """Let a process and its descendants run in short steps until something holds; then they stand still."""

    def holds_after_a_step() -> bool:
        go_on(process)
        time.sleep(0.05)
        for member in _family(process):
            with suppress(psutil.NoSuchProcess):
                member.suspend()
        return bool(holds())

    wait_until(holds_after_a_step, what, pause=0.0)


def go_on(process: subprocess.Popen[bytes]) -> None:
    """Let a process that stands still, and its descendants, run again."""
    for member in _family(process):
        with suppress(psutil.NoSuchProcess):
            member.resume()


def kill_with_children(process: subprocess.Popen[bytes]) -> int:
    """SIGKILL to a process and all that descend from it; how many they were."""
    family = _family(process)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(timeout=60)
    return len(family)


def processes_of(run: str) -> list[int]:
    """Processes that a flow run started or that these started: they have its id in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def pieces_done(store: Path) -> int:
    """How many pieces are in the shards that a build has finished."""
    try:
        repository = open_repository(str(store))
        shards = [c.message.split()[1] for c in repository.ancestry(branch=BUILD) if c.message.startswith("shard")]
        root = root_group(repository, BUILD)
        tables = [json.loads(read_array(root, f"shards/{name}/manifest").tobytes()) for name in shards]
    except (InputError, icechunk.IcechunkError):
        return 0
    return sum(len(rows["catalogue"]) for rows in tables)
