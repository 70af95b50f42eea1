"""Runs the program as a user would: as processes, on a real broker and a real Redis."""

from __future__ import annotations

import csv
import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson
import pytest
from confluent_kafka.admin import AdminClient

from stream_ad.config import Kafka
from stream_ad.errors import Unreachable
from stream_ad.io.kafka.admin import committed_offsets
from tests.support.reading import read_committed
from tests.support.waiting import WAIT_S, pause, until

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
DOMAINS = Path(__file__).resolve().parents[1] / "data" / "domains"


def stretch(
    file: str, first: int, rows: int, target: Path, drop: Sequence[str] = ("label", "scenario", "changepoint")
) -> Path:
    """Rows of a labelled stream from `first` on, without its labels. Skips where the data is absent."""
    source = DATA / file
    if not source.exists():
        pytest.skip(f"{file} is not here: the labelled streams are not part of the repository")
    with gzip.open(source, "rt", newline="") as read, target.open("w", newline="") as write:
        reader = csv.DictReader(read)
        assert reader.fieldnames is not None
        writer = csv.DictWriter(write, [name for name in reader.fieldnames if name not in drop], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(islice(reader, first, first + rows))
    return target


def halves(file: Path, rows: int) -> tuple[Path, Path]:
    """Two CSV files beside it that hold its rows, each with its header."""
    header, *lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == rows
    made = file.with_suffix(".first.csv"), file.with_suffix(".second.csv")
    for path, part in zip(made, (lines[: rows // 2], lines[rows // 2 :]), strict=True):
        path.write_text(header + "".join(part))
    return made


@dataclass
class Program:
    """`stream-ad` with the configuration of one pipeline."""

    config: Path
    pipeline: str
    brokers: str

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "stream_ad", *arguments, "--config", str(self.config)]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr if code else done.stdout

    @contextmanager
    def running(
        self, *arguments: str, log: Path | None = None, codes: Sequence[int] = (0,)
    ) -> Iterator[subprocess.Popen[str]]:
        """A process that is asked to stop, and has to obey, at the end of the block; `log` can be read meanwhile."""
        with log.open("w") if log is not None else nullcontext(subprocess.PIPE) as out:
            process = subprocess.Popen(
                self.command(*arguments),
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=WAIT_S)
            assert process.returncode in codes, said
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                print(process.communicate()[0])

    @contextmanager
    def feeding(self, file: Path, topic: str, partitions: int, rate: int) -> Iterator[None]:
        """Creates the topic and fills it at `rate` records/s; the block ends when all is written."""
        process = subprocess.Popen(
            self.command(
                "produce", "--input", str(file), "--topic", topic, "--partitions", str(partitions), "--rate", str(rate)
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            client = AdminClient({"bootstrap.servers": self.brokers})
            while topic not in client.list_topics(timeout=10).topics:
                assert process.poll() is None, process.communicate()[0]
                pause()
            yield
            said, _ = process.communicate(timeout=WAIT_S)
            assert process.returncode == 0, said
        finally:
            process.kill()


def write_config(
    target: Path, domain: str, pipeline: str, topic: str, brokers: str, redis: str, extra: str = ""
) -> Program:
    head = f'pipeline = "{pipeline}"\n'
    tail = f'\n[kafka]\nbrokers = "{brokers}"\n'
    tail += f'\n[source]\ntopic = "{topic}"\n\n[redis]\nurl = "{redis}"\n'
    tail += 'snapshot_interval = "300ms"\n\n[train]\nauto = false\nepochs = 4\n\n[server]\nport = 0\n'
    target.write_text(head + (DOMAINS / f"{domain}.toml").read_text() + tail + extra)
    return Program(target, pipeline, brokers)


def published(brokers: str, topic: str) -> list[bytes]:
    """All committed values of a topic, sorted: partitions have no order among them."""
    return sorted(message.value() for message in read_committed(brokers, topic))


def committed(brokers: str, group: str, topic: str) -> int:
    """Sum of the group's committed offsets; 0 while they are hidden by a transaction."""
    try:
        found = committed_offsets(Kafka(brokers=brokers), group, topic)
    except Unreachable:
        return 0
    return sum(offset or 0 for offset in found.values())


def wait_committed(brokers: str, group: str, topic: str, least: int, process: subprocess.Popen[str]) -> None:
    def done() -> bool:
        assert process.poll() is None, process.communicate()[0]
        return committed(brokers, group, topic) >= least

    until(done, state=lambda: f"{committed(brokers, group, topic)} of {least} offsets are committed")


def kill_worker(run: subprocess.Popen[str]) -> None:
    """kill -9 of one worker of a supervisor, once it has one."""

    def killed() -> bool:
        assert run.poll() is None, run.communicate()[0]
        for found in workers_of(run.pid):
            with suppress(ProcessLookupError):  # one that was killed before
                os.kill(found, signal.SIGKILL)
                return True
        return False

    until(killed, state=lambda: "no worker is started")


def workers_of(supervisor: int) -> list[int]:
    """They are forked by a server that the supervisor has started."""
    return [worker for server in children(supervisor, b"forkserver") for worker in children(server, b"")]


def children(pid: int, word: bytes) -> list[int]:
    """The processes that `pid` has started, with this word in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == pid and word in command:
            found.append(int(folder.name))
    return found


def ids(alerts: Sequence[bytes]) -> list[str]:
    return [orjson.loads(alert)["id"] for alert in alerts]


def plain(alerts: Sequence[bytes], topic: str) -> list[bytes]:
    """Alerts without what names their topic and pipeline."""
    kept = ("key", "phase", "rule", "event_time", "score", "threshold", "p_value", "severity", "model", "contributors")
    found = []
    for alert in alerts:
        data = orjson.loads(alert)
        assert data["position"].pop("topic") == topic
        found.append(orjson.dumps({"position": data["position"], **{name: data[name] for name in kept}}))
    return sorted(found)


def flags_by_model(scores: Path) -> dict[str, list[bool]]:
    """The flags of a scores file in its order, by the model that judged."""
    found: dict[str, list[bool]] = {}
    with scores.open(newline="") as read:
        for row in csv.DictReader(read):
            found.setdefault(row["model"], []).append(row["flag"] == "true")
    return found


def clean_lines(file: Path, rows: int) -> list[bytes]:
    """The first rows of a CSV file as JSON lines: whole numbers and fractions as numbers, the rest as text."""

    def cell(text: str) -> object:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
        return text or None

    with file.open(newline="") as read:
        reader = csv.DictReader(read)
        return [orjson.dumps({name: cell(text) for name, text in row.items()}) for row in islice(reader, rows)]
