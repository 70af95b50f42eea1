"""Reads Kafka records as a member of a consumer group.

Only the polling thread calls the client. The client makes a second thread wait until the call of the
first has returned, which is for ever if the first runs a callback that waits for the second.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from stream_ad.batch import RawBatch
from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import ConnectionFailed, TransactionFailed, Unreachable
from stream_ad.io.kafka.admin import committed_offsets, end_offsets, partitions, reach
from stream_ad.io.kafka.client import LOG, READING, client, failure, require_passing, settings, warn
from stream_ad.io.kafka.group import GroupOffsets, begin_at, generation
from stream_ad.io.kafka.records import raw_batch, sorted_out, taken
from stream_ad.io.seeks import Seeks
from stream_ad.protocols import Listener

START_MS = 10  # limit of a poll while an owned partition has no start offset yet
ASK_S = 5.0
COMMITTED_S = 90.0  # a dead worker's transaction hides the committed offsets until it times out

FETCH = {
    **READING,
    "fetch.queue.backoff.ms": 2,  # the default of 1000 starves a consumer that is faster than the fetcher
    "fetch.wait.max.ms": 10,
    "queued.min.messages": 200_000,
    "queued.max.messages.kbytes": 128 << 10,
    "socket.keepalive.enable": True,
    "topic.metadata.refresh.interval.ms": 30_000,  # the client notices added partitions within it
}


def member_name(group: str, worker: int) -> str:
    """The name of a worker, for static membership and transactions; the same after a restart."""
    return f"{group}-{socket.gethostname()}-{worker}"


class KafkaSource:
    """A worker's share of a topic. It can be opened again after `close`, to go back to the committed offsets."""

    def __init__(
        self,
        kafka: Kafka,
        source: SourceConfig,
        group: str,
        worker: int = 0,
    ) -> None:
        self.topic = source.topic
        self.group = group
        self.errors = 0  # transient ones so far, such as a broker that is away
        self._fatal: KafkaError | None = None  # only a callback reports it: after it the client is silent
        self._kafka = kafka
        self._latest = source.start == "latest"
        required: dict[str, Any] = {
            "group.id": group,
            "group.protocol": kafka.group_protocol,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",  # if the log has deleted the position already: skip as little as possible
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "error_cb": self._on_error,
        }
        if kafka.group_protocol == "classic":
            required["partition.assignment.strategy"] = "cooperative-sticky"
        if kafka.static_membership:
            required["group.instance.id"] = member_name(group, worker)
        self._settings = settings(kafka, FETCH, required)
        self._consumer: Any = None
        self._closing = False
        self._listener: Listener | None = None
        self._metadata: bytes | None = None
        self._admin: AdminClient | None = None
        self._due: dict[int, int] = {}  # offsets to be committed by the polling thread
        self._lock = threading.Lock()
        self._thread = 0
        self._owned: set[int] = set()
        self._seeks = Seeks()
        self._next: dict[int, int] = {}  # started partition -> offset of its next record

    def open(self, listener: Listener) -> None:
        """Raises `ConnectionFailed` (brokers), `InputError` (topic), `ConfigError` (options)."""
        self._admin = reach(self._kafka)
        partitions(self._kafka, self.topic, admin=self._admin)
        if self._latest:
            begin_at(self._kafka, self.group, self.topic, self.end_offsets())
        self._listener = listener
        self._forget()
        self._due.clear()
        self._closing = False
        self._fatal = self._metadata = None
        self._thread = threading.get_ident()
        self._consumer = client(Consumer, self._settings)
        self._consumer.subscribe([self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        self._refresh()

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        """Waits for the first record only, so a slow topic costs no latency."""
        with self._failures():
            self._commit_due(self._consumer)
            self._start_due(self._consumer)
            patience_ms = min(timeout_ms, START_MS) if self._owned - self._next.keys() else timeout_ms
            messages = taken(self._consumer, patience_ms / 1000)
            self._refresh()
        if self._fatal is not None:
            raise failure(self._fatal, self._kafka, "source.topic", self.topic)
        return self._batches(messages)

    def _batches(self, messages: list[Message]) -> list[RawBatch]:
        if not messages:
            return []
        records, ends, errors = sorted_out(messages)
        batches = []
        for partition, rows in records.items():
            if partition in self._next:
                after = max(rows[-1].offset() + 1, ends.pop(partition, 0))
                batches.append(raw_batch(self.topic, partition, rows, after))
                self._next[partition] = after
        for partition, end in ends.items():
            if end > self._next.get(partition, end):
                batches.append(raw_batch(self.topic, partition, [], end))
                self._next[partition] = end
        for message in errors:
            self._on_error(require_passing(message, self._kafka, "source.topic", self.topic))
        return batches

    def finished(self) -> bool:
        return False

    def close(self) -> None:
        """Calls `revoked` for the owned partitions, and leaves the group."""
        if self._consumer is not None:
            self._closing = True
            with self._failures():
                try:
                    self._commit_due(self._consumer)
                    self._consumer.close()
                finally:
                    self._consumer = None
                    self._forget()

    def group_metadata(self) -> Any:
        """Our membership of the group, for a transaction: as it is now, or for other threads as at the last poll."""
        if threading.get_ident() == self._thread:
            self._refresh()
        return self._metadata

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commits outside of a transaction; callable from any thread. The next poll does it, or the end of `revoked`,
        or `close`: there a commit that fails raises `TransactionFailed`.
        """
        with self._lock:
            self._due.update(offsets)

    def _commit_due(self, consumer: Any) -> None:
        if not self._due:
            return
        with self._lock:
            due, self._due = self._due, {}
        owned = [TopicPartition(self.topic, part, offset) for part, offset in due.items() if part in self._owned]
        if not owned:
            return
        try:
            answers = consumer.commit(offsets=owned, asynchronous=False)
            wrong = next((answer.error for answer in answers if answer.error is not None), None)
        except KafkaException as error:
            wrong = error.args[0]
        if wrong is not None:
            raise TransactionFailed(f"the offsets were not committed: {wrong.str()}")

    def end_offsets(self) -> dict[int, int]:
        """Of every partition of the topic."""
        return end_offsets(self._kafka, self.topic)

    def progress(self) -> dict[int, int | None]:
        """Partition -> what the group has committed, for every partition of the topic; None = nothing yet."""
        self._admin = self._admin or reach(self._kafka)
        return committed_offsets(self._kafka, self.group, self.topic, self._admin)

    def start(self, offsets: Mapping[int, int]) -> None:
        self._seeks.put(offsets)

    def _start_due(self, consumer: Any) -> None:
        """Assigns started partitions to the client only now: so it has nothing to pause, and no position to reset."""
        due = {part: offset for part, offset in self._seeks.take().items() if part in self._owned}
        if due:
            places = {part: offset if offset >= 0 else OFFSET_BEGINNING for part, offset in due.items()}
            consumer.incremental_assign([TopicPartition(self.topic, part, place) for part, place in places.items()])
            self._next.update(due)

    def committed(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Waits at most `COMMITTED_S`, or until `close`; raises `Unreachable` then."""
        deadline, said = time.monotonic() + COMMITTED_S, False
        with contextlib.closing(GroupOffsets(self._kafka, self.group, self.topic, stable=True)) as group_offsets:
            while True:
                try:
                    return group_offsets.ask(partitions, ASK_S)
                except ConnectionFailed as error:
                    if not isinstance(error, Unreachable) or self._closing or time.monotonic() > deadline:
                        raise
                    if not said:
                        LOG.info("waiting for the committed offsets: %s", error)
                    said = True

    def _assigned(self, consumer: Any, parts: list[TopicPartition]) -> None:
        self._refresh()
        consumer.incremental_assign([])  # `_start_due` assigns each, once the listener says from where
        if parts and not self._closing:
            assert self._listener is not None
            new = [part.partition for part in parts]
            self._owned.update(new)
            self._listener.assigned(new)

    def _revoked(self, consumer: Any, parts: list[TopicPartition]) -> None:
        try:
            known = self._known(parts)
            if known:
                assert self._listener is not None
                self._listener.revoked(known)
                self._commit_due(consumer)
        finally:
            self._give_up(consumer, parts)

    def _lost(self, consumer: Any, parts: list[TopicPartition]) -> None:
        try:
            known = self._known(parts)
            if known:
                assert self._listener is not None
                self._listener.lost(known)
        finally:
            self._give_up(consumer, parts)

    def _known(self, parts: list[TopicPartition]) -> list[int]:
        """The partitions that the listener knows: a closing client also revokes some that it never announced."""
        return [part.partition for part in parts if part.partition in self._owned]

    def _give_up(self, consumer: Any, parts: list[TopicPartition]) -> None:
        gone = [part.partition for part in parts]
        self._seeks.drop(gone)
        self._owned.difference_update(gone)
        consumer.incremental_unassign([part for part in parts if self._next.pop(part.partition, None) is not None])

    def _forget(self) -> None:
        self._seeks.drop(self._owned)
        self._owned.clear()
        self._next.clear()

    def _refresh(self) -> None:
        if self._consumer is not None:
            with contextlib.suppress(RuntimeError):  # the client is closing
                member = self._consumer.consumer_group_metadata()
                # brokers take a commit without a generation for one from outside of the group, and would not fence it
                if generation(member) >= 0:
                    self._metadata = member

    def _on_error(self, error: KafkaError) -> None:
        self.errors += 1
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = error
        else:
            warn(error)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise failure(error.args[0], self._kafka, "source.topic", self.topic) from None
