"""Asks a cluster whether it answers, for its topics and for their offsets; creates topics."""

from __future__ import annotations

import contextlib
import difflib
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import (
    OFFSET_INVALID,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from stream_ad.config import Config, Kafka
from stream_ad.errors import ConnectionFailed, InputError, Unreachable
from stream_ad.io.kafka.certificate import why_not_accepted
from stream_ad.io.kafka.client import ANSWER_S, client, failure, is_refused, settings
from stream_ad.io.kafka.group import GroupOffsets
from stream_ad.io.kafka.rights import may_see, require_for_run
from stream_ad.io.kafka.versions import require_protocol


def reach(kafka: Kafka, timeout_s: float = ANSWER_S) -> AdminClient:
    """A client, once the cluster answers it. Raises `ConnectionFailed` after `timeout_s`, or at once when refused."""
    errors: list[KafkaError] = []
    values = settings(kafka, {"reconnect.backoff.max.ms": 1000, "log_level": 0}, {"error_cb": errors.append})
    admin = client(AdminClient, values)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            admin.list_topics(timeout=max(0.1, min(1.0, deadline - time.monotonic())))
            return admin
        except KafkaException as error:
            reason = error.args[0]
        admin.poll(0)
        refused = next((error for error in errors if is_refused(error)), None)
        if refused is not None:
            wrong = why_not_accepted(kafka.brokers, values) if refused.code() == KafkaError._SSL else None
            if wrong is not None:
                raise ConnectionFailed(
                    f"kafka.options.ssl.ca.location: the certificate of {kafka.brokers} is not accepted: {wrong}"
                )
            raise failure(refused, kafka)
        if time.monotonic() > deadline:
            texts = [error.str() for error in errors if error.code() != KafkaError._ALL_BROKERS_DOWN]
            raise Unreachable(
                f"kafka.brokers: no answer from {kafka.brokers} within {timeout_s:g} s "
                f"({(texts or [reason.str()])[-1]}); is the broker running, and is security.protocol right?"
            )


def partitions(
    kafka: Kafka,
    topic: str,
    key: str = "source.topic",
    admin: AdminClient | None = None,
    timeout_s: float = ANSWER_S,
) -> list[int]:
    """The topic's partitions. Raises `InputError` naming the config key when there is no such topic."""
    admin = admin or reach(kafka)
    known = _topics(kafka, admin, timeout_s)
    if topic not in known:
        may_see(kafka, topic, key, admin)
        visible = sorted(name for name in known if not name.startswith("__"))
        near = difflib.get_close_matches(topic, visible, 5) or visible[:10]
        hint = f"there are: {', '.join(near)}" if near else "there are none at all"
        raise InputError(f"{key}: no topic {topic!r} at {kafka.brokers}; {hint}")
    return known[topic]


def identity(kafka: Kafka, topic: str, admin: AdminClient) -> tuple[str, str]:
    """The ids of the topic and of the cluster. Raises `ConnectionFailed`, `Unreachable` where asking again helps."""
    away = Unreachable(f"kafka.brokers: {kafka.brokers} does not tell the id of topic {topic!r} yet")
    try:
        cluster = admin.list_topics(topic, timeout=ANSWER_S)
        if cluster.controller_id not in cluster.brokers:
            return "", str(cluster.cluster_id)  # the demo's broker has no controller, and never answers the question
        asked = admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_S)
        return str(asked[topic].result(2 * ANSWER_S).topic_id), str(cluster.cluster_id)
    except TimeoutError:
        raise away from None
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise away from None  # not every part of a broker knows a new topic at once
        raise failure(error.args[0], kafka) from None


def _topics(kafka: Kafka, admin: AdminClient, timeout_s: float = ANSWER_S) -> dict[str, list[int]]:
    try:
        topics = admin.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise failure(error.args[0], kafka) from None
    return {name: sorted(topic.partitions) for name, topic in topics.items() if topic.error is None}


def missing(kafka: Kafka, topics: Iterable[str]) -> list[str]:
    """Those of `topics` that do not exist. Raises `ConnectionFailed`."""
    known = _topics(kafka, reach(kafka))
    return [topic for topic in topics if topic not in known]


