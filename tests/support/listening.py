"""A listener to a source's rebalances, and the group that it is a member of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stream_ad.config import Kafka
from stream_ad.protocols import Source

Protocol = Literal["consumer", "classic"]


@dataclass
class Told:
    """A listener that records its calls. It starts partitions at the committed offsets or at given ones: at once, or
    when the test says so (`later`). Without a source it starts nothing."""

    source: Source | None = None
    start: Mapping[int, int] = field(default_factory=dict)
    later: bool = False
    calls: list[tuple[str, dict[int, int | None]]] = field(default_factory=list)
    owned: set[int] = field(default_factory=set)

    def assigned(self, partitions: Sequence[int]) -> None:
        committed = {} if self.source is None else self.source.committed(partitions)
        self.calls.append(("assigned", {part: committed.get(part) for part in partitions}))
        self.owned |= set(partitions)
        if self.source is not None and not self.later:
            self.begin(partitions)

    def begin(self, partitions: Sequence[int]) -> None:
        assert self.source is not None
        for part, offset in self.source.committed(partitions).items():
            self.source.start({part: self.start.get(part, -1 if offset is None else offset)})

    def revoked(self, partitions: Sequence[int]) -> None:
        assert set(partitions) <= self.owned
        self.calls.append(("revoked", dict.fromkeys(partitions)))
        self.owned -= set(partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        self.calls.append(("lost", dict.fromkeys(partitions)))
        self.owned -= set(partitions)


def group_of(brokers: str, protocol: Protocol, **fields: Any) -> Kafka:
    """Times are the broker's to say in the newer protocol (`tests/support/servers.py`)."""
    times = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300} if protocol == "classic" else {}
    return Kafka(brokers=brokers, group_protocol=protocol, options=times, **fields)
