"""A lab's deployments on a real Prefect server with real workers: schedules, verdicts, cancelling, and killed workers.

One server for all. A build is interrupted first and goes on beside the other tests, since missing heartbeats are
noticed, and what a killed run held is free again, after a minute.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_api import (
    ask,
    ended,
    kill_with_children,
    pieces_done,
    processes_of,
    run_deployment,
    send,
    serving,
    start_worker,
    stop_when,
    wait_until,
)
from tiny_models import write_random_checkpoint

from dexter_model.errors import InputError
from flows.deploy import FLOWS, Lab, deploy
from tasks.orchestration import storage_failed

PROJECT = Path(__file__).parents[2]
PIECES = 9  # of the demo corpus
TRIES = """
from tasks.orchestration import flow, publish_link, task
from dexter_model.errors import InputError

tries = {"s3_unreachable": 0, "score_unreadable": 0}

@task(retry_delay_seconds=0.1)
def unlucky(code):
    tries[code] += 1
    if tries[code] < 3:
        raise InputError("a place", "cannot be read", "Look", code)

@flow(name="trying")
def trying():
    publish_link("page", "page.html", "a page")
    unlucky("s3_unreachable")
    try:
        unlucky("score_unreadable")
    except InputError:
        print(tries)

trying()
"""


@dataclass
class LabBox:
    """A server with everything deployed, its worker, and what its webhook was told."""

    url: str
    folder: Path
    environment: dict[str, str]
    worker: subprocess.Popen[bytes]
    told: list[str] = field(default_factory=list)

    def build(self, store: str, **more: Any) -> dict[str, Any]:
        return {"corpora": ["DEMO"], "perceptual": "none", "workers": 0, "store": str(self.folder / store), **more}

    def night(self, **render: Any) -> dict[str, Any]:
        how = {"checkpoint": str(self.folder / "model"), "steps": 2, "split": "train", "workers": 0}
        build = self.build("night-set")
        return {"out": str(self.folder / "nightly"), "build": build, "render": how | render, "workers": 0}

    def deploy(self, *words: str) -> list[str]:
        command = [sys.executable, "-m", "flows.cli", "deploy", "--crash-after", "60", *words]
        done = subprocess.run(
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def webhook() -> Iterator[tuple[str, list[str]]]:
    """The URL of a chat system's incoming webhook, and what it was told."""
    told: list[str] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", told
        server.shutdown()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, webhook: tuple[str, list[str]]) -> Iterator[LabBox]:
    home, folder = tmp_path_factory.mktemp("prefect"), tmp_path_factory.mktemp("lab")
    write_random_checkpoint(folder / "model")
    with serving(home) as server:
        url = server.url
        environment = {
            **os.environ,
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": url,
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "DEXTER_NOTIFY_URL": webhook[0],
            "DEXTER_OUT": str(folder),
        }
        box = LabBox(url, folder, environment, None, webhook[1])  # type: ignore[arg-type]
        box.deploy()
        box.worker = start_worker(environment, folder / "worker.log")
        yield box
        kill_with_children(box.worker)


@pytest.fixture(scope="module")
def interrupted(lab: LabBox) -> dict[str, Any]:
    """A build whose worker was killed in the middle of it, and two runs that want to write the same store since."""
    killed = run_deployment(lab.url, "build-dataset/weekly", **lab.build("set"))
    stop_when(lab.worker, lambda: pieces_done(lab.folder / "set"), "the first shard is finished")
    assert kill_with_children(lab.worker) > 1
    finished = pieces_done(lab.folder / "set")
    assert 0 < finished < PIECES
    lab.worker = start_worker(lab.environment, lab.folder / "worker.log")
    again = run_deployment(lab.url, "build-dataset/weekly", **lab.build("set"))
    words = ["--corpus", "DEMO", "--perceptual", "none", "--workers", "0", "--store", str(lab.folder / "set")]
    command = [sys.executable, "-m", "flows.cli", "dataset", "build", *words]
    with (lab.folder / "person.log").open("w") as log:
        person = subprocess.Popen(command, env=lab.environment, stdout=log, stderr=log)
    return {"killed": killed, "finished": finished, "again": again, "person": person}


