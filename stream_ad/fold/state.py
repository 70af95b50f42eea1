"""States of folds: dataclasses of numpy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Records: TypeAlias = npt.NDArray[np.void]


def per_key() -> Any:
    """A state field with one row per slot: only the used slots are written to a snapshot."""
    return dataclasses.field(metadata={"per_key": True})


def records(array: npt.NDArray[Any], columns: np.dtype[np.void]) -> Records:
    """The rows of an array [n,c] as records [n] whose columns have names, in the same memory; of [c] one record.

    Raises `ValueError` where `columns` are not those of a row.
    """
    return array.view(columns).reshape(array.shape[:-1] or (1,))


def per_key_fields(state: Any) -> list[str]:
    return [column.name for column in dataclasses.fields(state) if column.metadata.get("per_key")]


def arrays(state: Any, used: int) -> dict[str, npt.NDArray[Any]]:
    """The state's arrays by name, per-key ones cut to the first `used` slots."""
    kept = {}
    for column in dataclasses.fields(state):
        value = getattr(state, column.name)
        kept[column.name] = value[:used] if column.metadata.get("per_key") else value
    return kept


def part(state: Any, used: int) -> Any:
    """The state of the first `used` slots, in the same memory: whoever walks it leaves the memory of free slots
    unreserved."""
    return dataclasses.replace(state, **arrays(state, used))


def fill(state: Any, saved: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes saved arrays into a freshly made state. Raises `ValueError` where they do not fit."""
    names = {column.name for column in dataclasses.fields(state)}
    if names != set(saved):
        raise ValueError(f"arrays {sorted(saved)} where {sorted(names)} are expected")
    for column in dataclasses.fields(state):
        target, value = getattr(state, column.name), saved[column.name]
        if column.metadata.get("per_key"):
            if len(value) > len(target):
                raise ValueError(f"{column.name}: {len(value)} keys do not fit into {len(target)}")
            target = target[: len(value)]
        if target.shape != value.shape or target.dtype != value.dtype:
            raise ValueError(
                f"{column.name}: {value.dtype}{list(value.shape)} where {target.dtype}{list(target.shape)} is expected"
            )
        target[...] = value


def bytes_per_key(state: Any) -> int:
    """Bytes of one slot, over all per-key arrays."""
    total = 0
    for column in dataclasses.fields(state):
        if column.metadata.get("per_key"):
            array: npt.NDArray[Any] = getattr(state, column.name)
            total += array.itemsize * int(np.prod(array.shape[1:]))
    return total
