"""What this user may do with topics, asked before anything depends on it.

Without being asked, a broker says it late: to a transaction in the middle of a run, which can only be tried again.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from stream_ad.config import Config, Kafka
from stream_ad.errors import ConnectionFailed
from stream_ad.io.kafka.client import ANSWER_S, failure

PROPAGATED_S = 0.05
READ, WRITE = AclOperation.READ, AclOperation.WRITE


def may_see(kafka: Kafka, topic: str, key: str, admin: AdminClient) -> None:
    """Raises `ConnectionFailed` for a topic that is hidden from this user, whether it is there or not."""
    try:
        admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_S)[topic].result(ANSWER_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise failure(error.args[0], kafka, key, topic) from None


def require_for_run(config: Config, admin: AdminClient) -> None:
    """Raises `ConnectionFailed` where a run would not be let read or write one of its topics."""
    needed = {
        config.source.topic: ("source.topic", [READ]),
        config.sink.alerts: ("sink.alerts", [WRITE]),
        config.sink.rejects: ("sink.rejects", [WRITE]),
        config.models_topic: ("pipeline", [READ, WRITE]),
        config.bundles_topic: ("pipeline", [READ, WRITE]),
    }
    try:
        cluster = admin.list_topics(timeout=ANSWER_S)
    except KafkaException as error:
        raise failure(error.args[0], config.kafka) from None
    if cluster.controller_id not in cluster.brokers:
        return  # the demo's broker has no controller, knows no rights, and never answers
    for topic, (key, operations) in needed.items():
        try:
            allowed = _allowed(admin, topic)
        except KafkaException as error:
            raise failure(error.args[0], config.kafka, key, topic) from None
        # a broker that has no notion of it answers nothing
        lacking = next((operation for operation in operations if allowed and operation not in allowed), None)
        if lacking is not None:
            deed = "read from" if lacking == READ else "write to"
            raise ConnectionFailed(
                f"{key}: not allowed to {deed} topic {topic!r}; grant it to this user, SECURITY.md lists what is needed"
            )


def _allowed(admin: AdminClient, topic: str) -> list[AclOperation] | None:
    """Raises `KafkaException`. A topic that was made just now may not be known to every part of a broker."""
    deadline = time.monotonic() + ANSWER_S
    asked = TopicCollection([topic])
    while True:
        answers = admin.describe_topics(asked, include_authorized_operations=True, request_timeout=ANSWER_S)
        try:
            found: list[AclOperation] | None = answers[topic].result(ANSWER_S).authorized_operations
            return found
        except TimeoutError:
            return None  # of its rights only: what is not allowed is told later then
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise
            time.sleep(PROPAGATED_S)
