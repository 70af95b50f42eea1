"""`stream-ad run` as a child process, and its figures from /metrics."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

STOP_S = 20.0
_REFUSED = "is registered and not promoted: "  # of the log, before the reasons


@dataclass(frozen=True, slots=True)
class Figures:
    events: int  # judged since the worker's start
    keys: int
    versions: dict[int, str]  # partition -> version in use
    score: float
    threshold: float


class Worker:
    """Starts at once, in a session of its own: Ctrl-C reaches the demo only, which stops the worker in order."""

    def __init__(self, config: Path, log: Path, port: int, environ: Mapping[str, str]) -> None:
        self._log, self._url = log, f"http://127.0.0.1:{port}/metrics"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stream_ad", "run", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )

    def exit_code(self) -> int | None:
        return self._process.poll()

    def log_tail(self, lines: int) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def refusal(self) -> str | None:
        return refusal(self._log.read_text(errors="replace"))

    def figures(self) -> Figures | None:
        """None while the worker does not answer."""
        try:
            with urllib.request.urlopen(self._url, timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        return parsed(text)

    def stop(self) -> None:
        """Lets the worker commit and save; after `STOP_S` kills what is left of its process group."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def refusal(log: str) -> str | None:
    """Why a trained model does not judge, in the words of the log; None where none was refused."""
    lines = [line for line in log.splitlines() if _REFUSED in line]
    return lines[-1].partition(_REFUSED)[2] if lines else None


def parsed(text: str) -> Figures:
    """Figures from the text format of Prometheus; an absent metric counts as zero."""
    total: dict[str, float] = defaultdict(float)
    versions: dict[int, str] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            total[sample.name] += sample.value
            if sample.name == "stream_ad_model" and sample.value == 1:
                versions[int(sample.labels["partition"])] = sample.labels["version"]
    return Figures(
        events=int(total["stream_ad_events_total"]),
        keys=int(total["stream_ad_keys"]),
        versions=versions,
        score=total["stream_ad_score"],
        threshold=total["stream_ad_threshold"],
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
