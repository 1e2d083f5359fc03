"""Untrusted files are parsed in a child process that stays for a batch, held to a memory and a time limit.

A parser written in Python or C can be made to eat memory or time by a file of a few kilobytes, and no check before
parsing foresees every way. So the parsing happens in a child: the parent looks at its resident memory while it waits,
ends it on a breach, and starts a fresh one at the next call. Starting a child a file would be simpler and would pay
partitura's import (seconds) each time. The child runs as the same user and sees the same files: it guards against
accidents and hostile *data*, not against hostile code.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import psutil

from dexter_model.errors import InputError

Result = TypeVar("Result")

MEMORY_BYTES = 1 << 30
TIMEOUT_SEC = 120.0
PATIENCE = 4  # seconds of the clock allowed for each second of processor time
POLL_SEC = 0.05
_CHILD = f"import sys; from {__name__} import serve; serve(*map(int, sys.argv[1:]))"
LOG_BYTES = 256 << 20  # the child writes no file larger than this, its own noise included


class SandboxedError(RuntimeError):
    """A function failed in the child with an error of its own; ``traceback`` is the child's traceback as text."""

    def __init__(self, trace: str) -> None:
        super().__init__(trace.strip().rpartition("\n")[2])
        self.traceback = trace

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.traceback}"

    def __reduce__(self) -> tuple[type[SandboxedError], tuple[str]]:
        return type(self), (self.traceback,)


class Sandbox:
    """A child process for parsing, started at the first call and again after each breach.

    One thread uses a sandbox at a time. A forked process that inherits one gets a child of its own.

    Args:
        timeout: seconds of processor time a call may take unless the call says otherwise. A busy machine must not make
            a good file look hostile; a child that waits instead of working gets ``PATIENCE`` times as long.
        memory: resident bytes the child may hold.
    """

    _connection: Connection
    _log: IO[bytes]

    def __init__(self, timeout: float = TIMEOUT_SEC, memory: int = MEMORY_BYTES) -> None:
        self.timeout = timeout
        self.memory = memory
        self._owner = 0
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        return self._child.pid if self._child and self._owner == os.getpid() else None

    def call(
        self, function: Callable[..., Result], *args: object, timeout: float | None = None, **options: object
    ) -> Result:
        """Run ``function(*args, **options)`` in the child.

        Args:
            function: a module's function; it is sent by name, its arguments and result are copied.
            args: the arguments; the first string or path among them names the file in errors.
            timeout: seconds of processor time, ``self.timeout`` when None.
            options: keyword arguments, e.g. ``unfold=True``.

        Raises:
            InputError: the function's own, with the child's traceback, or ``parser_memory``, ``parser_timeout``,
                ``parser_crash`` when the child breached a limit, ended, or was killed twice.
            SandboxedError: any other error of the function.
        """
        limit = self.timeout if timeout is None else timeout
        path = next((argument for argument in args if isinstance(argument, str | Path)), function.__qualname__)
        request = (function.__module__, function.__qualname__, args, options, limit)
        outcome, value = self._ask(request, path, limit)
        if outcome == "killed":  # by the kernel short of memory, by a person, or by what the file does: that recurs
            outcome, value = self._ask(request, path, limit)
        if outcome == "result":
            return value
        if outcome == "memory":
            self.close()
            raise self._too_large(path)
        raise value

    def _ask(self, request: tuple[object, ...], path: object, limit: float) -> tuple[str, Any]:
        """The child's outcome and value; ``killed`` with an error when it died by a signal."""
        child = self._started()
        try:
            self._connection.send(request)
            self._wait(child, path, limit)
            return self._connection.recv()
        except (EOFError, OSError):
            error = self._crash(child, path)
            return "killed" if child.returncode < 0 else "error", error
        except BaseException:  # also an interrupt: an answer that comes later must not be taken for the next call's
            self.close()
            raise

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is None:
            return
        self._connection.close()
        self._log.close()
        if self._owner == os.getpid():
            self._child.kill()
            self._child.wait()
        self._child = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child and (self._owner != os.getpid() or self._child.poll() is not None or self._connection.poll()):
            self.close()  # another process's, or dead: an idle child has nothing to say but that it ended
        if self._child is None:
            ours, theirs = socket.socketpair()
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the child)
            self._child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(theirs.fileno()), str(self.memory), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=_child_environment(),
            )
            theirs.close()
            self._connection = Connection(ours.detach())
            self._owner = os.getpid()
        self._log.seek(0)
        self._log.truncate()
        return self._child

    def _wait(self, child: subprocess.Popen[bytes], path: object, limit: float) -> None:
        begun, deadline = _used(child.pid)[1], time.monotonic() + PATIENCE * limit
        while not self._connection.poll(POLL_SEC):
            if child.poll() is not None:
                raise EOFError
            resident, busy = _used(child.pid)
            if resident > self.memory:
                raise self._too_large(path)
            if busy - begun > limit or time.monotonic() > deadline:
                remedy = "Leave the file out, or allow more time if you trust it"
                raise InputError(path, f"reading it took more than {limit:g} s", remedy, "parser_timeout")

    def _too_large(self, path: object) -> InputError:
        reason = f"reading it needs more than {self.memory / (1 << 20):,.0f} MiB of memory"
        return InputError(path, reason, "Leave the file out: no score or performance needs as much", "parser_memory")

    def _crash(self, child: subprocess.Popen[bytes], path: object) -> InputError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(1)  # its end of the connection closes a moment before it ends
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 300))
        last_line = self._log.read().decode(errors="replace").strip().rpartition("\n")[2]
        last_words = "".join(filter(str.isprintable, last_line))
        self.close()
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"status {child.returncode}"
        reason = f"the process that read it ended with {how}" + (f" ({last_words})" if last_words else "")
        return InputError(path, reason, "Leave the file out, or save it again with another program", "parser_crash")


def _child_environment() -> dict[str, str]:
    # The child finds the modules this process finds; linear algebra in threads would only cost memory there.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _used(pid: int) -> tuple[int, float]:
    """Resident bytes and seconds of processor time of a process."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return process.memory_info().rss, times.user + times.system
    except psutil.Error:
        return 0, 0.0  # it ended just now, which the next look at the connection tells


def _run(module: str, qualname: str, args: tuple[object, ...], options: dict[str, object]) -> tuple[str, object]:
    try:
        function: Any = importlib.import_module(module)
        for name in qualname.split("."):
            function = getattr(function, name)
        return "result", function(*args, **options)
    except InputError as error:
        error.traceback = traceback.format_exc()
        return "error", error
    except MemoryError:
        return "memory", None
    except Exception:
        return "error", SandboxedError(traceback.format_exc())


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def serve(descriptor: int, memory: int, parent: int) -> None:
    """The child's life: answer the calls that come over a socket until its other end closes.

    Args:
        descriptor: the socket's file descriptor.
        memory: bytes of data this process may allocate.
        parent: process id; this process ends when that one is no longer its parent.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))  # holds between two looks of the parent
    resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_BYTES, LOG_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process when the person presses Ctrl-C
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            *call, limit = connection.recv()
            # A parser that holds the interpreter lock starves the thread above: the kernel's timer ends an orphan then.
            signal.setitimer(signal.ITIMER_REAL, PATIENCE * limit + 5)
            outcome = _run(*call)
            signal.setitimer(signal.ITIMER_REAL, 0)
            try:
                connection.send(outcome)
            except Exception:  # a result that cannot be copied
                connection.send(("error", SandboxedError(traceback.format_exc())))
