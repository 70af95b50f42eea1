"""The laws of `stream_ad.protocols` as functions: call them on your own parts.

Each raises `AssertionError` with what broke, and answers nothing otherwise.

    check_split_invariance(lambda: MyThreshold(section), whole=scores, cuts=[0, 3, 17], capacity=8)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_ad.batch import (
    F32,
    Alerts,
    EventBatch,
    FeatureBatch,
    KeyedBatch,
    RawBatch,
    Scores,
    Strings,
    Verdicts,
    WindowBatch,
)
from stream_ad.fold.state import arrays, fill
from stream_ad.protocols import Codec, Fold, Scorer

if TYPE_CHECKING:
    from torch import Tensor


def events_of(batch: Any) -> int:
    """Events of any batch between two folds (not its scored rows)."""
    return len(batch if isinstance(batch, EventBatch) else _keyed(batch))


def cut(batch: Any, first: int, last: int) -> Any:
    """Events `first` to `last` of any batch between two folds, with the rows that belong to them."""
    part = slice(first, last)
    if isinstance(batch, EventBatch):
        return batch.slice(first, last)
    if isinstance(batch, KeyedBatch):
        return KeyedBatch(
            cut(batch.events, first, last), batch.slot[part], batch.fresh[part], batch.watermark[part], 0, None
        )
    if isinstance(batch, WindowBatch):
        inner = cut(batch.keyed, first, last)
        return WindowBatch(inner, batch.values[part], batch.age_ms[part], batch.count[part], batch.emit[part])
    if isinstance(batch, FeatureBatch):
        rows = slice(*np.searchsorted(batch.row, [first, last]))
        return FeatureBatch(cut(batch.windows, first, last), batch.row[rows] - first, batch.x[rows], batch.base[rows])
    if isinstance(batch, Scores):
        rows = slice(*np.searchsorted(batch.features.row, [first, last]))
        return Scores(cut(batch.features, first, last), batch.version, batch.score[rows])
    if isinstance(batch, Verdicts):
        rows = slice(*np.searchsorted(batch.scores.features.row, [first, last]))
        names = [column.name for column in dataclasses.fields(Verdicts)][1:]
        return Verdicts(cut(batch.scores, first, last), *(getattr(batch, name)[rows] for name in names))
    raise TypeError(f"{type(batch).__name__} does not travel between two folds")


def check_split_invariance(
    make: Callable[[], Fold[Any, Any, Any]], whole: Any, cuts: Sequence[int], capacity: int
) -> None:
    """`step(a ++ b)` equals `step(a); step(b)`, outputs and state, bit for bit.

    `whole` is a batch of the fold's input, `cuts` the events before which it is cut.
    """
    at = [0, *sorted(cuts), events_of(whole)]
    one, other = make(), make()
    state, pieces_state = one.init(capacity), other.init(capacity)
    expected = one.step(state, whole)
    got, rows = [], 0
    for first, last in itertools.pairwise(at):
        part = cut(whole, first, last)
        got.append((other.step(pieces_state, part), first, rows))
        rows += len(part)
    _same(_columns((expected, 0, 0)), _columns(*got), f"cut at {list(cuts)}: output")
    _same(arrays(state, capacity), arrays(pieces_state, capacity), f"cut at {list(cuts)}: state")


def check_snapshot(
    make: Callable[[], Fold[Any, Any, Any]], whole: Any, at: int, capacity: int, used: int | None = None
) -> None:
    """A state written after `at` events, only its first `used` slots, goes on as the original.

    `used`: 1 + the highest slot of the first `at` events; read from the batch where it has slots.
    """
    first, second = cut(whole, 0, at), cut(whole, at, events_of(whole))
    fold = make()
    state = fold.init(capacity)
    fold.step(state, first)
    if used is None:
        used = int(_keyed(first).slot.max(initial=-1)) + 1
    saved = {
        name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
        for name, array in arrays(state, used).items()
    }
    restored_fold = make()
    restored = restored_fold.init(capacity)
    fill(restored, saved)
    expected, got = fold.step(state, second), restored_fold.step(restored, second)
    _same(_columns((expected, 0, 0)), _columns((got, 0, 0)), f"restored after {at} events: output")
    _same(arrays(state, capacity), arrays(restored, capacity), f"restored after {at} events: state")


def check_keys_independent(make: Callable[[], Fold[Any, Any, Any]], whole: Any, at: int, capacity: int) -> None:
    """Event `at` is answered from its key's own rows and from what all keys share (fields not `per_key()`).

    For folds whose rows stand alone: not for those that link them, as a table of keys or a timer does.
    """
    fold = make()
    state, cleared = fold.init(capacity), fold.init(capacity)
    fold.step(state, cut(whole, 0, at))
    event = cut(whole, at, at + 1)
    own = int(_keyed(event).slot[0])
    for column in dataclasses.fields(state):
        kept, target = getattr(state, column.name), getattr(cleared, column.name)
        rows = slice(own, own + 1) if column.metadata.get("per_key") else slice(None)
        target[rows] = kept[rows]
    expected, got = fold.step(state, event), fold.step(cleared, event)
    _same(_columns((expected, 0, 0)), _columns((got, 0, 0)), f"event {at} without the other keys: output")
    for column in dataclasses.fields(state):
        rows = slice(own, own + 1) if column.metadata.get("per_key") else slice(None)
        one, other = getattr(state, column.name)[rows], getattr(cleared, column.name)[rows]
        _same({column.name: one}, {column.name: other}, f"event {at} without the other keys: state")


def check_scorer_pure(scorer: Scorer, w: int, f: int, tensor: Callable[[F32], Tensor]) -> None:
    """The same rows get the same scores, bit for bit, in any batch of a multiple of 16 rows, or of
    any number of rows where the scorer is `rowwise`.

    (Smaller batches may take other matrix kernels; the engine pads.) Also: scores are finite,
    whatever is missing, and neither the input nor the scorer changes. `tensor` is
    `torch.from_numpy`, with `.to(device)` where the scorer wants it.
    """
    noise = np.random.default_rng(0)
    x = noise.normal(size=(256, w, f)).astype(np.float32)
    x[1::4, : w // 2] = np.nan
    x[2::4, :, 0] = np.nan
    x[3] = np.nan
    x[7] *= np.float32(1e6)

    def score(rows: F32) -> F32:
        given = tensor(rows.copy())
        result: F32 = scorer.score(given).detach().cpu().numpy()
        assert given.cpu().numpy().tobytes() == rows.tobytes(), "the scorer writes to its input"
        return result

    whole = score(x)
    assert whole.shape == (256,), f"{list(whole.shape)} scores for 256 rows"
    assert whole.dtype == np.float32, f"scores are {whole.dtype}, not float32"
    strange = np.flatnonzero(~np.isfinite(whole))
    assert not len(strange), f"the scores of rows {strange.tolist()} are not finite"
    for size in (16, 48, 64, 128, *((1, 3, 100, 255) if getattr(scorer, "rowwise", False) else ())):
        for first in range(0, 256 - size + 1, size):
            part, expected = score(x[first : first + size]), whole[first : first + size]
            wrong = np.flatnonzero(part != expected)
            assert not len(wrong), (
                f"row {first + wrong[0]} scores {part[wrong[0]]} among {size} rows, {expected[wrong[0]]} among 256"
            )
    order = noise.permutation(256)
    assert (score(x[order]) == whole[order]).all(), "scores depend on the order of the rows"
    assert (score(x) == whole).all(), "the scorer learns while it scores"


def check_codec_isolation(
    codec: Codec, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
) -> None:
    """Every record is one event or one reject, in order, and is what it would be alone."""
    keys = keys if keys is not None else [b"key"] * len(values)
    events, rejects = codec.decode(_raw(keys, values, 0))
    rows = sorted([*events.row.tolist(), *rejects.row])
    assert rows == list(range(len(values))), f"{len(values)} records became rows {rows}"
    assert (np.diff(events.row) > 0).all(), "the order of the events is lost"
    assert rejects.row == sorted(rejects.row), "the order of the rejects is lost"
    assert (events.offset == events.raw.offset[events.row]).all(), "an event has another record's offset"
    for place, row in enumerate(events.row.tolist()):
        alone, refused = codec.decode(_raw(keys[row : row + 1], values[row : row + 1], row))
        assert not len(refused), f"record {row} is an event among others, alone a reject: {refused.reason}"
        here = _columns((events.slice(place, place + 1), 0, 0))
        there = _columns((alone, 0, 0))
        here.pop("row"), there.pop("row")
        _same(there, here, f"record {row} among others")
    for place, row in enumerate(rejects.row):
        alone, refused = codec.decode(_raw(keys[row : row + 1], values[row : row + 1], row))
        assert not len(alone), f"record {row} is a reject among others ({rejects.reason[place]}), alone an event"
        assert refused.reason == [rejects.reason[place]], (
            f"record {row}: {rejects.reason[place]!r}, alone {refused.reason!r}"
        )


def _raw(keys: Sequence[bytes | None], values: Sequence[bytes | None], first: int) -> RawBatch:
    n = len(values)
    offset = np.arange(first, first + n, dtype=np.int64)
    return RawBatch("law", 0, offset, 1_700_000_000_000 + offset, list(keys), list(values), lambda row: [], first + n)


def _keyed(batch: Any) -> KeyedBatch:
    while not isinstance(batch, KeyedBatch):
        if isinstance(batch, EventBatch):
            raise TypeError("events have no slots: say how many are used")
        inner = {Verdicts: "scores", Scores: "features", FeatureBatch: "windows", WindowBatch: "keyed"}
        batch = getattr(batch, inner[type(batch)])
    return batch


def _columns(*parts: tuple[Any, int, int]) -> dict[str, Any]:
    """Columns of (output, events before it, rows of the input before it), joined by name.

    Rows that point into the input are counted from the first part's beginning.
    """
    parts = tuple(part for part in parts if part[0] is not None)
    joined: dict[str, Any] = {}
    for column in dataclasses.fields(parts[0][0]) if parts else ():
        values = [getattr(output, column.name) for output, _, _ in parts]
        if isinstance(values[0], tuple):
            for c, columns in enumerate(zip(*values, strict=True)):
                joined[f"{column.name}[{c}]"] = [row for strings in columns for row in strings.tolist()]
        elif isinstance(values[0], Strings):
            joined[column.name] = [row for strings in values for row in strings.tolist()]
        elif isinstance(values[0], np.ndarray):
            if column.name == "row" and isinstance(parts[0][0], FeatureBatch):
                values = [value + events for value, (_, events, _) in zip(values, parts, strict=True)]
            elif column.name == "row" and isinstance(parts[0][0], Alerts):
                values = [np.where(v < 0, v, v + rows) for v, (_, _, rows) in zip(values, parts, strict=True)]
            joined[column.name] = np.concatenate(values)
        elif column.name == "dropped":
            joined[column.name] = sum(values)
        elif column.name == "rejects":
            joined[column.name] = [told for r in values if r for told in zip(r.row, r.reason, strict=True)]
        elif dataclasses.is_dataclass(values[0]) and not isinstance(values[0], RawBatch):
            inner = _columns(*((value, *part[1:]) for value, part in zip(values, parts, strict=True)))
            joined |= {f"{column.name}.{name}": value for name, value in inner.items()}
    return joined


def _same(expected: dict[str, Any], got: dict[str, Any], what: str) -> None:
    for name, value in expected.items():
        other = got[name]
        if isinstance(value, np.ndarray):
            shapes = [f"{array.dtype}{list(array.shape)}" for array in (other, value)]
            assert shapes[0] == shapes[1], f"{what}: {name} is {shapes[0]}, not {shapes[1]}"
            if value.tobytes() != other.tobytes():
                at = next(i for i in range(len(value)) if value[i].tobytes() != other[i].tobytes())
                raise AssertionError(f"{what}: {name}[{at}] is {other[at]}, not {value[at]}")
        else:
            assert value == other, f"{what}: {name} is {other}, not {value}"
