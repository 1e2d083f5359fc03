"""``dexter runs`` and ``dexter status`` as an operator uses them: on records, and on a real Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect_api import Server, ask, send
from typer.testing import CliRunner

from dexter_model.errors import InputError, RegressionError
from flows.cli import app
from flows.facts import figures
from flows.parameters import EncodeParameters, EvaluateParameters
from tasks import runs


def dexter(*words: object) -> tuple[int, str]:
    """Exit code and what the command wrote."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def night(place: str, verdict: str, velocity: float) -> None:
    """A run of the nightly flow, as far as its record goes."""
    facts = {"digest": "ab" * 32, "verdict": verdict, "headline": f"{verdict}, told", "inputs": {"data set": "c" * 64}}

    @runs.recorded("nightly", lambda given: given.out, lambda _: facts | {"figures": {"renders": {"V": velocity}}})
    def flow(parameters: EvaluateParameters) -> None:
        if verdict == "regression":
            raise RegressionError(["V is worse"])

    given = EvaluateParameters(out=place, store="data", renders=[f"renders {velocity}"])
    if verdict == "regression":
        with pytest.raises(RegressionError):
            flow(given)
    else:
        flow(given)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return "out" if request.param == "folder" else f"{request.getfixturevalue('moto_bucket')}/out"


def test_runs_are_listed_shown_and_compared(place: str) -> None:
    night(place, "first", 0.5)
    night(place, "regression", 0.25)
    after, before = (record["file"] for record in json.loads(dexter("runs", "list", place, "--json")[1]))
    code, said = dexter("runs", "list", place)
    assert (code, len(said.splitlines())) == (0, 3)
    assert [line.split()[3:5] for line in said.splitlines()[1:]] == [["regression"] * 2, ["completed", "first"]]
    assert said.splitlines()[1].endswith(after)
    shown = dexter("runs", "show", place)[1]
    assert "outcome      regression regression worse than the baseline: V is worse" in shown
    assert f"    input data set: {'c' * 64}" in shown
    assert "  renders: ['renders 0.25']" in shown
    difference = json.loads(dexter("runs", "compare", before, after, "--json")[1])
    assert difference["figure"] == {"renders: V": [0.5, 0.25]}
    assert difference["parameter"] == {"renders": [["renders 0.5"], ["renders 0.25"]]}
    assert difference["run"]["verdict"] == ["first", "regression"]
    assert "in all seconds" in difference["took"]
    assert not {name for name in difference["took"] if "gpu" in name}
    told = dexter("runs", "compare", before, after)[1]
    assert next(line.split() for line in told.splitlines() if "renders: V" in line)[-3:] == ["0.5", "0.25", "-0.25"]


def test_stages_of_one_name_are_told_apart_by_where_they_wrote(tmp_path: Path) -> None:
    """As in a sweep, whose settings are renders each."""

    @runs.recorded("render", lambda given: given.out, lambda _: {"digest": "d" * 64})
    def render(parameters: EvaluateParameters) -> None: ...

    @runs.recorded("sweep", lambda given: given.out)
    def sweep(parameters: EvaluateParameters) -> None:
        for steps in parameters.renders:
            render(parameters.model_copy(update={"out": f"{parameters.out}/{steps}"}))

    for number, renders in enumerate((["steps=5", "steps=10"], ["steps=5"])):
        sweep(EvaluateParameters(out=str(tmp_path / str(number)), store="data", renders=renders))
    difference = json.loads(dexter("runs", "compare", tmp_path / "0", tmp_path / "1", "--json")[1])
    assert difference["stage"]["render steps=10 digest"] == ["d" * 64, None]


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    for words in (("show", tmp_path), ("compare", tmp_path, tmp_path), ("show", tmp_path / "no.json")):
        with pytest.raises(InputError):
            dexter("runs", *words)
    assert dexter("runs", "list", tmp_path)[1].startswith("no run is recorded at")


def test_status_of_records_tells_the_last_night_and_ends_with_3_when_it_was_worse(place: str) -> None:
    night(place, "passed", 0.5)
    code, said = dexter("status", place)
    assert (code, said.splitlines()[0]) == (0, f"Runs at {place}")
    assert "last night: passed, 20" in said
    night(place, "regression", 0.25)
    running = runs.Run("build", place, EncodeParameters(performance="a", score="b"))
    running.write(runs.RUNNING)
    code, said = dexter("status", place, "--json")
    found = json.loads(said)["records"]
    assert (code, [each["outcome"] for each in found["nights"]]) == (3, ["regression"])
    assert [run["flow"] for run in found["running"]] == ["build"]
    assert found["lost"] == []


