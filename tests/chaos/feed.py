"""Writes the stream to the topic at a steady rate, and knows what it has written."""

from __future__ import annotations

import threading
import time
from collections import Counter

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream_ad.io.partition import partition_of
from tests.chaos.stream import events

TICK_S = 0.02


class Feed:
    """`rush()` lets the rest go as fast as it can; `join()` waits for all to be acknowledged."""

    def __init__(self, brokers: str, topic: str, partitions: int, seed: int, count: int, rate: float) -> None:
        self.partitions = partitions
        self.ends: dict[int, int] = dict.fromkeys(range(partitions), 0)  # of what is acknowledged
        self.poison: Counter[tuple[int, int]] = Counter()  # partition, offset
        self.anomalies = 0
        self.written = 0
        self._topic, self._rate, self._rush = topic, rate, threading.Event()
        self._events = events(seed, count)
        self._failed: list[KafkaError] = []
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "message.timeout.ms": 300_000,
                "queue.buffering.max.messages": 500_000,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def rush(self) -> None:
        self._rush.set()

    def join(self) -> None:
        self._thread.join()
        left = self._producer.flush(300)
        assert not left, f"{left} records were never acknowledged"
        assert not self._failed, self._failed[0]

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        begun = time.monotonic()
        for event in self._events:
            partition = partition_of(event.key, self.written, self.partitions)
            told = self._told_poison if event.poison else self._told
            while True:
                try:
                    self._producer.produce(self._topic, event.value, event.key, partition, on_delivery=told)
                    break
                except BufferError:
                    self._producer.poll(0.1)
                except KafkaException:  # a partition that was added just now
                    self._producer.list_topics(self._topic, timeout=10)
                    time.sleep(TICK_S)
            self.written += 1
            self.anomalies += event.anomaly
            if self.written % 32 == 0:
                self._producer.poll(0)
                while not self._rush.is_set() and self.written > self._rate * (time.monotonic() - begun):
                    time.sleep(TICK_S)
                    self._producer.poll(0)

    def _told(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(error)
            return
        part = message.partition()
        self.ends[part] = max(self.ends.get(part, 0), message.offset() + 1)

    def _told_poison(self, error: KafkaError | None, message: Message) -> None:
        self._told(error, message)
        if error is None:
            self.poison[message.partition(), message.offset()] += 1
