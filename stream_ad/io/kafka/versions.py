"""Checks whether brokers know `kafka.group_protocol`.

Nothing else reports it: a consumer of the newer protocol tries for ever, silently, if brokers do not know its requests
or know only their first draft (Kafka 3.7 to 3.9).
"""

from __future__ import annotations

import logging
import re
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream_ad.config import Kafka
from stream_ad.io.kafka.client import ANSWER_S, LOG, client, failure, settings, unknown_protocol

HEARTBEAT = 68  # ConsumerGroupHeartbeat
NEEDED = 1  # its version from which on members choose their own ids (KIP-1082)
LOOK_S = 0.05


class Versions(logging.Logger):
    """The log of one client (`debug = feature`): type of request -> the newest version that the broker knows."""

    def __init__(self) -> None:
        super().__init__(LOG.name, logging.DEBUG)
        self.newest: dict[int, int] = {}

    def handle(self, record: logging.LogRecord) -> None:
        for request, version in re.findall(r"ApiKey \w+ \((\d+)\) Versions \d+\.\.(\d+)", record.getMessage()):
            self.newest[int(request)] = int(version)


def require_protocol(kafka: Kafka) -> None:
    """Raises `ConnectionFailed` if brokers answer that do not know it."""
    if kafka.group_protocol == "classic":
        return
    versions = Versions()
    admin = client(AdminClient, settings(kafka, {}, {"debug": "feature", "log_level": 7}), versions)
    try:
        admin.list_topics(timeout=ANSWER_S)
    except KafkaException as error:
        raise failure(error.args[0], kafka) from None
    deadline = time.monotonic() + ANSWER_S
    while not versions.newest and time.monotonic() < deadline:
        admin.poll(LOOK_S)
    if versions.newest and versions.newest.get(HEARTBEAT, 0) < NEEDED:
        raise unknown_protocol(kafka, "its members cannot tell that they are there")
