"""The ports in memory, for replays and for tests without servers. They keep the laws of the real ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stream_ad.batch import Headers, Message, RawBatch
from stream_ad.errors import ModelError, TransactionFailed
from stream_ad.io.seeks import Seeks
from stream_ad.messages.models import by_partition, decode_swap, join_bundle
from stream_ad.protocols import BUILT_IN, Listener, ModelInfo, Role, Swap, Wish


@dataclass(frozen=True, slots=True)
class Record:
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = -1
    headers: Headers = field(default_factory=list)
    offset: int = -1  # -1 = directly after the record before it


@dataclass(slots=True)
class MemoryCluster:
    """What sinks have committed: visible messages and the offsets of the input."""

    published: dict[Role, list[Message]] = field(
        default_factory=lambda: {"alerts": [], "rejects": [], "models": [], "bundles": []}
    )
    offsets: dict[int, int] = field(default_factory=dict)
    producers: dict[str, int] = field(default_factory=dict)  # transactional id -> its latest epoch


class MemorySource:
    """Records per partition; finished once all records of the owned partitions have been polled.

    It owns all partitions from the start. `rebalance` takes effect as in a group: the next poll calls the listener.
    """

    def __init__(
        self,
        topic: str,
        records: Mapping[int, Sequence[Record]],
        cluster: MemoryCluster | None = None,
        poll_rows: int = 1000,
    ) -> None:
        self.topic = topic
        self._cluster = cluster or MemoryCluster()
        self._rows = {part: _numbered(rows) for part, rows in records.items()}
        self._poll_rows = poll_rows
        self._wanted = set(self._rows)
        self._lost: list[int] = []
        self._owned: set[int] = set()
        self._seeks = Seeks()
        self._next: dict[int, int] = {}  # started partition -> offset of its next record
        self._listener: Listener | None = None

    def open(self, listener: Listener) -> None:
        self._listener = listener
        self._forget(self._owned)

    def start(self, offsets: Mapping[int, int]) -> None:
        self._seeks.put(offsets)

    def committed(self, partitions: Sequence[int]) -> dict[int, int | None]:
        return {part: self._cluster.offsets.get(part) for part in partitions}

    def rebalance(self, partitions: Sequence[int]) -> None:
        self._wanted = set(partitions)

    def lose(self, partitions: Sequence[int]) -> None:
        """As after the end of the session: another member owns them already."""
        self._lost = [part for part in partitions if part in self._owned]
        self._wanted -= set(partitions)

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        self._settle()
        if self._owned != set(self._next):
            self._next.update(
                {part: max(0, offset) for part, offset in self._seeks.take(0 if self._next else timeout_ms).items()}
            )
        batches = []
        for part, after in sorted(self._next.items()):
            rows = [row for row in self._rows[part] if row.offset >= after][: self._poll_rows]
            if rows:
                self._next[part] = rows[-1].offset + 1
                batches.append(_batch(self.topic, part, rows))
        return batches

    def finished(self) -> bool:
        ends = {part: rows[-1].offset + 1 if rows else 0 for part, rows in self._rows.items()}
        return self._wanted == set(self._next) and all(after >= ends[part] for part, after in self._next.items())

    def close(self) -> None:
        if self._listener is not None and self._owned:
            self._listener.revoked(sorted(self._owned))
        self._forget(self._owned)
        self._listener = None

    def _settle(self) -> None:
        assert self._listener is not None, "open() comes first"
        if self._lost:
            lost, self._lost = self._lost, []
            try:
                self._listener.lost(lost)
            finally:
                self._forget(lost)
        gone = sorted(self._owned - self._wanted)
        if gone:
            self._listener.revoked(gone)
            self._forget(gone)
        new = sorted(self._wanted - self._owned)
        if new:
            self._owned.update(new)
            self._listener.assigned(new)

    def _forget(self, partitions: Iterable[int]) -> None:
        gone = list(partitions)
        self._seeks.drop(gone)
        for part in gone:
            self._owned.discard(part)
            self._next.pop(part, None)


def _numbered(records: Sequence[Record]) -> list[Record]:
    rows: list[Record] = []
    for record in records:
        expected = rows[-1].offset + 1 if rows else 0
        offset = expected if record.offset < 0 else record.offset
        if offset < expected:
            raise ValueError(f"offset {offset} is below {expected}, the lowest that may follow")
        rows.append(Record(record.key, record.value, record.timestamp_ms, record.headers, offset))
    return rows


def _batch(topic: str, partition: int, rows: list[Record]) -> RawBatch:
    return RawBatch(
        topic=topic,
        partition=partition,
        offset=np.array([row.offset for row in rows], np.int64),
        timestamp_ms=np.array([row.timestamp_ms for row in rows], np.int64),
        key=[row.key for row in rows],
        value=[row.value for row in rows],
        headers=lambda row: list(rows[row].headers),
        next_offset=rows[-1].offset + 1,
    )


class MemorySink:
    """Messages become visible with `commit`. A later sink with the same id fences this one."""

    def __init__(self, cluster: MemoryCluster | None = None, transactional_id: str = "memory") -> None:
        self.cluster = cluster or MemoryCluster()
        self._id = transactional_id
        self._epoch = self.cluster.producers[transactional_id] = self.cluster.producers.get(transactional_id, 0) + 1
        self._waiting: list[tuple[Role, Message]] = []

    def send(self, role: Role, messages: Sequence[Message]) -> None:
        self._waiting += [(role, message) for message in messages]

    def commit(self, offsets: Mapping[int, int]) -> None:
        if self.cluster.producers[self._id] != self._epoch:
            self._waiting.clear()
            raise TransactionFailed(f"fenced: another process works as {self._id!r}")
        for role, message in self._waiting:
            self.cluster.published[role].append(message)
        self.cluster.offsets.update(offsets)
        self._waiting.clear()

    def abort(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        self._waiting.clear()


class MemoryModelLog:
    def __init__(self, cluster: MemoryCluster | None = None) -> None:
        self._cluster = cluster or MemoryCluster()

    def swaps(self, partitions: Sequence[int]) -> dict[int, list[Swap]]:
        swaps = [decode_swap(message.value or b"") for message in self._cluster.published["models"]]
        return by_partition(swaps, partitions)

    def bundle(self, version: str) -> bytes | None:
        return join_bundle(version, ((part.key, part.value) for part in self._cluster.published["bundles"]))


class MemoryStateStore:
    def __init__(self) -> None:
        self._owner: dict[int, int] = {}
        self._saved: dict[int, tuple[int, tuple[bytes, ...]]] = {}

    def claim(self, partition: int) -> int:
        self._owner[partition] = self._owner.get(partition, 0) + 1
        return self._owner[partition]

    def offset(self, partition: int) -> int:
        return self._saved[partition][0] if partition in self._saved else -1

    def load(self, partition: int) -> Iterator[bytes] | None:
        return iter(self._saved[partition][1]) if partition in self._saved else None

    def save(self, partition: int, owner: int, next_offset: int, parts: Iterable[bytes]) -> bool:
        kept = tuple(parts)
        if owner < self._owner.get(partition, 0) or next_offset < self.offset(partition):
            return False
        self._owner[partition] = owner
        self._saved[partition] = (next_offset, kept)
        return True


class MemoryModelStore:
    def __init__(self) -> None:
        self._bundles: dict[str, tuple[ModelInfo, bytes]] = {}
        self._wish = Wish(None, None)
        self._earlier: list[str] = []
        self._history: list[tuple[int, str, str]] = []

    def put(self, info: ModelInfo, blob: bytes) -> None:
        if info.version in self._bundles and self._bundles[info.version][0].sha256 != info.sha256:
            raise ModelError(f"version {info.version} exists with other content; a version is never changed")
        self._bundles[info.version] = (info, blob)

    def get(self, version: str) -> bytes:
        self._check(version)
        return self._bundles[version][1]

    def list(self) -> Sequence[ModelInfo]:
        return [info for info, _ in self._bundles.values()]

    def wish(self) -> Wish:
        return self._wish

    def promote(self, version: str, forced: bool = False) -> None:
        self._check(version)
        if self._wish.wanted != version:
            self._earlier.append(self._wish.wanted or BUILT_IN)
            self._wish = Wish(version, self._wish.shadow)
            self._note("force" if forced else "promote", version)

    def adopt(self, version: str) -> None:
        self._check(version)
        if self._wish.wanted is None:
            self.promote(version)

    def rollback(self) -> str:
        if not self._earlier:
            raise ModelError("nothing to roll back to: no version was promoted, or all promotions are rolled back")
        earlier = self._earlier.pop()
        self._wish = Wish(earlier, self._wish.shadow)
        self._note("rollback", earlier)
        return earlier

    def shadow(self, version: str | None) -> None:
        if version is not None:
            self._check(version)
        if self._wish.shadow != version:
            self._wish = Wish(self._wish.wanted, version)
            self._note("shadow", version or "")

    def history(self) -> Sequence[tuple[int, str, str]]:
        return list(self._history)

    def _check(self, version: str) -> None:
        if version not in self._bundles:
            raise unknown_version(version, list(self._bundles))

    def _note(self, action: str, version: str) -> None:
        self._history.append((int(time.time() * 1000), action, version))


def unknown_version(version: str, known: Sequence[str]) -> ModelError:
    hint = f"there are: {', '.join(known)}" if known else "there are none yet; `stream-ad train` makes one"
    return ModelError(f"no model version {version!r}; {hint}")