@pytest.mark.cluster
@pytest.mark.usefixtures("interrupted")
def test_deploying_again_changes_nothing(lab: LabBox) -> None:
    kinds = ("deployments", "automations", "work_pools", "block_documents")

    def there() -> dict[str, list[str]]:
        found = {kind: sorted(each["name"] for each in ask(lab.url, kind)) for kind in kinds}
        # Prefect's answer: an automation that is updated, even to the same, forgets the runs it waits for.
        return found | {"untouched": sorted(f"{each['id']} {each['updated']}" for each in ask(lab.url, "automations"))}

    before = there()
    assert set(before["deployments"]) == {
        "weekly",
        "nightly",
        "nightly-generator",
        "cluster",
        "bulk",
        "generate",
        "sweep",
        "demo",
    }
    assert len(before["automations"]) == 2
    planned, done = lab.deploy("--dry-run"), lab.deploy()
    assert planned == done
    assert there() == before
    nightly = send(lab.url, "deployments/name/nightly/nightly", method="GET")
    assert nightly["parameters"]["parameters"]["out"] == str(lab.folder / "nightly")
    assert [each["schedule"]["cron"] for each in nightly["schedules"]] == ["0 3 * * *"]
    assert nightly["global_concurrency_limit"]["limit"] == 1


@pytest.mark.cluster
@pytest.mark.usefixtures("interrupted")
def test_a_schedule_fires_and_a_regression_fails_the_run_and_tells(lab: LabBox) -> None:
    nightly = send(lab.url, "deployments/name/nightly/nightly", method="GET")
    content = {"schedule": {"interval": 10}, "active": True, "parameters": {"parameters": lab.night()}}
    (schedule,) = send(lab.url, f"deployments/{nightly['id']}/schedules", [content])

    def fired() -> list[dict[str, Any]]:
        runs = ask(lab.url, "flow_runs", flow_runs={"deployment_id": {"any_": [nightly["id"]]}})
        return [run for run in runs if run["auto_scheduled"] and run["run_count"]]  # others are cancelled meanwhile

    first = wait_until(fired, "the schedule fires")[0]
    send(lab.url, f"deployments/{nightly['id']}/schedules/{schedule['id']}", method="DELETE")
    assert ended(lab.url, first["id"])["type"] == "COMPLETED"
    tags = send(lab.url, f"flow_runs/{first['id']}", method="GET")["tags"]
    assert {"verdict:first", "model:random", f"store:{lab.folder / 'night-set'}"} <= set(tags)
    verdicts = artifacts(lab.url, "nightly")
    assert [verdict["flow_run_id"] for verdict in verdicts] == [first["id"]]
    page = re.search(r"\(file://(.*?report\.html)\)", verdicts[0]["data"])
    assert page is not None
    assert "<html" in Path(page[1]).read_text()
    history = json.loads((lab.folder / "nightly" / "nights.json").read_text())
    assert history["accepted"] == history["nights"][0]["name"] == Path(page[1]).parent.name

    fewer = run_deployment(lab.url, "nightly/nightly", **lab.night(pieces=["DEMO/synthetic/bach*"]))
    state = ended(lab.url, fewer)
    assert (state["type"], "worse than the baseline" in state["message"]) == ("FAILED", True)
    assert len(artifacts(lab.url, "nightly")) == 2
    after = json.loads((lab.folder / "nightly" / "nights.json").read_text())
    assert [night["verdict"] for night in after["nights"]] == ["first", "regression"]
    assert after["accepted"] == history["accepted"]
    told = wait_until(lambda: [text for text in lab.told if "nightly" in text], "the webhook is told")
    assert "dexter: nightly Failed" in told[0]
    assert "worse than the baseline" in told[0]