def create_topics(kafka: Kafka, topics: Mapping[str, int], values: Mapping[str, str] | None = None) -> None:
    """Creates the missing ones of `topics` (name -> partitions). Raises `ConnectionFailed` when not allowed."""
    admin = reach(kafka)
    known = _topics(kafka, admin)
    new = [NewTopic(name, count, config=dict(values or {})) for name, count in topics.items() if name not in known]
    if not new:
        return
    for name, done in admin.create_topics(new, operation_timeout=ANSWER_S).items():
        try:
            done.result(timeout=ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ConnectionFailed(
                    f"sink.create_topics: topic {name!r} cannot be created: {error.args[0].str()}; "
                    "create it yourself and set sink.create_topics = false"
                ) from None


def create_outputs(config: Config) -> None:
    """Prepares a run: checks that brokers know `kafka.group_protocol`, creates the output topics (or checks that
    they exist), and checks our rights to all topics.

    Alerts and rejects get as many partitions as the input. `<pipeline>.models` and `<pipeline>.bundles` get one,
    and keep their records for ever.

    Raises `InputError`, `ConnectionFailed`.
    """
    count = len(partitions(config.kafka, config.source.topic))
    require_protocol(config.kafka)
    if not config.sink.create_topics:
        named = {config.sink.alerts: "sink.alerts", config.sink.rejects: "sink.rejects"}
        for topic, key in {**named, config.models_topic: "pipeline", config.bundles_topic: "pipeline"}.items():
            partitions(config.kafka, topic, key)
    else:
        create_topics(config.kafka, {config.sink.alerts: count, config.sink.rejects: count})
        create_topics(config.kafka, {config.models_topic: 1}, {"retention.ms": "-1", "retention.bytes": "-1"})
        create_topics(config.kafka, {config.bundles_topic: 1}, {"cleanup.policy": "compact"})
    require_for_run(config, reach(config.kafka))


def offsets(kafka: Kafka, topic: str, spec: OffsetSpec, key: str = "source.topic") -> dict[int, int]:
    """Partition -> the offset at `spec`: start, end of the committed records, or a time; -1 = no record is so late."""
    admin = reach(kafka)
    return offsets_of(kafka, admin, topic, partitions(kafka, topic, key, admin), spec, ANSWER_S, key)


def offsets_of(
    kafka: Kafka,
    admin: AdminClient,
    topic: str,
    parts: Iterable[int],
    spec: OffsetSpec,
    timeout_s: float,
    key: str = "source.topic",
) -> dict[int, int]:
    """As `offsets`, for the partitions `parts`. Raises `Unreachable` when no answer comes in time."""
    asked = {TopicPartition(topic, part): spec for part in parts}
    if not asked:
        return {}
    try:
        answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout_s)
        known = {part.partition: int(done.result(timeout=timeout_s).offset) for part, done in answers.items()}
    except TimeoutError:
        raise Unreachable(f"kafka.brokers: no answer from {kafka.brokers} within {timeout_s:g} s") from None
    except KafkaException as error:
        raise failure(error.args[0], kafka, key, topic) from None
    if OFFSET_INVALID in known.values():
        # the client answers so, and reports no error, when the connection is lost during the request
        raise Unreachable(
            f"kafka.brokers: {kafka.brokers}: the connection was lost during a request for offsets of {topic!r}"
        )
    return known


def start_offsets(kafka: Kafka, topic: str, key: str = "source.topic") -> dict[int, int]:
    return offsets(kafka, topic, OffsetSpec.earliest(), key)


def end_offsets(kafka: Kafka, topic: str, key: str = "source.topic") -> dict[int, int]:
    return offsets(kafka, topic, OffsetSpec.latest(), key)


def committed_offsets(kafka: Kafka, group: str, topic: str, admin: AdminClient | None = None) -> dict[int, int | None]:
    """Partition -> the offset that the group committed; None = none yet. Raises `ConnectionFailed`, `InputError`."""
    parts = partitions(kafka, topic, admin=admin)
    with contextlib.closing(GroupOffsets(kafka, group, topic, stable=True)) as group_offsets:
        return group_offsets.ask(parts, ANSWER_S)
