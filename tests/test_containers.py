"""docker/: what an image build and a compose engine would refuse, and what a person would object to."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCKERFILE, COMPOSE = ROOT / "docker" / "Dockerfile", ROOT / "docker" / "compose.yaml"
TOOLS = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
TARGETS = ("cpu", "cuda")


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage of the Dockerfile, ``FROM`` first."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {"": []}
    name = ""
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            name = rest.rpartition(" AS ")[2]
            found[name] = []
        found[name].append((word, " ".join(rest.split())))
    return found


def compose() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return told


SERVICES = compose()["services"]
every_service = pytest.mark.parametrize("name", SERVICES)


def settings() -> set[str]:
    """Variables of .env.example, those that may be left out too."""
    lines = (ROOT / "docker" / ".env.example").read_text().splitlines()
    return {found[1] for line in lines if (found := re.fullmatch(r"(?:# )?([A-Z0-9_]+)=.*", line))}


def required() -> set[str]:
    """Those without which the lab does not start."""
    lines = (ROOT / "docker" / ".env.example").read_text().splitlines()
    return settings() & {line.partition("=")[0] for line in lines}


@pytest.mark.skipif(not shutil.which("hadolint", path=TOOLS), reason="hadolint is not here")
def test_the_linter_has_nothing_to_say() -> None:
    lint = subprocess.run(
        [str(shutil.which("hadolint", path=TOOLS)), DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (lint.returncode, lint.stdout) == (0, "")


@pytest.mark.parametrize("target", TARGETS)
def test_images_are_unprivileged_and_code_comes_last(target: str) -> None:
    steps = stages()[target]
    assert steps[-1] == ("USER", "10001")
    copied = [rest for word, rest in steps if word == "COPY"]
    assert copied == [
        f"--from={target}-packages /opt/dexter /opt/dexter",
        "--from=code /opt/dexter /opt/dexter",
        "--from=code /app /app",
    ]


def test_packages_do_not_depend_on_code() -> None:
    """Or every change of a line would install them again."""
    before = [
        rest
        for name in ("installer", "cpu-packages", "cuda-packages")
        for word, rest in stages()[name]
        if word == "COPY"
    ]
    assert before == ["pyproject.toml requirements.lock ./"]


def test_the_base_is_pinned_by_digest() -> None:
    (base,) = (rest for word, rest in stages()[""] if word == "ARG")
    assert re.fullmatch(r"BASE=\S+:3\.1[123]\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert not re.search(r"build-essential|gcc|g\+\+", DOCKERFILE.read_text())


@pytest.mark.parametrize("commit", ["0123456789ab", "0123456789ab.dirty", ""])
def test_the_version_tells_the_commit(commit: str, tmp_path: Path) -> None:
    """The line of the Dockerfile that does it, on our pyproject.toml: as ``code_version`` tells it in a checkout."""
    from packaging.version import Version

    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    sed = re.search(r"RUN (sed -i .*? pyproject\.toml)", DOCKERFILE.read_text())
    assert sed
    subprocess.run(["sh", "-c", sed[1]], cwd=tmp_path, env={"PATH": os.environ["PATH"], "COMMIT": commit}, check=True)
    was = tomllib.loads((ROOT / "pyproject.toml").read_text())
    now = tomllib.loads((tmp_path / "pyproject.toml").read_text())
    assert now["project"].pop("version") == was["project"].pop("version") + (commit and f"+{commit}")
    assert now == was
    assert Version(f"0.1.0+{commit}" if commit else "0.1.0")


def test_the_build_context_holds_what_runs_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in packages} <= kept
    assert all((ROOT / name).exists() for name in kept)
    assert not kept & {"tests", ".git", "docker", ".venv"}
    assert not any(fnmatch.fnmatch("docker/.env", name) for name in kept)


@every_service
def test_services_cannot_gain_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] or name == "postgres"
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)
    assert "/var/run/docker.sock" not in str(service)


@every_service
def test_ports_are_open_on_this_machine_alone(name: str) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in SERVICES[name].get("ports", []))


@every_service
def test_services_wait_for_what_they_need(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] != "service_healthy" or SERVICES[other]["healthcheck"]["test"][0] == "CMD"
        assert how["condition"] in ("service_healthy", "service_completed_successfully")
    assert "healthcheck" in SERVICES[name] or SERVICES[name]["restart"] == "no"


@every_service
def test_images_are_pinned(name: str) -> None:
    image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", SERVICES[name]["image"])
    assert image == "dexter:cpu" or re.search(r":v?\d+\.\d+[\w.]*@sha256:[0-9a-f]{64}$", image)


def test_every_ray_node_wants_the_token() -> None:
    nodes = [each for each in SERVICES.values() if re.search(r"ray\W+start", str(each.get("command")))]
    assert len(nodes) == 3
    for node in nodes:
        assert node["environment"]["RAY_AUTH_MODE"] == "token"
        assert node["environment"]["RAY_AUTH_TOKEN"].startswith("${")


def test_secrets_come_from_the_environment_alone() -> None:
    """And without one the lab does not start."""
    telling = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN$|AUTH_STRING")
    text = COMPOSE.read_text()
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if telling.search(key):
                variable = re.fullmatch(r"\$\{(\w+)(:\?.*)?\}", value)
                assert variable
                assert f"${{{variable[1]}:?" in text
    used = set(re.findall(r"\$\{(\w+)", text))
    assert settings() <= used
    assert used - settings() == {"POSTGRES_IMAGE", "S3_IMAGE"}  # stand-ins, where images cannot be pulled
    assert required() == set(re.findall(r"\$\{(\w+):\?", text))


def test_git_ignores_the_passwords() -> None:
    checked = subprocess.run(["git", "check-ignore", "-q", "docker/.env"], cwd=ROOT, check=False)
    assert checked.returncode in (0, 128)  # 128: no checkout


@pytest.mark.skipif(not shutil.which("podman-compose", path=TOOLS), reason="podman-compose is not here")
def test_an_engine_reads_it(tmp_path: Path) -> None:
    """Which asks Podman for its version before anything, also where it starts nothing."""
    (tmp_path / "env").write_text("\n".join(f"{name}=/value" for name in required()))
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\necho podman version 5.0.0\n")
    podman.chmod(0o755)
    words = ["--env-file", str(tmp_path / "env"), "--podman-path", str(podman), "-f", str(COMPOSE), "config"]
    read = subprocess.run(
        [str(shutil.which("podman-compose", path=TOOLS)), *words],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    told = yaml.safe_load(read.stdout)["services"]
    assert set(told) == set(SERVICES)
    assert told["ray-head"]["environment"]["RAY_AUTH_TOKEN"] == "/value"