@pytest.mark.cluster
@pytest.mark.usefixtures("interrupted")
def test_a_run_that_is_cancelled_leaves_no_process(lab: LabBox) -> None:
    """It renders over Ray, whose processes go too."""
    wait_until(lambda: (lab.folder / "night-set" / "icechunk").exists(), "there is a data set")
    how = {"checkpoint": str(lab.folder / "model"), "split": "train", "samples": 400, "steps": 50, "workers": 2}
    run = run_deployment(
        lab.url, "render/bulk", store=str(lab.folder / "night-set"), out=str(lab.folder / "bulk"), **how
    )
    wait_until(lambda: len(processes_of(run)) > 6, "Ray is at work")
    send(lab.url, f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert ended(lab.url, run)["type"] == "CANCELLED"
    wait_until(lambda: not processes_of(run), "its processes are gone", seconds=60)
    assert lab.worker.poll() is None


@pytest.mark.cluster
def test_a_killed_workers_run_is_crashed_and_another_goes_on_alone(lab: LabBox, interrupted: dict[str, Any]) -> None:
    crashed = ended(lab.url, interrupted["killed"])
    assert crashed["type"] == "CRASHED"
    assert "No heartbeat for 60 s" in crashed["message"]
    wait_until(lambda: [text for text in lab.told if "Crashed" in text], "the webhook is told of it")
    again = ended(lab.url, interrupted["again"])
    assert again["type"] == "COMPLETED"
    assert interrupted["person"].wait(timeout=300) == 0, (lab.folder / "person.log").read_text()
    # Whichever of the two wrote first went on from the killed one's shards; the other found nothing to do.
    result = json.loads((lab.folder / "results" / again["data"]["storage_key"]).read_bytes())["data"]
    person = re.search(
        r"(\d+) pieces encoded, (\d+) of them by an interrupted build", (lab.folder / "person.log").read_text()
    )
    assert person is not None
    done = sorted([(len(result["runs"]), result["resumed"]), (int(person[1]), int(person[2]))])
    assert done == [(0, 0), (PIECES, interrupted["finished"])]
    tasks = [task for task in ask(lab.url, "task_runs") if task["name"].startswith("build data set")]
    runs = {run["id"]: run for run in ask(lab.url, "flow_runs")}
    wrote = [
        task
        for task in tasks
        if f"store:{lab.folder / 'set'}" in runs[task["flow_run_id"]]["tags"] and task["state_type"] == "COMPLETED"
    ]
    earlier, later = sorted(wrote, key=lambda task: task["start_time"])
    assert earlier["end_time"] <= later["start_time"]


@pytest.mark.cluster
def test_a_task_is_tried_again_when_storage_fails_and_for_no_other_reason(lab: LabBox) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRIES], cwd=PROJECT, env=lab.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "{'s3_unreachable': 3, 'score_unreadable': 1}"
    (page,) = artifacts(lab.url, "page")
    assert page["description"] == "`page.html`"  # a link that was signed ends, its place does not


def artifacts(url: str, key: str) -> list[dict[str, Any]]:
    """Every artifact that was published under a key, the oldest first."""
    found = [each for each in ask(url, "artifacts") if each["key"] == key]
    return sorted(found, key=lambda each: each["created"])


def test_without_a_server_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="prefect server start"):
        deploy(Lab(), PROJECT / "prefect.yaml", dry_run=True)
    monkeypatch.setenv("PREFECT_API_URL", nowhere := "http://127.0.0.1:9/api")
    # Prefect, which other tests have imported by now, has read its environment.
    with temporary_settings({PREFECT_API_URL: nowhere}), pytest.raises(InputError, match="no Prefect server answers"):
        deploy(Lab(), PROJECT / "prefect.yaml", dry_run=True)
    with pytest.raises(InputError, match="tells of no deployments"):
        deploy(Lab(), PROJECT / "README.md", dry_run=True)


def test_every_flow_is_watched_for_heartbeats_and_ends_some_time() -> None:
    sources = [path.read_text() for path in (PROJECT / "flows").glob("*.py")]
    found = re.findall(r'@flow\(name="([\w-]+)".*timeout_seconds=(\d+) \* (HOUR|DAY)\)', "\n".join(sources))
    hours = {name: int(count) * (24 if unit == "DAY" else 1) for name, count, unit in found}
    assert sum(source.count("\n@flow(") for source in sources) == len(hours)
    assert set(hours) == set(FLOWS)
    stages = ("build-dataset", "render", "evaluate", "report")
    assert hours["nightly"] >= sum(hours[stage] for stage in stages)
    assert hours["main-job"] >= sum(hours[stage] for stage in (*stages, "train"))


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (InputError("s3://b/k", "cannot be read", "Try", "s3_unreachable"), True),
        (InputError("s3://b/k", "cannot be read", "Try", "store_unreachable"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (InputError("a.xml", "is no score", "Look", "score_unreadable"), False),
        (FileNotFoundError(), False),
        (ValueError(), False),
    ],
)
def test_only_storage_errors_are_tried_again(error: Exception, again: bool) -> None:
    class State:
        def result(self, *, raise_on_failure: bool) -> Exception:
            assert not raise_on_failure
            return error

    assert storage_failed(None, None, State()) is again
