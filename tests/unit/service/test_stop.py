from __future__ import annotations

import subprocess
import sys

import pytest

from stream_ad.service.stop import Stop

# a trace function is called between any two lines, as a signal handler may be
INTERRUPTED = """
import sys
from {module} import {kind} as Stop

stop = Stop()

def handler(frame, event, argument):
    if event == "line":
        stop.{ask}()
    return handler

sys.settrace(handler)
stop.wait(0.01)
stop.{ask}()
stop.wait(0.01)
sys.settrace(None)
print("went on")
"""


def interrupted(timeout_s: float, **names: str) -> str:
    script = INTERRUPTED.format(**names)
    return subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=timeout_s, check=True
    ).stdout


def test_a_handler_may_ask_between_any_two_lines() -> None:
    assert interrupted(60, module="stream_ad.service.stop", kind="Stop", ask="ask") == "went on\n"


def test_an_event_would_hang() -> None:
    """So the handler does come at the moments that matter."""
    with pytest.raises(subprocess.TimeoutExpired):
        interrupted(3, module="threading", kind="Event", ask="set")


def test_a_wait_ends_when_it_is_asked_and_says_so() -> None:
    stop = Stop()
    assert not stop.wait(0.001)
    assert not stop.asked()
    stop.ask()
    stop.ask()
    assert stop.wait(60)
    assert stop.asked()
