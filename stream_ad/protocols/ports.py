"""The contracts of the ports: where records come from, where results go, where state and models are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from stream_ad.batch import Message, RawBatch


class Listener(Protocol):
    """Told by a source, from within `open` or `poll`, what it owns. Each call returns when dealt with."""

    def assigned(self, partitions: Sequence[int]) -> None:
        """Ours from now on. Nothing of them is read until `Source.start` says from where."""
        ...

    def revoked(self, partitions: Sequence[int]) -> None:
        """To be given up in order, whether started or not: still ours until this returns."""
        ...

    def lost(self, partitions: Sequence[int]) -> None:
        """Already somebody else's: write nothing."""
        ...


class Source(Protocol):
    topic: str

    def open(self, listener: Listener) -> None: ...

    def start(self, offsets: Mapping[int, int]) -> None:
        """From the next poll on these partitions, which are ours, are read from there; -1 = wherever the source
        begins. From any thread; not after `revoked` or `lost`."""
        ...

    def committed(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        """What the group has committed; None = nothing yet. From any thread.

        Takes as long as a transaction that is about to change it is undecided. Raises `ConnectionFailed`.
        """
        ...

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        """Batches of at most some thousand rows, at most one per partition; may be empty.

        A batch without rows tells of a `next_offset` that moved without events.
        """
        ...

    def finished(self) -> bool:
        """Everything that was there at the start has been polled (bounded sources only)."""
        ...

    def close(self) -> None: ...


Role = Literal["alerts", "rejects", "models", "bundles"]
BUILT_IN = "statistical"  # the version that needs no bundle


class Sink(Protocol):
    """Where results go: what is sent between two commits becomes visible with the offsets, or never.

    At-least-once sinks make it visible at once and commit the offsets afterwards.
    """

    def send(self, role: Role, messages: Sequence[Message]) -> None: ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Partition -> next offset to read. Raises `TransactionFailed`; then nothing is visible."""
        ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Swap:
    """From `offset` on, `version` judges the partition. The log of these is `<pipeline>.models`."""

    partition: int
    offset: int
    version: str


class ModelLog(Protocol):
    """Reads back what was committed with the roles "models" and "bundles"."""

    def swaps(self, partitions: Sequence[int]) -> dict[int, list[Swap]]:
        """Of each partition, by offset."""
        ...

    def bundle(self, version: str) -> bytes | None:
        """The bytes of a version that has judged; None where there are none."""
        ...


class StateStore(Protocol):
    """Snapshots, one per partition. Raises `ConnectionFailed` when it is away."""

    def claim(self, partition: int) -> int:
        """A new owner's number, higher than every earlier one."""
        ...

    def offset(self, partition: int) -> int:
        """Of the snapshot that is there; -1 = there is none."""
        ...

    def load(self, partition: int) -> Iterator[bytes] | None:
        """The parts as they were saved, fetched as they are asked for; None = there is no snapshot.

        Raises `StateError` where parts are gone, `ConnectionFailed` also where it was replaced meanwhile.
        """
        ...

    def save(self, partition: int, owner: int, next_offset: int, parts: Iterable[bytes]) -> bool:
        """Compare-and-set: False, and nothing written, for an older owner or a lower offset."""
        ...


@dataclass(frozen=True, slots=True)
class ModelInfo:
    version: str
    kind: str  # the scorer's registered name
    created_ms: int
    sha256: str
    size_bytes: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Wish:
    """What running workers should use.

    `wanted` is a version, or `BUILT_IN` after all promotions were rolled back. None = nobody ever
    wished for one, or the store was emptied: then what judges goes on. `shadow` None = no shadow.
    """

    wanted: str | None
    shadow: str | None


class ModelStore(Protocol):
    """The registry of bundles. Raises `ConnectionFailed` when away, `ModelError` on unknown versions."""

    def put(self, info: ModelInfo, blob: bytes) -> None: ...

    def get(self, version: str) -> bytes: ...

    def list(self) -> Sequence[ModelInfo]: ...

    def wish(self) -> Wish: ...

    def promote(self, version: str, forced: bool = False) -> None:
        """`forced`, against its trial: the history says so."""
        ...

    def adopt(self, version: str) -> None:
        """`promote`, where nobody has a wish."""
        ...

    def rollback(self) -> str:
        """Back to what was wanted before; answers that version (it may be `BUILT_IN`)."""
        ...

    def shadow(self, version: str | None) -> None: ...

    def history(self) -> Sequence[tuple[int, str, str]]:
        """(time in ms, action, version), newest last."""
        ...
