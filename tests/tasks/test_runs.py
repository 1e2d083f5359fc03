"""Records of runs: what they hold, where they are found, and what becomes of them when a run does not end well."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from dexter_model import places
from dexter_model.errors import InputError, RegressionError
from tasks import meter, runs, telemetry


class Given(BaseModel):
    """Parameters of the flows below."""

    out: str
    steps: int = 3


def facts(result: int) -> dict[str, Any]:
    return {"digest": f"{result:064x}", "quarantined": result, "verdict": "passed", "figures": {"a": {"b": 0.5}}}


@runs.recorded("inner", lambda given: given.out, facts)
def inner(parameters: Given) -> int:
    if parameters.steps < 0:
        raise RegressionError(["worse"], -parameters.steps)
    return parameters.steps


@runs.recorded("outer", lambda given: given.out)
def outer(parameters: Given) -> str:
    with runs.stage("first") as row:
        inner(parameters)
        row["seed"] = 13
    inner(parameters)
    return os.environ[telemetry.RUN]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "folder" else f"{request.getfixturevalue('moto_bucket')}/out"


def test_a_flow_leaves_a_record_and_one_inside_another_is_a_stage(place: str) -> None:
    identity = outer(Given(out=place))
    assert telemetry.RUN not in os.environ
    (record,) = runs.list_runs(place)
    assert record == runs.read_run(place) == runs.read_run(places.join(place, "runs", f"{identity}.json"))
    assert (record["id"], record["flow"], record["outcome"], record["error"]) == (identity, "outer", "completed", None)
    assert record["parameters"] == {"out": place, "steps": 3}
    first, second = record["stages"]
    assert (first["name"], first["seed"], first["quarantined"], second["name"]) == ("first", 13, 3, "inner")
    assert (record["quarantined"], record["verdict"], record["figures"]) == (6, "passed", {"a": {"b": 0.5}})
    assert record["spent"]["seconds"] >= first["seconds"] + second["seconds"] - 0.2
    assert record["currency"] == "USD"


def test_a_flow_alone_is_its_own_only_stage(place: str) -> None:
    assert inner(Given(out=place)) == 3
    (stage,) = runs.read_run(place)["stages"]
    assert (stage["name"], stage["digest"]) == ("inner", f"{3:064x}")
    assert {"seconds", "cpu_seconds", "gpu_seconds", "cost"} <= stage.keys()


@pytest.mark.parametrize(
    ("error", "outcome", "told"),
    [
        (RegressionError(["worse"], 2), "regression", "worse than the baseline: worse"),
        (OSError("no space"), "failed", "no space"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_what_stops_a_run_is_in_its_record(tmp_path: Path, error: BaseException, outcome: str, told: str) -> None:
    @runs.recorded("flow", lambda given: given.out, facts)
    def flow(parameters: Given) -> int:
        raise error

    with pytest.raises(type(error)):
        flow(Given(out=str(tmp_path)))
    record = runs.read_run(str(tmp_path))
    assert (record["outcome"], record["error"], len(record["stages"])) == (outcome, told, 1)
    assert record["quarantined"] == (2 if outcome == "regression" else 0)


def test_bad_input_leaves_a_record_where_something_was_done_before(tmp_path: Path) -> None:
    @runs.recorded("flow", lambda given: given.out)
    def flow(parameters: Given) -> None:
        if parameters.steps:
            inner(parameters)
        raise InputError("x", "is bad", "Mend it", "bad")

    for steps, count in ((0, 0), (1, 1)):
        with pytest.raises(InputError):
            flow(Given(out=str(tmp_path / "out"), steps=steps))
        assert len(runs.list_runs(str(tmp_path / "out"))) == count
    record = runs.read_run(str(tmp_path / "out"))
    assert (record["outcome"], record["error"]) == ("failed", "x: is bad. Mend it.")


def test_a_run_tells_of_itself_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LOOK_SECONDS", 0.01)

    @runs.recorded("flow", lambda given: given.out)
    def flow(parameters: Given) -> dict[str, Any]:
        while not (found := runs.list_runs(parameters.out)):
            pass
        return found[0]

    assert flow(Given(out=str(tmp_path)))["outcome"] == "running"
    assert runs.read_run(str(tmp_path))["outcome"] == "completed"


def test_runs_are_found_in_the_folders_of_a_job_too_newest_first(place: str) -> None:
    for folder in ("", "/model", "/renders/deep"):
        inner(Given(out=place + folder))
    found = runs.list_runs(place)
    assert [record["place"] for record in found] == [f"{place}/model", place]
    assert runs.list_runs(place, 1) == found[:1] == [runs.read_run(place)]


def test_a_run_that_was_killed_is_lost_after_a_while(tmp_path: Path) -> None:
    run = runs.Run("flow", str(tmp_path), Given(out=""))
    run.write(runs.RUNNING)
    record = runs.read_run(str(tmp_path))
    now = datetime.now(UTC)
    assert runs.state(record, now) == "running"
    assert runs.state(record, now + timedelta(minutes=10)) == "lost"


def test_a_place_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert inner(Given(out=str(tmp_path / "file"))) == 3


def test_what_is_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="no run is recorded here"):
        runs.read_run(str(tmp_path))
    for content in ("", "[]", "{}", json.dumps({"format": "dexter-run-9"})):
        (tmp_path / "runs" / "x.json").write_text(content)
        with pytest.raises(InputError, match="is no record of a run"):
            runs.read_run(str(tmp_path))
    assert runs.list_runs(str(tmp_path)) == []


def test_prices_that_are_none_are_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.yaml").write_text("currency: EUR\ncompute: {cpu_hour: {price: much}}")
    for path in (tmp_path / "prices.yaml", tmp_path / "none.yaml"):
        monkeypatch.setenv("DEXTER_PRICES", str(path))
        with pytest.raises(InputError, match="holds no prices"):
            inner(Given(out=str(tmp_path)))


def test_a_cluster_that_grows_costs_more_and_one_out_of_reach_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(meter, "_machines", lambda: [(4, 0, "")])
    measured = meter.Meter()
    now[0] = 3600.0
    hour = measured.read()
    assert (hour.seconds, hour.cpu_seconds, hour.gpu_seconds) == (3600, 4 * 3600, 0)
    assert hour.cost == pytest.approx(4 * 0.0408)
    monkeypatch.setattr(meter, "_machines", lambda: [(4, 0, ""), (8, 2, "A10G")])
    measured.read()
    monkeypatch.setattr(meter, "_machines", lambda: 1 / 0)
    now[0] += 1800.0
    assert measured.read().since(hour) == {
        "seconds": 1800.0,
        "cpu_seconds": 12 * 1800.0,
        "gpu_seconds": 2 * 1800.0,
        "cost": pytest.approx(4 * 0.0408 / 2 + 2 * 1.006 / 2),
    }
