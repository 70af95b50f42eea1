from __future__ import annotations

import subprocess
import sys

from stream_ad.service.stop import Stop
from tests.support.waiting import WAIT_S

# a trace function is called between any two lines, as a signal handler may be
INTERRUPTED = """
import sys
from {module} import {kind} as Stop

stop = Stop()

def handler(frame, event, argument):
    if event == "line":
        {asked}
        stop.{ask}()
    return handler

sys.settrace(handler)
stop.wait(0.01)
stop.{ask}()
stop.wait(0.01)
sys.settrace(None)
print("went on")
"""


# `set` takes a lock that no thread takes twice, and here is one thread
HELD = """if stop._cond._lock.locked():
            sys.exit("waits for itself")"""


def interrupted(module: str, kind: str, ask: str, asked: str = "") -> tuple[int, str]:
    """The exit code and what is said."""
    script = INTERRUPTED.format(module=module, kind=kind, ask=ask, asked=asked)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S)
    return done.returncode, done.stdout + done.stderr


def test_a_handler_may_ask_between_any_two_lines() -> None:
    assert interrupted("stream_ad.service.stop", "Stop", "ask") == (0, "went on\n")


def test_an_event_would_hang() -> None:
    """So the handler does come at the moments that matter."""
    assert interrupted("threading", "Event", "set", HELD) == (1, "waits for itself\n")


def test_a_wait_ends_when_it_is_asked_and_says_so() -> None:
    stop = Stop()
    assert not stop.wait(0.001)
    assert not stop.asked()
    stop.ask()
    stop.ask()
    assert stop.wait(WAIT_S)
    assert stop.asked()
