"""A pipeline that is disturbed while it runs, its servers killed or frozen, and what it should have said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import numpy as np
import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from stream_ad.config import Config, load
from stream_ad.errors import ConnectionFailed
from stream_ad.io.files import FileSource, Layout, rows
from stream_ad.io.kafka.admin import committed_offsets
from stream_ad.io.partition import partition_of
from stream_ad.jobs.backtest import replayed
from tests.support.pipelines import workers_of
from tests.support.reading import read_committed
from tests.support.servers import KafkaBroker, RedisServer, free_port
from tests.support.waiting import WAIT_S, until

PARTITIONS = 4
ANSWER_S = 30.0  # of a process that lives and is slow
WORKERS = 3  # of a run, at most: each has a port, next to the one before
CONFIG = """
pipeline = "{topic}-pipeline"

[kafka]
brokers = "{brokers}"

[source]
topic = "{topic}"

[redis]
url = "{redis}"
snapshot_interval = "200ms"
wait = "500ms"

[record]
key = "k"
timestamp = "t"
timestamp_format = "ms"

[window]
rows = 4
max_keys = 1000

[features.numeric]
a = ["raw", "zscore"]

[threshold]
false_alarm_rate = 1e-3

[train]
auto = false

[server]
port = {port}

[run]
stop = "{stop}"
stalled = "{stalled}"
"""


@dataclass
class Servers:
    broker: KafkaBroker
    redis: RedisServer


@contextmanager
def servers() -> Iterator[Servers]:
    broker, redis = KafkaBroker(), RedisServer()
    try:
        broker.start()
        redis.start()
        yield Servers(broker, redis)
    finally:
        broker.remove()
        redis.remove()


class Living:
    """One topic, its pipeline, and the process that runs it.

    `stop` and `stalled` are long, so that a slow machine is not taken for a stuck one; tests of them set shorter ones.
    """

    def __init__(
        self, on: Servers, folder: Path, topic: str, events: int = 8000, stop: str = "120s", stalled: str = "60s"
    ) -> None:
        self.topic, self.brokers = topic, on.broker.bootstrap
        self.port = free_port(WORKERS - 1)
        self.folder = folder
        self.file = folder / "events.jsonl"
        self.file.write_bytes(b"".join(_lines(events)))
        self.config_file = folder / "stream_ad.toml"
        text = CONFIG.format(
            topic=topic, brokers=self.brokers, redis=on.redis.url, port=self.port, stop=stop, stalled=stalled
        )
        self.config_file.write_text(text)
        self.config: Config = load(self.config_file, {})
        self._rows = [
            (partition_of(row.key, number, PARTITIONS), row.key, row.value)
            for number, row in enumerate(rows(self.file, Layout.of(self.config.record)))
        ]
        admin = AdminClient({"bootstrap.servers": self.brokers})
        admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result(30)
        self.events = len(self._rows)
        self.fed = 0
        self.share = 0.0

    def again(self) -> Living:
        """The same pipeline, to be run a second time beside itself."""
        twin = copy(self)
        twin.folder = self.folder / "again"
        twin.folder.mkdir()
        twin.port = free_port(WORKERS - 1)
        twin.config_file = twin.folder / "stream_ad.toml"
        twin.config_file.write_text(self.config_file.read_text().replace(f"port = {self.port}", f"port = {twin.port}"))
        return twin

    def feed(self, until: float = 1.0) -> None:
        """Puts this share of the events into the topic."""
        producer = Producer({"bootstrap.servers": self.brokers, "linger.ms": 5, "enable.idempotence": True})
        upto = int(self.events * until)
        for partition, key, value in self._rows[self.fed : upto]:
            producer.produce(self.topic, value, key, partition)
            producer.poll(0)
        assert producer.flush(30) == 0
        self.fed, self.share = upto, until

    def committed(self) -> int:
        """Sum of the offsets that the group has committed; 0 while its coordinator does not answer."""
        try:
            found = committed_offsets(self.config.kafka, self.config.pipeline, self.topic)
        except ConnectionFailed:
            return 0
        return sum(offset or 0 for offset in found.values())

    def expected(self) -> list[bytes]:
        """The alerts of a run that nobody disturbs."""
        told = self.folder / "expected.jsonl"
        replayed(
            self.config,
            FileSource(self.file, self.config, PARTITIONS),
            told,
            None,
            None,
            "statistical",
            swaps=False,
            progress=lambda events: None,
        )
        found = sorted(told.read_bytes().splitlines())
        assert found
        return found

    def told(self) -> list[bytes]:
        """What was published, all of it committed."""
        return sorted(row.value() for row in read_committed(self.brokers, self.config.sink.alerts))

    def start(self, *arguments: str, launcher: Sequence[str] = ("-m", "stream_ad")) -> Process:
        command = [sys.executable, *launcher, "run", "--config", str(self.config_file), *arguments]
        return Process(command, self.folder / "run.log", self.port)

    @contextmanager
    def running(self, *arguments: str, launcher: Sequence[str] = ("-m", "stream_ad")) -> Iterator[Process]:
        process = self.start(*arguments, launcher=launcher)
        try:
            yield process
        finally:
            process.kill()


class Process:
    """`stream-ad run` and what it says of itself."""

    def __init__(self, command: Sequence[str], log: Path, port: int) -> None:
        self._log, self._url = log, f"http://127.0.0.1:{port}"
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def metrics(self) -> dict[str, float]:
        """Sums over all labels but the partition; `name` and `name{partition}`."""
        found: dict[str, float] = {}
        try:
            with urlopen(f"{self._url}/metrics", timeout=ANSWER_S) as answer:
                text = answer.read().decode()
        except (URLError, OSError):
            return {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                partition = sample.labels.get("partition")
                name = sample.name + (f"{{{partition}}}" if partition is not None else "")
                found[name] = found.get(name, 0.0) + sample.value
        return found

    def ready(self) -> dict[str, object]:
        """The body of /readyz, and `code`; empty while nothing answers."""
        try:
            with urlopen(f"{self._url}/readyz", timeout=ANSWER_S) as answer:
                return {"code": answer.status, **orjson.loads(answer.read())}
        except HTTPError as error:
            return {"code": error.code, **orjson.loads(error.read())}
        except (URLError, OSError):
            return {}

    def alive(self) -> bool:
        return self._process.poll() is None

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until `condition` holds. Fails where the process ends before."""

        def happened() -> object:
            assert self.alive(), f"ended with {self._process.returncode}:\n{self.log()}"
            return condition()

        until(happened, state=lambda: f"{self.ready()}\n{self.log()}")

    def until_judged(self, events: int) -> None:
        """Waits until so many offsets are judged."""

        def done() -> bool:
            progress = self.ready().get("progress", {})
            return sum(max(0, seen["offset"]) for seen in progress.values()) >= events  # type: ignore[attr-defined]

        self.until(done)

    def children(self) -> list[int]:
        """Its workers, and the trainer."""
        return workers_of(self._process.pid)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def ended(self, *codes: int) -> None:
        """Waits until the process ends by itself, with one of these exit codes."""
        try:
            code = self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended within {WAIT_S:.0f} s:\n{self.log()}") from None
        assert code in codes, f"ended with {code}:\n{self.log()}"

    def stopped(self, *codes: int) -> None:
        self.signal()
        self.ended(*codes)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _lines(events: int) -> Iterator[bytes]:
    noise = np.random.default_rng(5)
    for number in range(events):
        key = int(noise.integers(40))
        value = round(float(noise.normal(10 * key, 1)) + (40 if number % 200 == 199 else 0), 4)
        yield orjson.dumps({"k": f"key-{key}", "t": 1_700_000_000_000 + 1000 * number, "a": value}) + b"\n"
