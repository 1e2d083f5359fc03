"""What an operator sees: log records with ids as JSON lines, and metrics scraped from a real Ray's endpoint."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dexter_model import places, s3, tally
from tasks import telemetry

DASHBOARD = Path(__file__).parents[2] / "infra" / "grafana" / "dexter.json"
# Ray exports these where there is what they measure: GPUs, and memory limits of containers.
ON_GPU_NODES = {"ray_node_gpus_utilization", "ray_node_gpus_available", "ray_node_gram_used", "ray_node_gram_available"}


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "tasks.build", "levelname": "INFO", "levelno": 20, "msg": message})
    vars(made).update(extra)
    return made


def test_a_log_record_is_one_json_object_with_the_ids_that_are_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(telemetry.RUN, "run-1")
    with telemetry.bound(corpus="ASAP", piece="a"), telemetry.bound(piece="b\n"):
        line = telemetry.JsonLines().format(record("performance quarantined", code="unknown_ids", path=Path("x")))
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "info",
        "logger": "tasks.build",
        "event": "performance quarantined",
        "run": "run-1",
        "corpus": "ASAP",
        "piece": "b\n",
        "code": "unknown_ids",
        "path": "x",
    }
    assert "corpus" not in json.loads(telemetry.JsonLines().format(record("later")))


def logged(switch: str | None) -> str:
    code = "from tasks.telemetry import *; start_logging(); start_logging(); import logging; log = logging.getLogger"
    code += "\nlog('tasks.x').info('done %d', 3, extra={'shard': 's'}); log('dexter_model.y').warning('look')"
    environment = {name: value for name, value in os.environ.items() if name != "DEXTER_LOG"}
    environment |= {"DEXTER_LOG": switch} if switch else {}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_logs_are_json_when_asked_and_warnings_alone_otherwise() -> None:
    assert logged(None) == "look\n"
    lines = [json.loads(line) for line in logged("json").splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [("done 3", "info"), ("look", "warning")]
    assert lines[0]["shard"] == "s"


def test_requests_and_bytes_are_counted(moto_bucket: str) -> None:
    s3.client()
    tally.take()
    places.write(f"{moto_bucket}/a/b.json", b"x" * 700)
    assert places.read(f"{moto_bucket}/a/b.json") == b"x" * 700
    with pytest.raises(FileNotFoundError):
        places.read(f"{moto_bucket}/a/c.json")
    taken = {(what, *dict(labels).values()): amount for (what, labels), amount in tally.take().items()}
    assert taken["s3_requests", "PutObject", "200"] == taken["s3_requests", "GetObject", "200"] == 1
    assert taken["s3_requests", "GetObject", "404"] == 1
    assert taken["s3_bytes", "sent"] == 700
    assert taken["s3_bytes", "received"] >= 700
    assert tally.take() == {}


SCRAPED = """
import json, os, socket, subprocess, sys, time, urllib.request
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", DEXTER_RUN="run-7")
import ray
context = ray.init(
    address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _metrics_export_port=port,
    _system_config={"metrics_report_interval_ms": 500},
)
from dexter_model.tally import count
from tasks.cluster import fan_out
from flows.parameters import EncodeParameters
from tasks.runs import Run
from tasks.telemetry import COUNTERS, GAUGES

def make():
    import logging
    from dexter_model.tally import count
    from tasks.telemetry import bound

    class Worker:
        def run(self, job):
            with bound(piece=f"piece {job}"):
                logging.getLogger("tasks.test").info("done")
            count("store_bytes", 100, direction="written")
            time.sleep(1.5)
            return job
    return Worker()

labels = {name: {label: "x" for label in told[1]} for name, told in COUNTERS.items()}
for name, told in labels.items():
    count(name, 5, **told)
results = fan_out(make, range(4), workers=2)
next(results)
with Run("encode", sys.argv[1], EncodeParameters(performance="a", score="b")).under_way():
    count("store_retries", 37)  # after the last fan-out of the run
wanted = {f"ray_dexter_{name}_total" for name in COUNTERS} | {f"ray_dexter_{name}" for name in GAUGES}
wanted |= {f"ray_{name}" for name in %s}
for _ in range(120):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    names = {line.partition("{")[0] for line in lines}
    if wanted <= names and 'direction="written"' in text and " 42.0" in text:
        break
    time.sleep(0.5)
environment = {**os.environ, "RAY_ADDRESS": context.address_info["address"]}
environment.pop("PREFECT_API_URL", None)
status = [sys.executable, "-m", "flows.cli", "status", "--json"]
told = subprocess.run(status, env=environment, capture_output=True, text=True, check=True, cwd="/").stdout
list(results)
logs = context.address_info["session_dir"] + "/logs"
said = [line for file in os.scandir(logs) if file.name.endswith(".err") for line in open(file.path, errors="replace")]
print(json.dumps({"metrics": lines, "status": json.loads(told),
    "logs": [line for line in said if '"event"' in line]}))
"""


def metrics_of(dashboard: dict[str, Any]) -> set[str]:
    """Names of metrics in every expression of a dashboard."""
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return set(re.findall(r"\bray_\w+", " ".join(expressions)))


@pytest.mark.cluster
def test_rays_endpoint_has_our_metrics_and_all_of_the_dashboard_and_its_workers_log_with_ids(
    tmp_path: Path,
) -> None:
    shown = metrics_of(json.loads(DASHBOARD.read_text()))
    own = {name for name in shown if name.startswith("ray_dexter_")}
    names = {f"dexter_{name}_total" for name in telemetry.COUNTERS} | {f"dexter_{name}" for name in telemetry.GAUGES}
    assert {name.removeprefix("ray_") for name in own} == names
    rays = sorted(name.removeprefix("ray_") for name in shown - own - ON_GPU_NODES)
    environment = {**os.environ, "DEXTER_LOG": "json"}
    command = [sys.executable, "-c", SCRAPED % repr(rays), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    exported = {line.partition("{")[0] for line in found["metrics"]}
    assert shown - ON_GPU_NODES <= exported
    (done_pieces,) = (line for line in found["metrics"] if line.startswith("ray_dexter_pieces_done_total"))
    assert 'work="x"' in done_pieces
    assert done_pieces.endswith(" 5.0")
    (retries,) = (line for line in found["metrics"] if line.startswith("ray_dexter_store_retries_total"))
    assert retries.endswith(" 42.0")  # 5, and 37 that were counted at the end of a run
    written = [line for line in found["metrics"] if 'direction="written"' in line and "dexter_store_bytes" in line]
    assert written
    (node,) = found["status"]["ray"]["nodes"]
    assert (node["alive"], node["CPU"]) == (True, 2)
    assert found["status"]["ray"]["free"]["CPU"] < 2  # the fan-out's
    logs = [json.loads(line) for line in found["logs"]]
    assert {line["piece"] for line in logs} == {f"piece {job}" for job in range(4)}
    assert {line["run"] for line in logs} == {"run-7"}
    assert all(line["actor"] and line["node"] for line in logs)
