"""How far a topic goes and how far its group has come: asked beside the clients that do the work."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka.admin import AdminClient, OffsetSpec

from stream_ad.config import Kafka
from stream_ad.io.kafka.admin import offsets_of
from stream_ad.io.kafka.admin import partitions as in_topic
from stream_ad.io.kafka.client import client, settings
from stream_ad.io.kafka.group import GroupOffsets

ASK_S = 2.0


class GroupProgress:
    """Of one group and its topic.

    A consumer's own figure for the end counts what an open transaction of the input hides; the end that
    is asked for does not.
    """

    def __init__(self, kafka: Kafka, group: str, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        # silent: where brokers are away, the clients that do the work say so
        self._admin = client(AdminClient, settings(kafka, {"log_level": 0}, {"error_cb": lambda error: None}))
        self._offsets = GroupOffsets(kafka, group, topic, stable=False)

    def ask(self, partitions: Iterable[int]) -> tuple[dict[int, int], dict[int, int]]:
        """(offset after the last committed record of these, offsets the group has committed anywhere in the topic).

        Raises `StreamAdError` where no answer comes in time.
        """
        # first: a client that still has the leaders of before a restart is refused for ever (FENCED_LEADER_EPOCH)
        there = in_topic(self._kafka, self._topic, admin=self._admin, timeout_s=ASK_S)
        ends = offsets_of(self._kafka, self._admin, self._topic, partitions, OffsetSpec.latest(), ASK_S)
        found = self._offsets.ask(there, ASK_S)
        return ends, {part: offset for part, offset in found.items() if offset is not None}
