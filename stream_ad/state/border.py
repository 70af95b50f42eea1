"""The borders of the folds that a plug-in may bring: the window and the threshold.

A step that fails may have changed its state already, so no row can be kept apart: the run ends and names the part.
The rows that reach a fold are sound, since the borders of codec and scorer come before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from stream_ad.batch import F64, KeyedBatch, Scores, Verdicts, WindowBatch
from stream_ad.border import ContractBroken, check_array, reason
from stream_ad.errors import ConfigError, StreamAdError
from stream_ad.protocols import Fold, Threshold

A = TypeVar("A")
B = TypeVar("B")


class GuardedWindow:
    """Fold[Any, KeyedBatch, WindowBatch]: a window whose answers keep the contract."""

    def __init__(self, fold: Fold[Any, KeyedBatch, WindowBatch]) -> None:
        self._fold = fold

    def init(self, capacity: int) -> Any:
        return self._fold.init(capacity)

    def step(self, state: Any, batch: KeyedBatch) -> WindowBatch:
        """Raises `ConfigError` where the window fails or breaks its contract."""
        return _step("window.kind", self._fold, state, batch, _check_windows)


class GuardedThreshold:
    """Threshold: a threshold whose answers keep the contract."""

    def __init__(self, fold: Threshold) -> None:
        self._fold = fold

    def init(self, capacity: int) -> Any:
        return self._fold.init(capacity)

    def step(self, state: Any, batch: Scores) -> Verdicts:
        """Raises `ConfigError` where the threshold fails or breaks its contract."""
        return _step("threshold.kind", self._fold, state, batch, _check_verdicts)

    def carry(self, state: Any, old: F64, new: F64) -> None:
        """Raises `ConfigError` where the threshold fails."""
        with _named("threshold.kind", self._fold):
            self._fold.carry(state, old, new)


def _step(key: str, fold: Fold[Any, A, B], state: Any, batch: A, check: Callable[[A, B], None]) -> B:
    with _named(key, fold):
        result = fold.step(state, batch)
        check(batch, result)
    return result


@contextmanager
def _named(key: str, fold: object) -> Iterator[None]:
    try:
        yield
    except (StreamAdError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f"{key}: {type(fold).__name__} breaks its contract: {reason(error)}; nothing of this batch is committed. "
            "Mend the part, or choose another one"
        ) from error


def _check_windows(batch: KeyedBatch, windows: WindowBatch) -> None:
    n, w, d = len(batch), np.shape(windows.age_ms)[-1], batch.events.values.shape[1]
    check_array("values", windows.values, np.float64, (n, w, d))
    check_array("age_ms", windows.age_ms, np.int64, (n, w))
    check_array("count", windows.count, np.int32, (n,))
    check_array("emit", windows.emit, np.bool_, (n,))
    if windows.keyed is not batch:
        raise ContractBroken("keyed is not the batch that was given")


def _check_verdicts(scores: Scores, verdicts: Verdicts) -> None:
    m = len(scores)
    for name in ("threshold", "deviation", "p_value"):
        column = getattr(verdicts, name)
        check_array(name, column, np.float64, (m,))
        if not np.isfinite(column).all():
            raise ContractBroken(f"{name} is not finite")
    check_array("flag", verdicts.flag, np.bool_, (m,))
    check_array("shift", verdicts.shift, np.bool_, (m,))
    if m and not 0.0 < verdicts.p_value.min() <= verdicts.p_value.max() <= 1.0:
        raise ContractBroken("p_value is not in (0, 1]")
    if verdicts.scores is not scores:
        raise ContractBroken("scores is not the batch that was given")
