"""The real `stream-ad demo`: from nothing to a report, and out of it at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.waiting import WAIT_S

MARK = "STREAM_AD_DEMO_TEST"


class Demo:
    """A run of the command, its output line by line, and the processes that descend from it."""

    def __init__(self, *options: str) -> None:
        self._mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stream_ad", "demo", "--plain", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: self._mark},
            start_new_session=True,
        )
        self.said: list[str] = []
        self._news = threading.Condition()
        assert self.process.stderr is not None
        self._listener = threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True)
        self._listener.start()

    def _listen(self, stream: Any) -> None:
        for line in stream:
            with self._news:
                self.said.append(line)
                self._news.notify_all()

    def until(self, text: str) -> None:
        with self._news:
            heard = self._news.wait_for(lambda: any(text in line for line in self.said), WAIT_S)
        assert heard, f"{text!r} was not said:\n" + "".join(self.said)

    def end(self) -> str:
        """Its standard output, when it is over."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        self.process.wait(WAIT_S)
        self._listener.join(WAIT_S)
        return out

    def left_over(self) -> list[str]:
        """Commands of processes that still run."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self._mark}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # gone, or somebody else's
        return found


@pytest.fixture
def begun() -> Iterator[list[Demo]]:
    demos: list[Demo] = []
    yield demos
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(WAIT_S)


def test_a_model_is_trained_and_the_report_tells(begun: list[Demo], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    demo = Demo("--json", "--scenario", "sensors", "--report", str(report))
    begun.append(demo)
    figures = orjson.loads(demo.end())
    said = "".join(demo.said)
    assert demo.process.returncode == 0, said
    assert demo.left_over() == []
    assert figures["model"] != "statistical"
    assert figures["events"] == 80_000 + figures["live_events"]
    injected, found = counts(figures)
    assert injected >= 10
    assert found / injected > 10 * figures["base_rate"], said
    injected, found = counts(figures, "silence")  # which event time decides
    assert injected >= 2
    assert found >= 0.8 * injected, said
    text = report.read_text(encoding="utf-8")
    assert "<svg" in text
    assert figures["model"] in text
    for line in ("stream-ad init --topic sensors --preset sensors", "false_alarm_rate = 0.001  # the preset's"):
        assert escape(line) in text
    assert "$ stream-ad init --topic sensors --preset sensors\nwrote stream_ad.toml from 2,000 records" in said


def counts(figures: dict[str, Any], kind: str | None = None) -> tuple[int, int]:
    """Injected and found episodes, of one kind or of all, whichever model judged them."""
    phases = [figures["statistical"], figures["trained"]]
    held = phases if kind is None else [phase["kinds"].get(kind, {"injected": 0, "found": 0}) for phase in phases]
    return sum(one["injected"] for one in held), sum(one["found"] for one in held)


@pytest.mark.parametrize(
    ("moment", "number"),
    [("embedded broker", signal.SIGINT), ("the worker starts", signal.SIGTERM), ("live,", signal.SIGINT)],
)
def test_it_ends_cleanly_at_any_moment(begun: list[Demo], tmp_path: Path, moment: str, number: signal.Signals) -> None:
    report = tmp_path / "report.html"
    demo = Demo("--json", "--report", str(report))
    begun.append(demo)
    demo.until(moment)
    for _ in range(2):  # Ctrl-C reaches the whole process group, and the impatient press it twice
        os.killpg(demo.process.pid, number)
    out = demo.end()
    said = "".join(demo.said)
    assert demo.process.returncode == 130, said
    assert "Traceback" not in said
    assert demo.left_over() == []
    lived = moment == "live,"
    assert report.exists() == lived
    assert bool(out) == lived


def test_the_report_needs_a_folder(tmp_path: Path) -> None:
    demo = Demo("--report", str(tmp_path / "nowhere" / "report.html"))
    demo.end()
    assert demo.process.returncode == 2
    assert "--report" in "".join(demo.said)
