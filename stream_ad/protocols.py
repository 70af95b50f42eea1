"""The contracts of the kinds of part (`Fold`, `Window`, `Threshold`, `Codec`, `Scorer`), and the ports.
The section that a part gets holds the options that its class declares: see `stream_ad.config.parts`.

Laws that every part keeps (`stream_ad.testing` checks them):

1. Split invariance: `step(a ++ b)` equals `step(a); step(b)`, outputs and state, bit for bit.
2. Snapshot: a restored state behaves as the original, bit for bit.
3. Isolation: a malformed record is one reject and touches no neighbour.
4. Scoring is pure: same rows, same scores, whatever else is in the batch.
5. Keys are independent, except through pooled priors, which are folds of the log.
6. Borders are guarded: what a part raises, or answers against its contract, harms its own verdicts only.

A fold sees no clock, network or randomness and does not log. A part that cannot work raises a `StreamAdError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from stream_ad.batch import (
    F64,
    EventBatch,
    Explanation,
    KeyedBatch,
    Message,
    RawBatch,
    RejectBatch,
    Scores,
    Verdicts,
    WindowBatch,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stream_ad import config
    from stream_ad.score.bundle import Bundle
    from stream_ad.score.train import Fitted, Progress

S = TypeVar("S")
O_contra = TypeVar("O_contra", bound="config.ScorerOptions", contravariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_co = TypeVar("B_co", covariant=True)


class Fold(Protocol[S, A_contra, B_co]):
    """A step over the log with state.

    The state is a dataclass whose fields are numpy arrays and nothing else (a scalar is an
    array of one row). Fields made by `stream_ad.fold.state.per_key()` have one row per slot;
    a row of zeros, or whatever a previous key left there, is forgotten when an event is
    `fresh`, so only used slots are written to a snapshot.
    """

    def init(self, capacity: int) -> S:
        """State for `capacity` keys; memory is reserved lazily (`np.zeros`)."""
        ...

    def step(self, state: S, batch: A_contra) -> B_co:
        """Changes `state` and nothing else."""
        ...


@runtime_checkable
class Window(Fold[Any, KeyedBatch, WindowBatch], Protocol):
    """Which events of its key a score looks at."""

    def __init__(self, section: config.Window, fields: int) -> None:
        """`fields`: d, the number of numeric fields. Raises `ConfigError`."""


@runtime_checkable
class Threshold(Fold[Any, Scores, Verdicts], Protocol):
    """Which scores are flagged."""

    def __init__(self, section: config.ThresholdOptions) -> None: ...

    def carry(self, state: Any, old: F64, new: F64) -> None:
        """A new model judges from here on; `old`, `new` [r] are both models' scores of the same recent windows."""


@runtime_checkable
class Codec(Protocol):
    """How records become events."""

    def __init__(self, record: config.Record, numeric: Sequence[str], categorical: Sequence[str]) -> None:
        """`numeric` (d) and `categorical` (c) are the fields wanted, as dotted paths. Raises `ConfigError`."""

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        """Every record is in exactly one of the two; order is kept."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A model: stateless at scoring time; scoring never learns. A bundle makes it (`Trainable.of`)."""

    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f], NaN = absent or missing -> float32 [n], higher = more anomalous.

        Calibrated: on normal data about mean 0 and standard deviation 1. Always finite.
        """
        ...

    def explain(self, x: Tensor) -> Explanation:
        """[k,w,f] -> contribution and expected value per lag and feature; flagged rows only."""
        ...


@runtime_checkable
class Rowwise(Scorer, Protocol):
    """A scorer that says whether a row's bits depend on that row alone, for any n; else n is always the same."""

    @property
    def rowwise(self) -> bool: ...


def is_rowwise(scorer: Scorer) -> bool:
    return isinstance(scorer, Rowwise) and scorer.rowwise


@runtime_checkable
class Trainable(Protocol[O_contra]):
    """A scorer's class that `train` can build and a bundle can hold."""

    @classmethod
    def fit(cls, x: Tensor, held: Tensor, options: O_contra, progress: Progress) -> Fitted:
        """x [n,w,f] earlier rows to learn from, held [h,w,f] later ones to stop and calibrate by."""

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Of every tensor in a bundle of this architecture."""

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Scorer: ...


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

    def promote(self, version: str) -> None: ...

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
