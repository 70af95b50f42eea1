"""The configuration of the demo: the file that `stream-ad init` writes, and the environment around it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stream_ad.config.environment import ENV_PREFIX
from stream_ad.errors import StreamAdError
from stream_ad.service.stop import Stop

MAX_ROWS = 60_000  # that the first model learns from: more take longer than a demo should
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """What the worker runs with."""

    command: str  # that wrote the file
    file: str  # its text
    beside: Mapping[str, str]  # variables of the environment


def needed(brokers: str, redis_url: str, port: int, min_events: int) -> dict[str, str]:
    """What servers, length and anomalies of a demo need beside the file, as variables of the environment."""
    keys = {
        "KAFKA__BROKERS": brokers,
        "SINK__DELIVERY": "at_least_once",  # the embedded broker knows no transactions
        "SINK__CREATE_TOPICS": "false",
        "REDIS__URL": redis_url,
        "SERVER__PORT": str(port),
        "TRAIN__MIN_EVENTS": str(min_events),
        "TRAIN__MAX_ROWS": str(MAX_ROWS),
    }
    return {ENV_PREFIX + key: value for key, value in keys.items()}


def environment(beside: Mapping[str, str]) -> dict[str, str]:
    """That of this process, with no other variables of ours: they could lead to somebody's own servers."""
    return {name: text for name, text in os.environ.items() if not name.startswith(ENV_PREFIX)} | dict(beside)


def propose(
    topic: str, preset: str, config: Path, beside: Mapping[str, str], stop: Stop
) -> tuple[Settings, str] | None:
    """Lets `stream-ad init` look at the topic and write `config`; returns also what it says. None when interrupted."""
    command = ["init", "--topic", topic, "--preset", preset]
    process = subprocess.Popen(
        [sys.executable, "-m", "stream_ad", *command, "--output", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(beside) | {"COLUMNS": "500"},  # the demo's console breaks lines itself
        start_new_session=True,
    )
    with process:
        while process.poll() is None:
            if stop.wait(_LOOK_S):
                process.kill()
                return None
        assert process.stdout is not None
        said = process.stdout.read().replace(str(config), config.name)
    if process.returncode:
        raise StreamAdError(f"demo: stream-ad init ended with code {process.returncode}:\n{said}")
    return Settings(" ".join(["stream-ad", *command]), config.read_text(encoding="utf-8"), beside), said.rstrip()
