"""Batches between two folds: counted, cut, joined and compared to the bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from stream_ad.batch import (
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


def events_of(batch: Any) -> int:
    """Events of any batch between two folds (not its scored rows)."""
    return len(batch if isinstance(batch, EventBatch) else keyed_of(batch))


def cut(batch: Any, first: int, last: int) -> Any:
    """Events `first` to `last` of any batch between two folds, with the rows that belong to them."""
    part = slice(first, last)
    if isinstance(batch, EventBatch):
        return batch.slice(first, last)
    if isinstance(batch, KeyedBatch):
        return KeyedBatch(
            cut(batch.events, first, last),
            batch.slot[part],
            batch.fresh[part],
            batch.watermark[part],
            0,
            None,
            batch.quiet[part],
            batch.given[part],
            batch.outside[part],
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


def rows_of(batch: Any) -> int:
    """What a fold works on: scored rows where the batch has such, else events."""
    return len(batch) if isinstance(batch, FeatureBatch | Scores | Verdicts) else events_of(batch)


def keyed_of(batch: Any) -> KeyedBatch:
    """The batch as it left the fold of keys. Raises `TypeError` for events, which have no slots yet."""
    while not isinstance(batch, KeyedBatch):
        if isinstance(batch, EventBatch):
            raise TypeError("events have no slots: say how many are used")
        inner = {Verdicts: "scores", Scores: "features", FeatureBatch: "windows", WindowBatch: "keyed"}
        batch = getattr(batch, inner[type(batch)])
    return batch


def columns_of(*parts: tuple[Any, int, int]) -> dict[str, Any]:
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
            joined[column.name] = [reject for r in values if r for reject in zip(r.row, r.reason, strict=True)]
        elif dataclasses.is_dataclass(values[0]) and not isinstance(values[0], RawBatch):
            inner = columns_of(*((value, *part[1:]) for value, part in zip(values, parts, strict=True)))
            joined |= {f"{column.name}.{name}": value for name, value in inner.items()}
    return joined


def assert_same(expected: dict[str, Any], got: dict[str, Any], what: str) -> None:
    """Raises `AssertionError`, which begins with `what`, for the first difference."""
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
