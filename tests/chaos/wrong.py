"""The protocol with one of its rules taken away, in a worker's process: the harness has to notice each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

RULES = ("snapshot before commit", "offsets committed early", "no fencing")


def install(rule: str) -> None:
    if rule:
        {
            "snapshot before commit": _save_first,
            "offsets committed early": _offsets_first,
            "no fencing": _unfenced,
        }[rule]()


def _save_first() -> None:
    """Before each commit, so that whoever is killed there has saved too much. A snapshot ahead of the log is refused
    as well, so both have to be gone before harm is done."""
    from stream_ad.checkpoint.restore import Recovery
    from stream_ad.runtime.loop import Pipeline
    from stream_ad.state.shard import Shard

    after = Pipeline.commit

    def commit(self: Any) -> None:
        self.finish()
        self.recovery.saver.finish(self.folding)
        after(self)

    def restored(
        self: Any, partition: int, committed: int | None, known: Any, parts: Any, has: Callable[[str], bool]
    ) -> Any:
        return None if parts is None or committed is None else Shard.restore(self._folds, partition, parts)

    Pipeline.commit = commit  # type: ignore[method-assign]
    Recovery._restored = restored  # type: ignore[method-assign]


def _offsets_first() -> None:
    """Offsets in a transaction of their own, then what was to be published with them."""
    from stream_ad.io.kafka.sink import KafkaSink

    send, commit = KafkaSink.send, KafkaSink.commit

    def keep(self: Any, role: Any, messages: Any) -> None:
        self.__dict__.setdefault("kept", []).append((role, messages))

    def both(self: Any, offsets: Mapping[int, int]) -> None:
        commit(self, offsets)
        kept, self.kept = self.__dict__.get("kept", []), []
        for role, messages in kept:
            send(self, role, messages)
        commit(self, offsets)

    KafkaSink.send, KafkaSink.commit = keep, both  # type: ignore[method-assign]


def _unfenced() -> None:
    """No generation, no transactional id of one's own, no owner of a snapshot; what is lost is given up as if it was
    still ours."""
    from confluent_kafka import Consumer

    from stream_ad.io.kafka import source as kafka_source
    from stream_ad.io.redis.stores import RedisStateStore
    from stream_ad.runtime.loop import Pipeline

    def metadata(self: Any) -> Any:
        if not hasattr(self, "stranger"):
            self.stranger = Consumer({"bootstrap.servers": self._kafka.brokers, "group.id": self.group})
        return self.stranger.consumer_group_metadata()

    def name(group: str, worker: int) -> str:
        return f"{group}-{uuid.uuid4().hex}"

    kafka_source.KafkaSource.group_metadata = metadata  # type: ignore[method-assign]
    kafka_source.member_name = name
    save = RedisStateStore.save

    def unchecked(self: Any, partition: int, owner: int, next_offset: int, parts: Any) -> bool:
        self._redis.delete(self._key(partition))
        return save(self, partition, owner, next_offset, parts)

    RedisStateStore.save = unchecked  # type: ignore[method-assign]
    Pipeline.lost = Pipeline.revoked  # type: ignore[method-assign]
