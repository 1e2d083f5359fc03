"""Between an S3 client and its server: a proxy that breaks some requests by a plan, and counts.

Bytes pass as they come, ``Host`` included, so that signatures hold.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import urlsplit

FAULTS = {
    "internal error": "500 before the server sees the request",
    "slow down": "503 SlowDown before the server sees the request",
    "dropped": "connection reset before the server sees the request",
    "cut": "connection reset in the middle of the response",
    "stalled": "no answer, until beyond the client's time-out; the server does not see the request",
    "lost": "the server does it, and the response is lost",
    "failed late": "the server does it, and the response says 500",
}
WRITES = ("PUT", "POST", "DELETE")
Plan = Callable[[str, str], str | None]  # method and path of a request to the fault it meets


def at_random(seed: int, rate: float, *faults: str) -> Plan:
    """Each request meets one of the faults with this probability."""
    rng = random.Random(seed)
    return lambda _method, _path: rng.choice(faults) if rng.random() < rate else None


def first(fault: str, method: str, path: str, *, skipped: int = 0) -> Plan:
    """The first request of a method whose path matches a regular expression, after ``skipped``, meets the fault."""
    seen = count()

    def plan(asked: str, where: str) -> str | None:
        return fault if asked == method and re.search(path, where) and next(seen) == skipped else None

    return plan


class FaultProxy(ThreadingHTTPServer):
    """A proxy that listens on a free port of this machine.

    Attributes:
        plan: what befalls the next requests; None lets all pass.
        requests: how many came, by method and kind of object (the folder of the repository they name).
        injected: how many faults befell requests.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, endpoint: str, stall: float) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.upstream = urlsplit(endpoint).netloc
        self.stall = stall
        self.over = threading.Event()
        self.plan: Plan | None = None
        self.requests: Counter[tuple[str, str]] = Counter()
        self.injected: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fate(self, method: str, path: str) -> str | None:
        """Count a request and draw its fault; a response that nobody waits for cannot be cut."""
        kind = re.search(r"/(refs|snapshots|manifests|chunks|transactions|config\.yaml)", path)
        with self._lock:
            self.requests[method, kind[1] if kind else ""] += 1
            fault = self.plan(method, path) if self.plan else None
            if fault:
                self.injected[fault] += 1
        return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are nothing to tell."""


@contextmanager
def faults(endpoint: str, stall: float = 3.0) -> Iterator[FaultProxy]:
    """A proxy in threads of this process, before the server at ``endpoint``.

    Args:
        endpoint: URL of the server.
        stall: seconds that a stalled request waits before its connection closes, if the proxy does not end first.
    """
    proxy = FaultProxy(endpoint, stall)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.over.set()
        proxy.shutdown()
        proxy.server_close()


class _Passing(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def _pass(self) -> None:
        body = self._body()
        fault = self.server.fate(self.command, self.path)
        if fault == "stalled":
            self.server.over.wait(self.server.stall)
        if fault in ("stalled", "dropped"):
            return self._reset()
        if fault in ("internal error", "slow down"):
            return self._refuse(fault)
        status, headers, answer = self._ask(body)
        if fault == "lost":
            return self._reset()
        if fault == "failed late":
            return self._refuse("internal error")
        self._answer(status, headers, answer, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while True:
            line = self.rfile.readline()
            size = int(line.partition(b";")[0], 16)
            body += line + self.rfile.read(size + 2)
            if not size:
                return body

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=120)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        told = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "keep-alive"):
                self.send_header(name, value)
        if "content-length" not in told and status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut:
            self.wfile.write(body[: len(body) // 2])
            return self._reset()
        self.wfile.write(body)

    def _refuse(self, fault: str) -> None:
        status, code = (503, "SlowDown") if fault == "slow down" else (500, "InternalError")
        told = f"<Error><Code>{code}</Code><Message>injected</Message></Error>" if self.command != "HEAD" else ""
        self._answer(status, [("Content-Type", "application/xml")], told.encode())

    def _reset(self) -> None:
        """End the connection without a good-bye."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Keep silent."""
