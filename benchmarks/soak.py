"""A build on a real cluster whose workers are killed all the time, beside the same build left alone.

    DEXTER_DATASETS_ROOT=... python benchmarks/soak.py OUT [--corpus VIENNA422 --corpus ASAP] [--every 30] [--nodes]

Starts a head and three nodes (``tests/three_nodes.py``) and builds the corpora; every so many seconds a random worker
process that is at work gets SIGKILL, or with ``--nodes`` everything on a random node, which a new one replaces. Prints
the row of the fault table and appends it to ``OUT/soak.md``. The calm build runs in one process, once: it is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from three_nodes import Cluster, three_nodes

from dexter_model.dataset.store import DatasetVersion, open_version
from dexter_model.digests import code_version

HEAD = "| corpora | kill every | killed | jobs redone | performances | quarantined | lost | calm build's digest | min |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", action="append", default=[])
    parser.add_argument("--every", type=float, default=30.0, help="seconds")
    parser.add_argument("--nodes", action="store_true", help="kill nodes instead of workers")
    options = parser.parse_args()
    corpora = options.corpus or ["VIENNA422", "ASAP"]
    calm, out = options.out / f"calm-{'-'.join(corpora)}", options.out / "soaked"
    options.out.mkdir(parents=True, exist_ok=True)
    build = [sys.executable, "-m", "flows.cli", "dataset", "build"]
    build += [part for corpus in corpora for part in ("--corpus", corpus)]
    if not calm.exists():
        subprocess.run([*build, "--store", str(calm), "--workers", "0"], check=True)
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, three_nodes(Path(folder)) as cluster:
        began = time.monotonic()
        log = options.out / "soak.log"
        with log.open("w") as file:
            command = cluster.command(*build, "--store", str(out), "--workers", "3")
            driver = subprocess.Popen(command, env=cluster.environment, stdout=file, stderr=file)
            killed = harass(cluster, driver, options.every, options.nodes)
        minutes = (time.monotonic() - began) / 60
        assert driver.returncode == 0, log.read_text()
    redone = re.findall(r"jobs redone: (.*)", log.read_text())
    what = f"{killed} {'nodes' if options.nodes else 'workers'}"
    told = [", ".join(corpora), f"{options.every:g} s", what, "; ".join(redone) or "none"]
    told += [*compared(open_version(str(out)), open_version(str(calm))), f"{minutes:.1f}"]
    row = f"| {' | '.join(told)} |"
    print(HEAD, "|---" * 9 + "|", row, f"commit {code_version()[:12]}, load {os.getloadavg()[2]:.0f}", sep="\n")
    with (options.out / "soak.md").open("a") as table:
        table.write(row + "\n")


def harass(cluster: Cluster, driver: subprocess.Popen[bytes], every: float, nodes: bool) -> int:
    """Kill something at work every so often until the driver has ended; how often that was."""
    over, killed, draw = threading.Event(), 0, random.Random(13)
    threading.Thread(target=lambda: (driver.wait(), over.set()), daemon=True).start()
    while not over.wait(every):
        at_work = [(node, pid) for node in cluster.nodes[1:] for pid in node.at_work("Actor.run")]
        if not at_work:
            continue
        node, pid = draw.choice(at_work)
        if nodes:
            cluster.kill(node)
            cluster.add(1)
        else:
            os.kill(pid, signal.SIGKILL)
        killed += 1
    return killed


def compared(soaked: DatasetVersion, calm: DatasetVersion) -> list[str]:
    """Performances, quarantine by code, pieces that are missing or there twice, and whether the digests are equal."""
    codes = Counter(soaked.quarantine["code"])
    mine, theirs = (Counter(version.catalogue.select("corpus", "key").rows()) for version in (soaked, calm))
    lost = sum(((mine - theirs) + (theirs - mine)).values())
    same = "same digest" if soaked.digest == calm.digest else "ANOTHER DIGEST"
    refused = ", ".join(f"{count} {code}" for code, count in sorted(codes.items())) or "none"
    return [str(soaked.performances.height), refused, str(lost), f"{same} {soaked.digest[:12]}"]


if __name__ == "__main__":
    main()
