"""The child that parses: it answers, is held to its limits, is replaced after a breach, and ends with its parent."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dexter_model.digests import cache_dir
from dexter_model.errors import InputError
from dexter_model.reading.sandbox import Sandbox, SandboxedError
from dexter_model.reading.score import load_score

EAT_MEMORY = "kept = []\nwhile True: kept.append(bytearray(1 << 20) * 2)"
MAP_MEMORY = """
import mmap
shared = mmap.mmap(-1, 1 << 30)
for page in range(0, 1 << 30, 4096): shared[page] = 1
import time; time.sleep(30)
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(timeout=20, memory=256 << 20) as sandbox:
        yield sandbox


def refused(sandbox: Sandbox, *call: object, timeout: float | None = None) -> InputError:
    function, *args = call
    with pytest.raises(InputError) as caught:
        sandbox.call(function, *args, timeout=timeout)  # type: ignore[arg-type]
    assert sandbox.call(os.path.basename, "after/a breach") == "a breach"
    return caught.value


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_one_child_answers_a_whole_batch(sandbox: Sandbox) -> None:
    assert sandbox.pid is None
    assert sandbox.call(os.getpid) == sandbox.pid != os.getpid()
    first = sandbox.pid
    assert [sandbox.call(os.path.basename, f"folder/{name}") for name in "abc"] == ["a", "b", "c"]
    assert sandbox.pid == first


def test_input_errors_arrive_as_they_were_raised(sandbox: Sandbox, tmp_path: Path) -> None:
    error = refused(sandbox, load_score, tmp_path / "missing.musicxml")
    assert error.code == "score_unreadable"
    assert error.path == str(tmp_path / "missing.musicxml")
    assert "in check_file" in error.traceback
    assert "in check_file" in copy.deepcopy(error).traceback  # copied as between processes


def test_other_errors_keep_the_childs_traceback(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxedError, match="invalid literal") as caught:
        sandbox.call(int, "seven")
    assert "Traceback" in caught.value.traceback


def test_a_result_that_cannot_be_copied_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxedError):
        sandbox.call(eval, "lambda: 1")
    assert sandbox.call(len, "abc") == 3


@pytest.mark.parametrize("program", [EAT_MEMORY, MAP_MEMORY], ids=["allocated", "mapped"])
def test_eating_memory_is_refused(sandbox: Sandbox, program: str) -> None:
    assert refused(sandbox, exec, program).code == "parser_memory"


@pytest.mark.parametrize("program", ["while True: pass", "import time; time.sleep(60)"])
def test_taking_too_long_is_refused(sandbox: Sandbox, program: str) -> None:
    error = refused(sandbox, exec, program, timeout=0.3)
    assert error.code == "parser_timeout"
    assert "0.3 s" in error.reason


def test_a_dead_child_is_reported_with_its_last_words(sandbox: Sandbox) -> None:
    error = refused(sandbox, exec, "import os; os.write(2, b'first\\nlast words\\n'); os._exit(3)")
    assert error.code == "parser_crash"
    assert "status 3 (last words)" in error.reason
    assert "signal 6" in refused(sandbox, os.abort).reason


def test_a_child_killed_from_outside_is_asked_again(sandbox: Sandbox, tmp_path: Path) -> None:
    victim = "import os, pathlib\nfirst = not os.path.exists({0!r}); pathlib.Path({0!r}).touch()\n"
    assert sandbox.call(exec, (victim + "if first: os.kill(os.getpid(), 9)").format(str(tmp_path / "seen"))) is None
    assert "signal 9" in refused(sandbox, exec, "import os; os.kill(os.getpid(), 9)").reason


def test_a_child_killed_between_calls_is_replaced(sandbox: Sandbox) -> None:
    first = sandbox.call(os.getpid)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert sandbox.call(os.getpid) != first


def test_noise_stays_away_from_the_terminal(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    sandbox.call(exec, "import os, sys; print('out', flush=True); os.write(2, b'err')")
    assert capfd.readouterr() == ("", "")


def test_the_child_shares_the_cache_folder(sandbox: Sandbox) -> None:
    assert sandbox.call(cache_dir) == cache_dir()


def test_a_forked_process_gets_a_child_of_its_own(sandbox: Sandbox) -> None:
    first = sandbox.call(os.getpid)
    fork = os.fork()
    if fork == 0:
        own = 1
        try:
            own = int(sandbox.call(os.getpid) == first)
            sandbox.close()
        finally:
            os._exit(own)
    assert os.waitpid(fork, 0)[1] == 0
    assert sandbox.call(os.getpid) == first


def test_leaving_the_batch_ends_the_child() -> None:
    with Sandbox() as sandbox:
        child = sandbox.call(os.getpid)
    assert gone(child)
    assert sandbox.pid is None


def test_the_child_dies_with_its_parent() -> None:
    program = (
        "import os, time; from dexter_model.reading.sandbox import Sandbox; sandbox = Sandbox();"
        "print(sandbox.call(os.getpid), flush=True); sandbox.call(time.sleep, 600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    deadline = time.monotonic() + 30
    while not gone(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone(child)
