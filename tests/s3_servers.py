"""Real S3 protocol servers for tests: moto in a thread, and Ceph's RADOS gateway in processes of its own.

moto needs no root and starts in a second, but takes any credentials; Ceph refuses wrong ones, as Amazon does. Both
enforce conditional writes. Fixtures in ``conftest.py``: ``moto_bucket`` and ``s3_bucket`` (moto, and Ceph where it is
installed) give ``s3://`` URLs of empty buckets with ``AWS_*`` set.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class S3Server:
    """A server that listens: its address and a user that may do everything."""

    endpoint: str
    access_key: str = "test-access-key"
    secret_key: str = "test-secret-key"
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """The standard AWS variables of a process that uses it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @contextmanager
    def used(self) -> Iterator[None]:
        """This process, and those it starts, use the server."""
        with mock.patch.dict(os.environ, self.environment):
            for other in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
                os.environ.pop(other, None)
            yield

    def client(self) -> Any:
        """A plain boto3 client of it."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def new_bucket(self) -> str:
        """URL of an empty bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"


@contextmanager
def moto(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """A moto server in a thread of this process; other processes may use it too."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


CEPH = all(map(shutil.which, ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph", "setpriv")))


@contextmanager
def ceph(memory: int = 1 << 30) -> Iterator[S3Server]:
    """A Ceph RADOS gateway with one monitor and one store, in processes of its own; what it holds is in memory.

    They end with the thread that asked for them, however it ends.

    Args:
        memory: bytes that it may hold.
    """
    with tempfile.TemporaryDirectory(prefix="ceph") as folder:  # sockets want a short path
        yield from _ceph(Path(folder), memory)


def _ceph(folder: Path, memory: int) -> Iterator[S3Server]:
    ports = _free_ports(3)
    server = S3Server(f"http://127.0.0.1:{ports[2]}", "LABACCESSKEY", "a-secret-that-nobody-guesses", "default")
    fsid, disk = str(uuid.uuid4()), str(uuid.uuid4())
    (folder / "ceph.conf").write_text(_ceph_conf(folder, fsid, ports, memory))
    running: list[subprocess.Popen[bytes]] = []

    def call(*command: str) -> None:
        subprocess.run([*command, "-c", str(folder / "ceph.conf")], check=True, capture_output=True, timeout=120)

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("wb") as log:
            dies_with_us = ("setpriv", "--pdeathsig", "KILL")
            told = [*dies_with_us, *command, "-f", "-c", str(folder / "ceph.conf")]
            running.append(subprocess.Popen(told, stdout=log, stderr=log))

    try:
        monmap = str(folder / "monmap")
        listens = f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]"
        made = ("monmaptool", "--create", "--addv", "a", listens, "--fsid", fsid, monmap)
        subprocess.run(made, check=True, capture_output=True)
        call("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        start("ceph-mon", "-i", "a")
        call("ceph", "osd", "new", disk)
        (folder / "osd").mkdir()
        call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        start("ceph-osd", "-i", "0")
        call("ceph", "osd", "crush", "add", "osd.0", "1.0", "host=here", "root=default")
        call(
            *("radosgw-admin", "user", "create", "--uid=lab", "--display-name=lab"),
            *(f"--access-key={server.access_key}", f"--secret-key={server.secret_key}"),
        )
        start("radosgw", "-n", "client.rgw")
        _wait_for(ports[2], running[-1])
        yield server
    finally:
        for process in reversed(running):
            process.kill()
            process.wait()


def _ceph_conf(folder: Path, fsid: str, ports: list[int], memory: int) -> str:
    lines = {
        "fsid": fsid,
        "mon_host": f"[v2:127.0.0.1:{ports[0]},v1:127.0.0.1:{ports[1]}]",
        "mon_data": folder / "mon",
        "osd_data": folder / "osd",
        "osd_objectstore": "memstore",
        "memstore_device_bytes": memory,
        "admin_socket": folder / "$name.asok",
        "run_dir": folder,
        "log_file": folder / "$name.log",
        "public_addr": "127.0.0.1",
        "auth_cluster_required": "none",
        "auth_service_required": "none",
        "auth_client_required": "none",
        "osd_pool_default_size": 1,
        "osd_pool_default_min_size": 1,
        "osd_pool_default_pg_num": 4,
        "osd_crush_chooseleaf_type": 0,
        "mon_allow_pool_size_one": "true",
        "rgw_dynamic_resharding": "false",
        "ms_mon_client_mode": "crc",  # its own default needs keys
    }
    told = "\n".join(f"{name} = {value}" for name, value in lines.items())
    return f"[global]\n{told}\n[client.rgw]\nrgw_frontends = beast endpoint=127.0.0.1:{ports[2]} tcp_nodelay=1\n"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens at a port."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the server ended while it started"
        time.sleep(0.2)
    raise TimeoutError(f"nobody listens at port {port}")
