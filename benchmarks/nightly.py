"""A lab's night, whole, on one machine: what has to work together, together.

    python benchmarks/nightly.py [--nights 2] [--screenshots docs/figures]

Starts a Prefect server, an S3 server (moto) and a Ray cluster of a head and three nodes, each in a network namespace of
its own when root; deploys with `dexter deploy`; a Prefect worker on the head runs the deployment `nightly` on Vienna
4x22 (DEXTER_DATASETS_ROOT), data set, nights and results in a bucket. Prints the artifact's link and the verdict. The
first night is accepted, and the second held against it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "tests"), str(PROJECT / "tests" / "flows")]

from prefect_api import (  # noqa: E402
    OVER,
    ask,
    ended,
    kill_with_children,
    run_deployment,
    send,
    serving,
    start_worker,
    state_of,
    wait_until,
)
from s3_servers import moto  # noqa: E402
from three_nodes import three_nodes  # noqa: E402

NIGHT = {
    "build": {"corpora": ["VIENNA422"], "workers": 3},
    "render": {"checkpoint": None, "samples": 2, "workers": 3},
    "workers": 3,
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--nights", type=int, default=2)
    words.add_argument("--screenshots", type=Path, help="folder for pictures of Prefect's pages (needs Chromium)")
    words.add_argument("--log", type=Path, help="file that the worker's log is copied to")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="night") as folder, lab(Path(folder), asked.log) as (url, out):
        for number in range(asked.nights):
            run = night(url, out)
            if asked.screenshots and number == 0:
                photograph_running(url, run, asked.screenshots)
            tell(url, run)
        if asked.screenshots:
            photograph(url, asked.screenshots)


@contextmanager
def lab(folder: Path, log: Path | None) -> Iterator[tuple[str, str]]:
    """The Prefect API's URL, and the bucket, of a lab that is at work."""
    with three_nodes(folder) as cluster, moto(cluster.host) as s3, serving(folder, cluster.host) as server:
        url, out = server.url, s3.new_bucket()
        environment = {
            **{name: value for name, value in cluster.environment.items() if not name.startswith("PREFECT_")},
            **s3.environment,
            "PREFECT_HOME": str(folder),
            "PREFECT_API_URL": url,
            "DEXTER_OUT": out,
            "DEXTER_CACHE_DIR": str(folder / "cache"),
        }
        deploying = [sys.executable, "-m", "flows.cli", "deploy"]
        print(
            subprocess.run(deploying, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True).stdout
        )
        worker = start_worker(environment, log or folder / "worker.log", within=cluster.command())
        print(f"Prefect {url}, S3 {s3.endpoint}, Ray {cluster.address} with {len(cluster.alive())} nodes")
        try:
            yield url, out
        finally:
            kill_with_children(worker)


def night(url: str, out: str) -> str:
    """Ask for a night; the run's id."""
    parameters: dict[str, Any] = {**NIGHT, "out": f"{out}/nightly"}
    parameters["build"] = {**NIGHT["build"], "store": f"{out}/dataset"}  # type: ignore[dict-item]
    return run_deployment(url, "nightly/nightly", **parameters)


def tell(url: str, run: str) -> None:
    """Wait for a night and print what a person wants to know of it."""
    state = ended(url, run)
    made = [each for each in of_run(url, run) if each["key"] == "nightly"]
    if not made:
        sys.exit(f"{state['name']} without a verdict: {state['message']}")
    verdict, *_ = made[0]["data"].splitlines()
    print(f"\nrun:      {state['name']} {state['message'] or ''}")
    print(f"artifact: {url.removesuffix('/api')}/artifacts/artifact/{made[0]['id']}")
    print(f"report:   {re.search(r'[(](http.*?)[)]', made[0]['data'])[1]}")  # type: ignore[index]
    print(f"verdict:  {verdict.replace('*', '')}")


def of_run(url: str, run: str) -> list[dict[str, Any]]:
    """The artifacts of a run."""
    return ask(url, "artifacts", flow_runs={"id": {"any_": [run]}})


def photograph_running(url: str, run: str, folder: Path) -> None:
    """A picture of a run of which some is done, with its progress; pages are slow, so the browser starts beforehand."""

    def under_way() -> list[dict[str, Any]]:
        shown = [each for each in ask(url, "artifacts") if each["type"] == "progress" and 0 < each["data"] < 100]
        return shown or (state_of(url, run)["type"] in OVER and ask(url, "artifacts"))

    with browser(url) as page:
        progress = wait_until(under_way, "the run shows progress")[0]
        page.goto(f"{url.removesuffix('/api')}/runs/flow-run/{progress['flow_run_id']}")
        page.get_by_text("Artifacts", exact=True).last.click()
        page.wait_for_timeout(3000)
        page.screenshot(path=folder / "prefect_running.png")


def photograph(url: str, folder: Path) -> None:
    """Pictures of the nightly deployment's form and of the newest verdict."""
    deployment = send(url, "deployments/name/nightly/nightly", method="GET")["id"]
    newest = max((each["created"], each["id"]) for each in ask(url, "artifacts") if each["key"] == "nightly")[1]
    pages = {
        "deployment": (f"deployments/deployment/{deployment}/run", "Data Root"),
        "artifact": (f"artifacts/artifact/{newest}", "Show raw data"),
    }
    with browser(url) as page:
        for name, (path, there) in pages.items():
            page.goto(f"{url.removesuffix('/api')}/{path}")
            page.get_by_text(there).first.wait_for(timeout=60_000)  # it asks the server for one thing after the other
            page.wait_for_timeout(1000)
            page.screenshot(path=folder / f"prefect_{name}.png")


@contextmanager
def browser(url: str) -> Iterator[Any]:
    """A page of headless Chromium that has loaded Prefect's UI."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=quiet)
        page = chromium.new_page(viewport={"width": 1280, "height": 1100})
        page.goto(url.removesuffix("/api"))
        yield page
        chromium.close()


if __name__ == "__main__":
    main()
