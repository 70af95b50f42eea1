"""The end of a topic and the progress of its group, asked by clients that do nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka.admin import AdminClient, OffsetSpec

from stream_ad.config import Kafka
from stream_ad.io.kafka import admin
from stream_ad.io.kafka.client import OUTAGE, client, settings
from stream_ad.io.kafka.group import GroupOffsets

ASK_S = 2.0


class GroupProgress:
    """The progress of one group in its topic.

    The end that a consumer knows by itself counts records that an open transaction of the input hides; the end
    asked for here does not.
    """

    def __init__(self, kafka: Kafka, group: str, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        # silent: while brokers are away, the clients that do the work say so
        self._admin = client(AdminClient, settings(kafka, {"log_level": 0}, {"error_cb": lambda error: None}))
        self._offsets = GroupOffsets(kafka, group, topic, stable=False)

    def ask(self, partitions: Iterable[int]) -> tuple[dict[int, int], dict[int, int]]:
        """(offset after the last committed record of these, offsets the group has committed anywhere in the topic).

        Raises `StreamAdError` when no answer comes in time.
        """
        # first, since it refreshes the leaders: brokers refuse a client for ever that still has the leaders of before
        # their restart (FENCED_LEADER_EPOCH)
        in_topic = admin.partitions(self._kafka, self._topic, admin=self._admin, timeout_s=ASK_S)
        ends = admin.offsets_of(self._kafka, self._admin, self._topic, partitions, OffsetSpec.latest(), ASK_S)
        committed = self._offsets.ask(in_topic, ASK_S)
        OUTAGE.answered()
        return ends, {part: offset for part, offset in committed.items() if offset is not None}
