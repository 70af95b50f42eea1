"""Writes results to Kafka: in one transaction with the input's offsets, or at least once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from stream_ad.batch import Message
from stream_ad.config import Kafka
from stream_ad.errors import ConfigError, ConnectionFailed, Fenced, StreamAdError, TransactionFailed
from stream_ad.io.kafka.admin import reach
from stream_ad.io.kafka.client import ANSWER_S, AWAY, LOG, Losses, client, failure, is_final, is_refused, settings, warn
from stream_ad.io.kafka.outage import LOST
from stream_ad.io.kafka.source import KafkaSource
from stream_ad.protocols import Role

TRANSACTION_S = 30.0  # brokers end a dead worker's transaction by then; it hides alerts, holds up partitions
COMMIT_S = 20.0  # a commit without an answer by then has failed
OFFSETS_S = 5.0  # the same for handing the offsets to the group's coordinator
REACH_S = 2.0
TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
INVALID = {KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP, KafkaError.POLICY_VIOLATION}
FRAME_BYTES = 100_000  # the client may count a record as larger than the sum of its parts by so much
PRODUCE = {
    "linger.ms": 2,
    "queue.buffering.max.kbytes": 128 << 10,  # when the queue to the brokers is full, sending waits
    "partitioner": "murmur2_random",  # as Java clients place keys
    "socket.keepalive.enable": True,
}
TRANSACTIONAL = {
    **PRODUCE,
    "transaction.timeout.ms": int(TRANSACTION_S * 1000),
    "retry.backoff.ms": 5,  # a commit that follows closely on another waits for it; the default is 100
}


class KafkaSink:
    """With `exactly_once`, messages become visible together with the offsets, or never. With `at_least_once`, they
    become visible at once, and the offsets follow at the source's next poll.

    `transactional_id` names one worker, the same after a restart: a new process under it ends the transaction of
    its predecessor. Two live processes under one id fence each other: the next call of the fenced one raises
    `Fenced`, or `TransactionFailed` where a transaction that timed out may be the cause.

    A record that brokers refuse for its size or content they would refuse for ever: `ConfigError`. A record has at
    most `max_record_bytes`, and so has a batch of several. A right that is taken away also ends the run:
    `ConnectionFailed`.

    Every error ends the transaction. While brokers are away, the sink waits for them before it raises the error,
    until `stopping` returns true: then it leaves the transaction to the worker's next process.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Mapping[Role, str],
        source: KafkaSource,
        delivery: Literal["exactly_once", "at_least_once"] = "exactly_once",
        transactional_id: str = "",
        max_record_bytes: int = 900_000,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `ConnectionFailed` when the brokers are away or transactions not allowed, `ConfigError`."""
        self._kafka, self._topics, self._source = kafka, topics, source
        self._id, self._exactly = transactional_id, delivery == "exactly_once"
        self._stopping, self._clock = stopping, clock
        self._producer: Any = None
        self._losses = Losses()
        self._born_s = 0.0
        self._begun = False
        self._done: dict[int, int] = {}  # offsets of the last commit
        self._undelivered: tuple[KafkaError, str] | None = None  # the first delivery error, and its topic
        required: dict[str, Any] = {"enable.idempotence": True, "error_cb": warn, "on_delivery": self._delivered}
        sizes = {"batch.size": max_record_bytes, "message.max.bytes": max_record_bytes + FRAME_BYTES}
        if self._exactly:
            required["transactional.id"] = transactional_id
            required["debug"] = ",".join(filter(None, [str(kafka.options.get("debug", "")), "broker"]))  # for `Losses`
            required["log_level"] = 7
        self._settings = settings(kafka, {**(TRANSACTIONAL if self._exactly else PRODUCE), **sizes}, required)
        self._connect()

    def send(self, role: Role, messages: Sequence[Message]) -> None:
        if not messages:
            return
        try:
            self._begin()
            for message in messages:
                self._produce(self._topics[role], message)
            self._producer.poll(0)
        except KafkaException as error:
            raise self._failed(error.args[0]) from None

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Does nothing if nothing is new since the last commit."""
        progress = {part: offset for part, offset in offsets.items() if self._done.get(part) != offset}
        if not progress and not self._begun:
            return
        try:
            self._begin()
            if self._exactly:
                self._commit_together(progress)
            else:
                self._deliver()
                self._source.commit(progress)
        except KafkaException as error:
            raise self._failed(error.args[0]) from None
        self._begun = False
        self._done.update(progress)

    def _commit_together(self, progress: Mapping[int, int]) -> None:
        producer = self._producer
        if progress:
            positions = [TopicPartition(self._source.topic, part, offset) for part, offset in progress.items()]
            group = self._source.group_metadata()
            # after a lost connection to the coordinator it may never return (confluentinc/librdkafka#5456)
            if not _returns(lambda: producer.send_offsets_to_transaction(positions, group, OFFSETS_S), OFFSETS_S + 1):
                self._producer = None
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the group coordinator does not answer"))
        producer.commit_transaction(COMMIT_S)

    def _deliver(self) -> None:
        while self._producer.flush(REACH_S):
            if self._stopping():
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "stopped before the alerts were taken"))
        if self._undelivered is not None:
            raise KafkaException(self._undelivered[0])

    def abort(self) -> None:
        """Nothing that was sent since the last commit becomes visible (`exactly_once`)."""
        self._done.clear()
        if self._begun:
            self._abandon()

    def close(self) -> None:
        """Aborts what is not committed."""
        if self._begun:
            self._abandon()
        self._producer = None

    def _connect(self) -> None:
        self._losses = Losses()
        producer: Any = client(Producer, self._settings, self._losses)
        if self._exactly:
            try:
                producer.init_transactions(TRANSACTION_S)
            except KafkaException as error:
                raise failure(error.args[0], self._kafka) from None
        self._producer, self._begun, self._born_s = producer, False, self._clock()

    def _begin(self) -> None:
        """Begins a transaction; after a lost connection, with a new producer and so with a new epoch.

        A request on the lost connection may reach the brokers late. Within the old epoch it would join the next
        transaction: offsets would go back, or alerts become visible without their offsets. (With KIP-890 brokers change
        the epoch at every transaction, for clients that know it: confluentinc/librdkafka#5423.)
        """
        if self._exactly and self._producer is not None and not self._begun:
            self._producer.poll(0)  # hands the log lines of the client to `Losses`
            if self._losses.lost:
                self._producer = None
                if not self._brokers_answer():
                    raise TransactionFailed("the brokers do not answer")
        if self._producer is None:
            self._connect()
        if not self._begun:
            if self._exactly:
                self._producer.begin_transaction()
            self._begun, self._undelivered = True, None

    def _produce(self, topic: str, message: Message) -> None:
        while True:
            try:
                self._producer.produce(topic, key=message.key, value=message.value, headers=message.headers)
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() in TOO_LARGE:
                    self._undelivered = (error.args[0], topic)
                raise

    def _failed(self, error: KafkaError) -> StreamAdError:
        """Ends the transaction; returns the error for the caller to raise."""
        self._done.clear()
        if self._exactly and error.code() == KafkaError._FATAL:
            error = self._cause(error)
        if error.code() == KafkaError._FENCED:
            self._producer, self._begun = None, False
            # the coordinator also fences a transaction that timed out, but so early none can have
            error_type = Fenced if self._clock() - self._born_s < TRANSACTION_S else TransactionFailed
            return error_type(f"another process works as {self._id!r} ({error.str()})")
        if (error.retriable() or error.code() in AWAY) and not self._brokers_answer():
            self._producer, self._begun = None, False
            return TransactionFailed(f"the commit failed, and the brokers do not answer: {error.str()}")
        self._abandon()
        if self._undelivered is None:
            if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                topics = ", ".join([self._source.topic, *self._topics.values()])
                return ConnectionFailed(
                    f"source.topic, sink: not allowed to use every one of {topics} any more; grant it to this user, "
                    f"SECURITY.md lists what is needed ({error.str()})"
                )
            if is_refused(error):
                return failure(error, self._kafka)
            return TransactionFailed(f"the commit failed: {error.str()}")
        cause, topic = self._undelivered
        role = next((role for role, name in self._topics.items() if name == topic), "")
        key = "pipeline" if role in ("models", "bundles") else f"sink.{role}"
        if cause.code() in TOO_LARGE:
            return ConfigError(
                f"sink.max_record_bytes: topic {topic!r} takes no record that large ({cause.str()}); "
                "lower it below max.message.bytes of the topic (and message.max.bytes in kafka.options), or raise those"
            )
        if cause.code() in INVALID:
            return ConfigError(
                f"{key}: topic {topic!r} refuses a record ({cause.str()}); it must not be compacted, nor have a policy "
                "on times or contents"
            )
        if is_final(cause):
            return failure(cause, self._kafka, key, topic)
        return TransactionFailed(f"the commit failed: {error.str()}")

    def _cause(self, error: KafkaError) -> KafkaError:
        """The cause of a fatal error: later calls report only that there was one, but an abort reports the cause."""
        try:
            self._producer.abort_transaction(ANSWER_S)
        except KafkaException as cause:
            error = cause.args[0]
        return error

    def _brokers_answer(self) -> bool:
        """Waits until the brokers answer; False once `stopping` returns true."""
        while not self._stopping():
            try:
                reach(self._kafka, REACH_S)
                return True
            except ConnectionFailed as error:
                LOG.warning("waits for the brokers: %s", error, extra=LOST)
        return False

    def _abandon(self) -> None:
        """Aborts the transaction. If that fails, a new producer under our id ends it, or at last its timeout."""
        self._begun = False
        if not self._exactly:
            self._producer.purge()
            return
        try:
            if self._producer is not None:
                self._producer.abort_transaction(ANSWER_S)
                return
        except KafkaException as error:
            LOG.warning("the transaction could not be aborted: %s", error.args[0].str())
            self._producer = None
        try:
            self._connect()
        except ConnectionFailed as error:
            LOG.warning("%s", error)

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and error.code() != KafkaError._PURGE_QUEUE and self._undelivered is None:
            self._undelivered = (error, message.topic())


def _returns(call: Callable[[], None], limit_s: float) -> bool:
    """Whether `call` returns in time. It runs in a thread, which is left behind if not. Raises what `call` raises."""
    outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            call()
        except BaseException as error:
            outcome.put(error)
        else:
            outcome.put(None)

    threading.Thread(target=run, name="offsets", daemon=True).start()
    try:
        error = outcome.get(timeout=limit_s)
    except queue.Empty:
        return False
    if error is not None:
        raise error
    return True
