"""Compiled loops on disk, for many processes that may compile at once, be killed, or find the disk full.

numba names the file of the code in the index before it writes it, and asks nobody. Two processes
that compile for different types then give one file two meanings; where the second step is missing,
the index names what an earlier version of the program has left. Such an entry is never found to fit:
each call loads it again, and keeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def cached(function: F) -> F:
    """Around `njit(cache=True)`. A full disk costs the next start its time; what is compiled is used all the same."""
    cache: Any = function._cache  # type: ignore[attr-defined]
    file, save_overload = cache._cache_file, cache.save_overload

    def save(key: Any, data: Any) -> None:
        folder = Path(file._cache_path)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            name = file._data_name(uuid.uuid4().int)
            file._save_data(name, data)
            known = {**file._load_index(), key: name}
            file._save_index(known)
            for old in folder.glob(f"{glob.escape(file._index_name.removesuffix('.nbi'))}.*.nbc"):
                if old.name not in known.values():
                    old.unlink(missing_ok=True)

    def saved(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save_overload(*arguments)

    file.save, cache.save_overload = save, saved
    return function
