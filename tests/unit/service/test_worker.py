"""A worker ends in time, also where its main thread is within a call that does not return."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.waiting import WAIT_S

# a call of the C library as a client's: without the interpreter's lock, and no handler runs until it returns
BLOCKED = """
import ctypes
from stream_ad.service.worker import Ending, setup_logging

setup_logging("worker 0")
ending = Ending({limit_s})
ending.follow()
ending.begun, ending.code = {begun}, {code}
print("blocked", flush=True)
ctypes.CDLL(None).usleep({microseconds})
ending.stop.wait({limit_s})
print("obeyed", flush=True)
"""
FOR_EVER = 4_000_000_000


def end(code: int, microseconds: int, limit_s: float, begun: bool = True) -> tuple[int, str]:
    """The exit code of a worker that is asked to stop, and what it says."""
    script = BLOCKED.format(code=code, microseconds=microseconds, limit_s=limit_s, begun=begun)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "blocked\n"
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=WAIT_S)[0]
        return process.returncode, said


@pytest.mark.parametrize("code", [0, 8])
def test_a_blocked_thread_is_no_reason_to_stay(code: int) -> None:
    found, said = end(code, FOR_EVER, limit_s=0.3)
    assert found == code
    assert "not stopped within 0.3 s" in said


def test_who_obeys_is_not_hurried() -> None:
    assert end(8, 1, limit_s=WAIT_S) == (0, "obeyed\n")


def test_who_has_begun_nothing_does_not_stay() -> None:
    assert end(0, FOR_EVER, limit_s=WAIT_S, begun=False) == (0, "")
