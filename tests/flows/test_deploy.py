"""What ``dexter deploy`` tells a Prefect server of work pools and notifications, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_api import Server

from dexter_model.errors import InputError
from flows.deploy import FAILURES, Lab, _failures, _known_pool, _new_pool, deploy

PROJECT = Path(__file__).parents[2]
FILE = PROJECT / "prefect.yaml"


@pytest.fixture
def client(prefect_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncPrefectClient]:
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.url)
    with temporary_settings({PREFECT_API_URL: prefect_server.url}), get_client(sync_client=True) as client:
        assert str(client.api_url).startswith(prefect_server.url)
        yield client


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_containers_are_started_by_the_projects_template(client: SyncPrefectClient, kind: str) -> None:
    lab = Lab(f"in-{kind}", kind, "registry.example.org/dexter:9", out="s3://bucket/lab")
    told = _new_pool(client, lab, FILE, dry_run=False)
    assert told == f"work pool in-{kind}: new, of type {kind}, 4 runs at a time"
    pool = _known_pool(client, lab)
    assert pool is not None
    assert "ray start" in str(pool.base_job_template)
    assert pool.base_job_template["variables"]["properties"]["image"]["default"] == lab.image
    # One that is there says what it is, whatever is asked for.
    assert deploy(Lab(lab.pool, out=lab.out), FILE, dry_run=True)[0] == f"work pool in-{kind}: there, of type {kind}"
    with pytest.raises(InputError, match="do not share"):
        deploy(Lab(lab.pool, out="dexter-out"), FILE, dry_run=True)


@pytest.mark.cluster
def test_what_containers_cannot_work_with_is_refused(client: SyncPrefectClient, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--out s3://"):
        deploy(Lab("new", "docker"), FILE, dry_run=True)
    shutil.copy(FILE, tmp_path)
    lab = Lab("new", "kubernetes", out="s3://bucket/lab")
    with pytest.raises(InputError, match=r"kubernetes-job\.json.*project's folder"):
        deploy(lab, tmp_path / "prefect.yaml", dry_run=True)
    assert _known_pool(client, lab) is None


@pytest.mark.cluster
def test_only_an_empty_url_ends_notifications(client: SyncPrefectClient) -> None:
    def tell(url: str | None, *, dry_run: bool = False) -> str:
        return _failures(client, Lab(notify=url), dry_run).removeprefix(f"automation “{FAILURES}”: ")

    assert tell(None) == "none, as DEXTER_NOTIFY_URL is not set"
    assert tell("http://127.0.0.1:9/hook") == "by webhook"
    assert tell(None).startswith("stays, though")
    assert tell("", dry_run=True) == "none, as DEXTER_NOTIFY_URL is empty"
    assert len(client.read_automations_by_name(FAILURES)) == 1
    assert tell("") == "none, as DEXTER_NOTIFY_URL is empty"
    assert client.read_automations_by_name(FAILURES) == []
