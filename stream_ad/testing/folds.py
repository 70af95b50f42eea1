"""The laws of a fold: split invariance (1), snapshot (2), independent keys (5), and a threshold's `carry`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stream_ad.batch import F64, I64, U8, Scores, Verdicts
from stream_ad.fold.state import arrays, per_key
from stream_ad.protocols import Fold, Threshold
from stream_ad.state.shard import Folds, Shard
from stream_ad.testing.batches import assert_same, columns_of, cut, events_of, keyed_of, rows_of
from stream_ad.testing.samples import judged_stream

Make = Callable[[], Fold[Any, Any, Any]]


def check_threshold(make: Callable[[], Threshold], seeds: Sequence[int] = range(8), capacity: int = 6) -> None:
    """All laws of a threshold, on generated scores of several keys."""
    if not seeds:
        raise AssertionError("no seeds: the law sees nothing")
    for seed in seeds:
        batch = judged_stream(seed)
        n = events_of(batch)
        rng = np.random.default_rng(seed)
        check_split_invariance(make, batch, rng.integers(1, n, 4).tolist(), capacity)
        check_snapshot(make, batch, int(rng.integers(1, n)), capacity)
        check_keys_independent(make, batch, n - 1, capacity)
        check_carry(make, batch, rng.normal(size=64), rng.normal(3.0, 9.0, 64), capacity)


def check_split_invariance(make: Make, batch: Any, cuts: Sequence[int], capacity: int) -> None:
    """`step(a ++ b)` equals `step(a); step(b)`, outputs and state, bit for bit.

    `batch` is a batch of the fold's input, `cuts` the events before which it is cut: one of them within it.
    """
    n = events_of(batch)
    _assert_rows(batch, "the batch")
    if not any(0 < at < n for at in cuts):
        raise AssertionError(f"no cut of {list(cuts)} lies within {n} events: the law sees nothing")
    one, other = make(), make()
    state, pieces_state = one.init(capacity), other.init(capacity)
    expected = one.step(state, batch)
    _assert_flags(batch, expected)
    got, rows = [], 0
    for first, last in itertools.pairwise([0, *sorted(cuts), n]):
        part = cut(batch, first, last)
        got.append((other.step(pieces_state, part), first, rows))
        rows += len(part)
    assert_same(columns_of((expected, 0, 0)), columns_of(*got), f"cut at {list(cuts)}: output")
    assert_same(arrays(state, capacity), arrays(pieces_state, capacity), f"cut at {list(cuts)}: state")


def check_snapshot(make: Make, batch: Any, at: int, capacity: int, used: int | None = None) -> None:
    """A state that is saved and restored after `at` events goes on as the original, bit for bit.

    A shard saves and restores it, as a worker does. `used`: 1 + the highest slot of the first `at` events;
    read from the batch where it has slots.
    """
    first, second = cut(batch, 0, at), cut(batch, at, events_of(batch))
    _assert_rows(first, f"what comes before event {at}")
    _assert_rows(second, f"what comes from event {at} on")
    fold = make()
    state = fold.init(capacity)
    before = fold.step(state, first)
    if used is None:
        used = int(keyed_of(first).slot.max(initial=-1)) + 1
    restored_fold = make()
    restored = _restored(fold, state, restored_fold, used, capacity)
    expected, got = fold.step(state, second), restored_fold.step(restored, second)
    _assert_flags(batch, before, expected)
    assert_same(columns_of((expected, 0, 0)), columns_of((got, 0, 0)), f"restored after {at} events: output")
    assert_same(arrays(state, capacity), arrays(restored, capacity), f"restored after {at} events: state")


def check_keys_independent(make: Make, batch: Any, at: int, capacity: int) -> None:
    """Event `at` is answered from its key's own rows and from what all keys share (fields not `per_key()`).

    For folds whose rows stand alone: not for those that link them, as a table of keys or a timer does.
    """
    event = cut(batch, at, at + 1)
    _assert_rows(event, f"event {at}")
    own = int(keyed_of(event).slot[0])
    if (keyed_of(batch).slot[:at] == own).all():
        raise AssertionError(f"no other key comes before event {at}: the law sees nothing")
    fold = make()
    state, cleared = fold.init(capacity), fold.init(capacity)
    fold.step(state, cut(batch, 0, at))
    for column in dataclasses.fields(state):
        kept, target = getattr(state, column.name), getattr(cleared, column.name)
        rows = slice(own, own + 1) if column.metadata.get("per_key") else slice(None)
        target[rows] = kept[rows]
    expected, got = fold.step(state, event), fold.step(cleared, event)
    assert_same(columns_of((expected, 0, 0)), columns_of((got, 0, 0)), f"event {at} without the other keys: output")
    for column in dataclasses.fields(state):
        rows = slice(own, own + 1) if column.metadata.get("per_key") else slice(None)
        one, other = getattr(state, column.name)[rows], getattr(cleared, column.name)[rows]
        assert_same({column.name: one}, {column.name: other}, f"event {at} without the other keys: state")


def check_carry(make: Callable[[], Threshold], batch: Scores, old: F64, new: F64, capacity: int) -> None:
    """`carry` is a function of the state and of both models' scores: a restored state carries over alike.

    `old` and `new` [r] are scores of the same windows by two models; finite, and there may be none.
    """
    given = old.tobytes(), new.tobytes()

    class Swapping:
        """Carries over before each batch."""

        def __init__(self) -> None:
            self.threshold = make()

        def init(self, capacity: int) -> Any:
            return self.threshold.init(capacity)

        def step(self, state: Any, batch: Scores) -> Verdicts:
            self.threshold.carry(state, old, new)
            return self.threshold.step(state, batch)

    check_snapshot(Swapping, batch, events_of(batch) // 2, capacity)
    assert (old.tobytes(), new.tobytes()) == given, "carry writes to the scores that it is given"


def _assert_rows(batch: Any, what: str) -> None:
    if not rows_of(batch):
        raise AssertionError(f"{what} has no rows for the fold: the law sees nothing")


def _assert_flags(batch: Any, *outputs: Any) -> None:
    """Where verdicts go in or come out, one of them must be a flag."""
    verdicts = [each for each in (batch, *outputs) if isinstance(each, Verdicts)]
    if verdicts and not any(each.flag.any() for each in verdicts):
        raise AssertionError("no row is flagged: the law sees nothing of what follows a flag")


# ── a shard with one fold ────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class _Slots:
    count: I64  # [1]
    slot: U8 = per_key()


class _Counting:
    """In the place of the fold of keys: says how many slots are used."""

    def init(self, capacity: int) -> _Slots:
        return _Slots(np.zeros(1, np.int64), np.zeros(capacity, np.uint8))

    def used(self, state: _Slots) -> int:
        return int(state.count[0])


@dataclasses.dataclass
class _Nothing:
    pass


class _Absent:
    """In the place of a fold that the law is not about."""

    def init(self, capacity: int) -> _Nothing:
        return _Nothing()


def _restored(fold: Fold[Any, Any, Any], state: Any, into: Fold[Any, Any, Any], used: int, capacity: int) -> Any:
    """The state of `into` after a shard with `state` was saved and restored."""
    absent: Any = _Absent()
    counting: Any = _Counting()

    def folds(one: Any) -> Folds:
        absents: Any = {field.name: absent for field in dataclasses.fields(Folds)}
        return Folds(
            **absents | {"keys": counting, "window": one, "capacity": capacity, "layout": "law", "settings": {}}
        )

    shard = Shard(folds(fold), 0, 0, "law")
    shard.states.window = state
    shard.states.keys.count[0] = used
    restored, _ = Shard.restore(folds(into), 0, shard.snapshot().parts())
    return restored.states.window