def test_the_last_night_of_every_place_counts(place: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    night(other, "regression", 0.25)
    night(place, "passed", 0.5)
    code, said = dexter("status", place, other)
    assert code == 3
    assert f"  last night ({other}): regression, 20" in said
    assert f"  last night ({place}): passed, 20" in said


def test_a_night_that_failed_or_was_lost_is_the_last_one(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    night(place, "passed", 0.5)

    @runs.recorded("nightly", lambda given: given.out)
    def fails(parameters: EvaluateParameters) -> None:
        with runs.stage("evaluate") as row:
            row |= {"verdict": "passed", "headline": "nothing is worse"}
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fails(EvaluateParameters(out=place, store="data"))
    code, said = dexter("status", place)
    assert code == 3
    assert "  last night: failed, passed, 20" in said
    assert said.splitlines()[-1].endswith(": no space left")

    began = datetime.now(UTC)
    silent = runs.Run("nightly", place, EvaluateParameters(out=place, store="data"))
    silent.write(runs.RUNNING)
    assert json.loads(dexter("status", place, "--json")[1])["records"]["nights"][0]["outcome"] == "failed"
    monkeypatch.setattr(runs, "BEAT_SECONDS", 0.0)
    code, said = dexter("status", place)
    assert code == 3
    assert f"  last night: lost, {began.isoformat(timespec='minutes')[:13]}" in said
    assert ": not heard of since 20" in said


def test_status_of_nothing_and_of_what_is_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert dexter("status") == (0, "Nothing to look at: name a place, or set PREFECT_API_URL or RAY_ADDRESS\n")
    code, said = dexter("status", "--store", tmp_path)
    assert (code, "holds no data set" in said) == (4, True)


def test_figures_are_those_of_peoples_pieces() -> None:
    def table(mean: float, *, synthetic: bool) -> dict[str, Any]:
        row = {"system": "a", "feature": "velocity", "measure": "correlation", "mean": mean}
        other = {"system": "a", "feature": "velocity", "measure": "kl", "mean": 9.0}
        return {"synthetic": synthetic, "rows": [row, other, row | {"feature": "pedal", "mean": None}]}

    content = {"tables": [table(0.1, synthetic=True), table(0.2, synthetic=False)]}
    assert figures(content) == {"a": {"Velocity correlation": 0.2}}
    assert figures({"tables": []}) == {}


SERVED = """
import sys
from prefect import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.states import Running, Scheduled
from dexter_model.errors import RegressionError
from tasks.orchestration import flow, publish_markdown
from tasks.runs import read_run, recorded
from flows.parameters import TrainParameters
from datetime import datetime, timedelta, UTC

@flow(name="nightly", flow_run_name="nightly {parameters.out}")
@recorded("nightly", lambda parameters: parameters.out)
def nightly(parameters: TrainParameters) -> None:
    publish_markdown("nightly", f"**{parameters.label}**: told so\\n\\n| a |", "")
    if parameters.label == "regression":
        raise RegressionError(["V is worse"])

@flow(name="waiting", flow_run_name="waiting")
def waiting() -> None: ...

nightly(TrainParameters(out=sys.argv[1], label="passed"))
try:
    nightly(TrainParameters(out=sys.argv[1], label="regression"))
except RegressionError:
    pass
assert read_run(sys.argv[1])["prefect"]["name"] == f"nightly {sys.argv[1]}"
with get_client(sync_client=True) as client:
    client.create_flow_run(waiting, state=Running(), name="a long one")
    soon = datetime.now(UTC) + timedelta(hours=1)
    client.create_flow_run(waiting, state=Scheduled(scheduled_time=soon), name="the next one", tags=["store:x"])
    flow_id = client.create_flow(waiting)
    schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *"), active=True)
    client.create_deployment(flow_id=flow_id, name="every-night", schedules=[schedule])
"""


def status_served(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """``dexter status`` of a server, in a process of its own, which nothing but the server tells anything."""
    environment = {**os.environ, "PREFECT_API_URL": url}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "flows.cli", "status", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.cluster
def test_status_of_a_real_prefect_server(tmp_path: Path, prefect_server: Server) -> None:
    environment = {**os.environ, "PREFECT_API_URL": prefect_server.url}
    (tmp_path / "served.py").write_text(SERVED)
    command = [sys.executable, str(tmp_path / "served.py"), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    looked = [status_served(prefect_server.url, *words) for words in ((), ("--json",))]
    assert [each.returncode for each in looked] == [3, 3], looked[0].stderr
    said = looked[0].stdout
    assert "a long one (Running)" in said
    assert "  last night: failed, regression, 20" in said
    assert "waiting/every-night  0 3 * * *" in said
    found = json.loads(looked[1].stdout)["prefect"]
    assert "the next one" in [run["name"] for run in found["scheduled"]]
    assert not any(run["late"] for run in found["scheduled"])
    assert [each["headline"] for each in found["nights"]] == ["told so"]
    # A later night that crashed before it could tell a verdict is the last one.
    (flow,) = ask(prefect_server.url, "flows", flows={"name": {"any_": ["nightly"]}})
    for kind, message in (("CRASHED", "its machine is gone"), ("CANCELLED", "another night is at work")):
        content = {"flow_id": flow["id"], "state": {"type": kind, "message": message}}
        content["parameters"] = {"parameters": {"out": str(tmp_path / "out")}}
        send(prefect_server.url, "flow_runs/", content)
    said = status_served(prefect_server.url).stdout
    assert "  last night: crashed, " in said
    assert ": its machine is gone" in said


@pytest.mark.cluster
def test_status_of_a_server_that_does_not_answer() -> None:
    done = status_served("http://127.0.0.1:9/api")
    assert (done.returncode, "no Prefect server answers" in done.stdout) == (4, True), done.stderr


@pytest.mark.cluster
def test_a_server_that_is_busy_is_asked_again_once() -> None:
    asked: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(503)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = status_served(f"http://127.0.0.1:{server.server_port}/api")
        server.shutdown()
    assert (done.returncode, "no Prefect server answers" in done.stdout) == (4, True), done.stderr
    assert [asked.count(path) for path in asked] == [2] * len(asked) != []
