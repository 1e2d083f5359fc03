"""A real Ray cluster on this machine for tests: a head without CPUs and worker nodes, each with processes of its own.

As root each node lives in a network namespace with an address of its own, like a machine; elsewhere nodes are processes
that share the machine's address. A driver has to be on a node: ``Cluster.command`` runs it on the head.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PATIENCE = 300.0  # seconds a node may take to appear or to be missed: machines are busy
# A lost node is missed after some seconds instead of half a minute, and none because the machine is busy.
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
}
ISOLATED = os.geteuid() == 0 and shutil.which("ip") is not None
_numbers = itertools.count(1)


@dataclass
class Node:
    """A node: its ``ray start``, its address, its network namespace if it has one, and its id in the cluster."""

    process: subprocess.Popen[bytes]
    ip: str
    namespace: str | None
    id: str = ""

    def pids(self) -> list[int]:
        """Everything that runs on it."""
        if self.namespace is not None:
            return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]
        if self.process.poll() is not None:
            return []
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [self.process.pid, *(child.pid for child in children)]

    def at_work(self, title: str) -> list[int]:
        """Which of it are Ray workers that do what is titled so at this moment, such as ``Actor.run``."""
        return [pid for pid in self.pids() if _title(pid).startswith(f"ray::{title}")]

    def end(self) -> int:
        """Kill everything on it at once; how many processes that were."""
        pids = self.pids()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self.process.wait()
        return len(pids)


@dataclass
class Cluster:
    """A running cluster, the head its first node; ``three_nodes`` makes it."""

    folder: Path
    settings: dict[str, str]
    bridge: str | None
    nodes: list[Node] = field(default_factory=list)
    killed: list[Node] = field(default_factory=list)
    address: str = ""
    dashboard: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """For a driver: where the cluster is."""
        return {**os.environ, **self.settings, "RAY_ADDRESS": self.address}

    @property
    def host(self) -> str:
        """This machine's address, as the nodes see it."""
        return f"{_prefix(self.bridge)}.1" if self.bridge else "127.0.0.1"

    def command(self, *arguments: str) -> list[str]:
        """A command that runs on the head."""
        return [*_within(self.nodes[0].namespace), *arguments]

    def add(self, cpus: int) -> Node:
        """Start a node and wait until the cluster knows it; when two start at once, Ray may give up."""
        number = next(_numbers)
        namespace, ip = _namespace(self.bridge, number) if self.bridge else (None, "127.0.0.1")
        if self.nodes:
            ports, before = [f"--address={self.address}"], self.alive()
        else:
            port, web = (6379, 8265) if namespace else (_free_port(), _free_port())
            self.address, self.dashboard = f"{ip}:{port}", f"http://{ip}:{web}"
            ports = ["--head", f"--port={port}", f"--dashboard-host={ip}", f"--dashboard-port={web}"]
            before = set()
        start = [str(Path(sys.executable).with_name("ray")), "start", *ports, f"--node-ip-address={ip}", "--block"]
        start += [f"--num-cpus={cpus}", "--object-store-memory=100000000", "--disable-usage-stats"]
        log = self.folder / f"node{number}.log"
        environment = {
            name: os.environ[name] for name in os.environ if not name.startswith(("DEXTER_", "AWS_", "RAY_"))
        }
        environment |= self.settings  # what jobs are told, nodes do not know
        if namespace:
            environment["GLOO_SOCKET_IFNAME"] = "eth0"  # by the machine's name it would find itself alone
        with log.open("wb") as file:
            process = subprocess.Popen([*_within(namespace), *start], env=environment, stdout=file, stderr=file)
        node = Node(process, ip, namespace)
        self.nodes.append(node)

        def appeared_or_gave_up() -> bool:
            node.id = next(iter(self.alive() - before), "")
            return bool(node.id) or process.poll() is not None

        _wait_until(appeared_or_gave_up)
        if node.id:
            return node
        self.nodes.remove(node)
        self.killed.append(node)
        assert len(self.killed) < 10, log.read_text()
        return self.add(cpus)  # Ray gives a node 30 s to start, which a busy machine may miss

    def kill(self, node: Node) -> None:
        """Kill all of a living node."""
        assert node.id in self.alive(), "the node was dead before it was killed"
        self.nodes.remove(node)
        self.killed.append(node)
        assert node.end() > 1, "nothing was killed"

    def kill_at_work(self, title: str) -> Node:
        """Kill the first node, not the head, that has a worker in the middle of what is titled so."""
        found: list[Node] = []

        def caught() -> bool:
            for node in self.nodes[1:]:
                for pid in node.at_work(title):
                    _signal(pid, signal.SIGSTOP)  # it shall not get done while the rest of the node is found
                    found.append(node)
                    return True
            return False

        _wait_until(caught, pause=0.01)
        self.kill(found[0])
        return found[0]

    def wait_until_missed(self, node: Node) -> None:
        """Wait until the cluster has noticed that a node is gone."""
        _wait_until(lambda: node.id not in self.alive())

    def alive(self) -> set[str]:
        """Ids of the nodes that the cluster holds for alive; none while it does not answer."""
        token = {"Authorization": f"Bearer {self.settings['RAY_AUTH_TOKEN']}"}
        asked = urllib.request.Request(f"{self.dashboard}/api/v0/nodes", headers=token)
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                nodes = json.load(answer)["data"]["result"]["result"]
        except OSError:
            return set()
        return {node["node_id"] for node in nodes if node["state"] == "ALIVE"}

    def stop(self) -> None:
        """Kill all nodes, the head last, and take down their network."""
        for node in reversed(self.nodes):
            node.end()
        for node in (*self.nodes, *self.killed):
            if node.namespace:
                _ip("netns", "del", node.namespace)
        if self.bridge:
            _ip("link", "del", self.bridge)


