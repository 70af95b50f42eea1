"""The border of a part: what a part answers is checked where it enters, and what fails is kept apart (law 6).

A part may be a plug-in. What it raises, or answers in another shape than its contract says, must become
a defined outcome of the rows that it concerns, and of no others: the same log then gives the same alerts.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from stream_ad.errors import StreamAdError

T = TypeVar("T")


class ContractBroken(Exception):
    """An answer that is not what the part's contract says; the text says in what."""


@dataclass(frozen=True, slots=True)
class Stretch(Generic[T]):
    """What a part answered for the rows from `first` up to, not including, `last`."""

    first: int
    last: int
    answer: T


@dataclass(frozen=True, slots=True)
class Failed:
    """A row for which a part gives no answer, and why."""

    row: int
    reason: str


def isolated(rows: int, ask: Callable[[int, int], T]) -> Iterator[Stretch[T] | Failed]:
    """Answers that together cover the rows 0 to `rows`, in order.

    `ask(first, last)` is called for all rows, and for both halves of a stretch for which it raises. So a
    part is asked once where nothing is wrong, and where it depends on a row alone whether that row fails,
    so does what becomes of the row. A `StreamAdError` and a `MemoryError` speak of the configuration or
    of the machine and of no row: they leave this function.
    """
    waiting = [(0, rows)] if rows else []
    while waiting:
        first, last = waiting.pop()
        outcome: Stretch[T] | Failed
        try:
            outcome = Stretch(first, last, ask(first, last))
        except (StreamAdError, MemoryError):
            raise
        except Exception as error:
            if last - first > 1:
                middle = (first + last) // 2
                waiting += [(middle, last), (first, middle)]
                continue
            outcome = Failed(first, reason(error))
        yield outcome


def reason(error: Exception) -> str:
    """What a part did, and where. Not the error's text: it may hold what the record held, and reasons reach logs."""
    if isinstance(error, ContractBroken):
        return str(error)
    *_, frame = traceback.extract_tb(error.__traceback__)
    return f"raised {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def check_array(name: str, array: object, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
    """Raises `ContractBroken` unless `array` is one of this type and shape."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        given = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ContractBroken(f"{name} is {given} where {np.dtype(dtype)}{list(shape)} is expected")
