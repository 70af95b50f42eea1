"""Parts small enough to be folded a hundred thousand times, in which every slip shows.

The state of a partition is one number, mixed from every event, the version that scored it and every
swap on the way: an event that is lost, folded twice, out of order or by another version changes all
alerts after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream_ad.batch import Message, RawBatch, RejectBatch
from stream_ad.codec.decoded import Decoded
from stream_ad.messages import rejects as reject
from stream_ad.protocols import Swap
from stream_ad.state.shard import Folds

MOST_BYTES = 1000
MASK = (1 << 64) - 1
SWAPPED = 0x5DEECE66D
NUMBERS = {"statistical": 1, "a": 2, "b": 3}


def mixed(state: int, value: int) -> int:
    """A step of a linear congruential generator (Knuth's MMIX constants)."""
    return ((state ^ value) * 6364136223846793005 + 1442695040888963407) & MASK


def is_reject(offset: int) -> bool:
    return offset % 5 == 3


def alert(partition: int, offset: int, state: int) -> bytes:
    """What is told of an event: every one is an alert, so that nothing stays hidden."""
    return b"%d/%d/%d" % (partition, offset, state)


class Batch:
    """All batches of the chain in one."""

    __slots__ = ("offset", "partition")
    dropped = 0
    rejects = None
    quiet = np.zeros(0, np.bool_)

    def __init__(self, partition: int, offset: Sequence[int]) -> None:
        self.partition, self.offset = partition, offset

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def windows(self) -> Batch:
        return self

    keyed = x = windows

    def slice(self, first: int, last: int) -> Batch:
        return Batch(self.partition, self.offset[first:last])


class Alerts:
    def __init__(self, offset: np.ndarray, texts: list[bytes]) -> None:
        self.offset, self.texts = offset, texts

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Alerts:
        return Alerts(self.offset[rows], [self.texts[row] for row in rows])


class Verdicts:
    def __init__(self, alerts: Alerts, threshold: list[float]) -> None:
        self.alerts, self.threshold = alerts, threshold

    def __len__(self) -> int:
        return len(self.threshold)


@dataclass
class Nothing:
    pass


@dataclass
class State:
    mixed: np.ndarray = field(default_factory=lambda: np.zeros(1, np.uint64))


class Passing:
    """A fold without state that hands on what it gets."""

    def init(self, capacity: int) -> Nothing:
        return Nothing()

    def step(self, state: Nothing, batch: Any) -> Any:
        return batch

    def hide(self, batch: Any) -> Any:
        return batch

    def judged(self, batch: Any) -> Any:
        return batch

    def used(self, state: Nothing) -> int:
        return 0

    def latest_ms(self, state: Nothing) -> int:
        return 0

    def spent(self, state: Nothing, now_ms: int) -> tuple[int, int, int]:
        return 0, 0, 0

    def windows(self, state: Nothing) -> list[int]:
        return [1]


class Mixing:
    """The threshold."""

    def init(self, capacity: int) -> State:
        return State()

    def step(self, state: State, scores: Any) -> Verdicts:
        value, found, texts = int(state.mixed[0]), [], []
        for offset, score in zip(scores.features.offset, scores.score.tolist(), strict=True):
            value = mixed(value, offset << 8 | NUMBERS[scores.version] << 4 | score)
            found.append(offset)
            texts.append(alert(scores.features.partition, offset, value))
        state.mixed[0] = value
        return Verdicts(Alerts(np.array(found, np.int64), texts), scores.score)

    def carry(self, state: State, old: Any, new: Any) -> None:
        state.mixed[0] = mixed(int(state.mixed[0]), SWAPPED)


class Telling:
    """Incidents."""

    def init(self, capacity: int) -> Nothing:
        return Nothing()

    def step(self, state: Nothing, verdicts: Verdicts) -> Alerts:
        return verdicts.alerts


class Silent:
    def init(self, capacity: int) -> Nothing:
        return Nothing()

    def step(self, state: Nothing, verdicts: Verdicts) -> tuple[()]:
        return ()


FOLDS: Any = Folds(
    keys=Passing(),  # type: ignore[arg-type]
    hidden=Passing(),  # type: ignore[arg-type]
    window=Passing(),
    features=Passing(),
    recent=Passing(),  # type: ignore[arg-type]
    threshold=Mixing(),  # type: ignore[arg-type]
    incidents=Telling(),
    silence=Silent(),
    ranges=Silent(),
    budget=Passing(),  # type: ignore[arg-type]
    capacity=1,
    layout="toy",
    settings={},
)


class Done:
    """A future that has its result."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        return self._value


@dataclass(frozen=True)
class Loaded:
    version: str


class Engine:
    """A score is the number of the model."""

    def load(self, blob: bytes | None) -> Loaded:
        return Loaded((blob or b"statistical").decode())

    def submit(self, loaded: Loaded, xs: Sequence[Any]) -> Done:
        return Done([np.full(len(x), NUMBERS[loaded.version]) for x in xs])


class Outbox:
    def __init__(self, sink: Any) -> None:
        self._sink, self._waiting = sink, []  # type: ignore[var-annotated]

    def add(self, verdicts: Verdicts, alerts: Alerts) -> None:
        self._waiting += alerts.texts

    def reject(self, rejects: RejectBatch) -> None:
        if len(rejects):
            self._sink.send("rejects", reject.encode(rejects, MOST_BYTES, True))

    def send_all(self) -> None:
        if self._waiting:
            self._sink.send("alerts", [Message(None, text, []) for text in self._waiting])
            self._waiting = []


def decoded(partition: int, first: int, last: int) -> Decoded:
    """Offsets `first` to `last`, not included."""
    offsets = np.arange(first, last, dtype=np.int64)
    raw = RawBatch(
        "t", partition, offsets, offsets, [None] * len(offsets), [b"%d" % at for at in offsets], lambda _: [], last
    )
    bad = [row for row in range(last - first) if is_reject(first + row)]
    good = [at for at in range(first, last) if not is_reject(at)]
    events, rejects = Batch(partition, good), RejectBatch(raw, bad, ["bad_json: toy"] * len(bad))
    return Decoded(raw, events, rejects, first, last, 0)  # type: ignore[arg-type]


def golden(swaps: Mapping[int, Sequence[Swap]], ends: Mapping[int, int]) -> tuple[Counter[bytes], Counter[bytes]]:
    """Alerts and rejects of an undisturbed fold of the whole log, swapping where the log of models says so."""
    alerts: Counter[bytes] = Counter()
    rejects: Counter[bytes] = Counter()
    for partition, end in ends.items():
        value, version, due = 0, "", list(swaps[partition])
        for offset in range(end):
            while due and due[0].offset <= offset:
                swap = due.pop(0)
                if version and swap.version != version:
                    value = mixed(value, SWAPPED)
                version = swap.version
            if is_reject(offset):
                rejects[b"%d" % offset] += 1
                continue
            number = NUMBERS[version]
            value = mixed(value, offset << 8 | number << 4 | number)
            alerts[alert(partition, offset, value)] += 1
    return alerts, rejects
