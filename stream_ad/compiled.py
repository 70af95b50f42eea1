"""Compiled loops are cached on disk, where there is room."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def forgiving(function: F) -> F:
    """Around `njit(cache=True)`: a full disk costs the next start its time; what is compiled is used all the same."""
    cache: Any = function._cache  # type: ignore[attr-defined]
    save = cache.save_overload

    def saved(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save(*arguments)

    cache.save_overload = saved
    return function
