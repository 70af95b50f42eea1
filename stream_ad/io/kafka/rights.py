"""Checks this user's rights to topics before a run depends on them.

Without the check a broker refuses late: a transaction in the middle of a run, which could only be tried again.
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
    """Raises `ConnectionFailed` for a topic that is hidden from this user, whether it exists or not."""
    try:
        admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_S)[topic].result(ANSWER_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise failure(error.args[0], kafka, key, topic) from None


def require_for_run(config: Config, admin: AdminClient) -> None:
    """Raises `ConnectionFailed` where this user may not read or write a topic of the run."""
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
        return  # the demo's broker has no controller, knows no rights, and never answers the question
    for topic, (key, operations) in needed.items():
        try:
            allowed = _allowed(admin, topic)
        except KafkaException as error:
            raise failure(error.args[0], config.kafka, key, topic) from None
        # a broker that does not report rights leaves them out
        lacking = next((operation for operation in operations if allowed and operation not in allowed), None)
        if lacking is not None:
            verb = "read from" if lacking == READ else "write to"
            raise ConnectionFailed(
                f"{key}: not allowed to {verb} topic {topic!r}; grant it to this user, SECURITY.md lists what is needed"
            )


def _allowed(admin: AdminClient, topic: str) -> list[AclOperation] | None:
    """Raises `KafkaException`. Asks again for a while: not every part of a broker knows a new topic at once."""
    deadline = time.monotonic() + ANSWER_S
    asked = TopicCollection([topic])
    while True:
        answers = admin.describe_topics(asked, include_authorized_operations=True, request_timeout=ANSWER_S)
        try:
            operations: list[AclOperation] | None = answers[topic].result(ANSWER_S).authorized_operations
            return operations
        except TimeoutError:
            return None  # a missing right then shows later, when the run uses the topic
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise
            time.sleep(PROPAGATED_S)
