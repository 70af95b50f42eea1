"""A worker ends in time, also where its main thread is within a call that does not return."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

# a call of the C library as a client's: without the interpreter's lock, and no handler runs until it returns
BLOCKED = """
import ctypes
from stream_ad.service.worker import Ending, setup_logging

setup_logging("worker 0")
ending = Ending(0.3)
ending.follow()
ending.begun, ending.code = {begun}, {code}
print("blocked", flush=True)
ctypes.CDLL(None).usleep({microseconds})
ending.stop.wait(60)
print("obeyed", flush=True)
"""


def end(code: int, microseconds: int, begun: bool = True) -> tuple[int, str, float]:
    script = BLOCKED.format(code=code, microseconds=microseconds, begun=begun)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "blocked\n"
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        said = process.communicate(timeout=50)[0]
        return process.returncode, said, time.monotonic() - begun


@pytest.mark.parametrize("code", [0, 8])
def test_a_blocked_thread_is_no_reason_to_stay(code: int) -> None:
    found, said, seconds = end(code, 55_000_000)
    assert found == code
    assert "not stopped within 0.3 s" in said
    assert seconds < 40


def test_who_obeys_is_not_hurried() -> None:
    assert end(8, 1)[:2] == (0, "obeyed\n")


def test_who_has_begun_nothing_does_not_stay() -> None:
    assert end(0, 55_000_000, begun=False)[:2] == (0, "")
