"""`python -m tests.chaos.early`: what brokers answer about a group while they still read its offsets.

A broker that is killed and back before its session has ended leads its partitions as before, then is
registered anew and leads them once more. Its group coordinator begins to read twice, and takes the end of the
first for that of the second (`CoordinatorRuntime.load` looks up who is loading by partition, not by epoch). A
large read, and a short session, make that likely here.
"""

from __future__ import annotations

import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.servers import KafkaBroker

COMMITS, STARTS, LOOK_S = 50_000, 8, 8.0
SETTINGS = {
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "100",
    "offsets.topic.num.partitions": "1",
    "offsets.load.buffer.size": str(250 << 20),
    "log.segment.bytes": str(1 << 30),
}
PADDING = "x" * 4000


def main() -> None:
    broker = KafkaBroker(SETTINGS, heap="2G")
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic("t", 1)])["t"].result(30)
        often = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50, "log_level": 0}
        group = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g", **often})
        for offset in range(1, COMMITS + 1):
            last = [TopicPartition("t", 0, offset, PADDING)]
            group.commit(offsets=last, asynchronous=offset % 200 != 0)
        print(f"committed: {COMMITS:,}; the broker is killed and started again {STARTS} times")
        for number in range(STARTS):
            broker.kill()
            early = sorted({answer for answer in _answers(broker, group) if answer != COMMITS})
            print(f"{number + 1}: {len(early)} other answers {early[:5]}", flush=True)
    finally:
        broker.remove()


def _answers(broker: KafkaBroker, group: Consumer) -> list[int]:
    """What the group is said to have committed, from the start of the broker on; 0 = nothing."""
    found: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                (answer,) = group.committed([TopicPartition("t", 0)], 0.3)
            except KafkaException:
                continue
            if answer.error is None:
                found.append(max(0, answer.offset))

    asking = threading.Thread(target=ask)
    asking.start()
    broker.start()
    time.sleep(LOOK_S)
    over.set()
    asking.join()
    return found


if __name__ == "__main__":
    main()