@contextlib.contextmanager
def three_nodes(
    folder: Path, cpus: int = 1, workers: int = 3, settings: dict[str, str] | None = None
) -> Iterator[Cluster]:
    """A cluster of a head without CPUs and so many nodes of so many CPUs; all is gone at the end, whatever happens.

    Args:
        folder: gets a log file a node.
        cpus: of a worker node.
        workers: worker nodes.
        settings: environment variables of the nodes and of drivers beside ``SETTINGS``.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # else nothing would be taken down
    cluster = Cluster(folder, SETTINGS | (settings or {}), _bridge() if ISOLATED else None)
    try:
        cluster.add(0)
        for _ in range(workers):
            cluster.add(cpus)
        yield cluster
    finally:
        cluster.stop()
        signal.signal(signal.SIGTERM, before)


def _within(namespace: str | None) -> list[str]:
    return ["ip", "netns", "exec", namespace] if namespace else []


def _bridge() -> str:
    """A bridge with an own /24 of 10.64.0.0/10; its name tells which."""
    for subnet in range(os.getpid(), os.getpid() + 100):
        name = f"dexter{subnet % 16384}"
        made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True)
        if made.returncode == 0:
            _ip("addr", "add", f"{_prefix(name)}.1/24", "dev", name)
            _ip("link", "set", name, "up")
            return name
    raise AssertionError(made.stderr.decode())


def _prefix(bridge: str) -> str:
    subnet = int(bridge.removeprefix("dexter"))
    return f"10.{64 + subnet // 256}.{subnet % 256}"


def _namespace(bridge: str, number: int) -> tuple[str, str]:
    """A network namespace on the bridge, and its address."""
    name, ip = f"{bridge}n{number}", f"{_prefix(bridge)}.{number + 1}"
    _ip("netns", "add", name)
    _ip("link", "add", f"v{os.getpid()}n{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("link", "set", f"v{os.getpid()}n{number}", "master", bridge, "up")
    for of_device in (
        ("addr", "add", f"{ip}/24", "dev", "eth0"),
        ("link", "set", "lo", "up"),
        ("link", "set", "eth0", "up"),
    ):
        _ip("-n", name, *of_device)
    _ip("-n", name, "route", "add", "default", "via", f"{_prefix(bridge)}.1")
    return name, ip


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().strip("\0 ")
    return ""


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait_until(true: Callable[[], bool], pause: float = 0.3) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(pause)
