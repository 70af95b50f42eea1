"""How much memory the state of a partition takes, worked out before the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from stream_ad.state.shard import Folds, Shard, States

SMALL, LARGE = 1024, 2048


def too_much(bound: float, spare: int | None) -> str | None:
    """What to say where the bound is more than can be had. It is reserved lazily, so that is no error."""
    if spare is None or bound <= spare:
        return None
    return (
        f"at window.max_keys all partitions would hold {round(bound) >> 20:,} MiB and {spare >> 20:,} MiB can be had "
        "here: lower window.max_keys, or give some of the workers another machine"
    )


def state_bytes(folds: Callable[[int], Folds]) -> tuple[float, float]:
    """(bytes of a partition that do not depend on its keys, bytes per key), by making two states."""
    sizes = []
    for capacity in (SMALL, LARGE):
        states = Shard(folds(capacity), 0, 0, "").states
        sizes.append(
            sum(
                getattr(state, column.name).nbytes
                for name in fields(States)
                for state in [getattr(states, name.name)]
                for column in fields(state)
            )
        )
    per_key = (sizes[1] - sizes[0]) / (LARGE - SMALL)
    return sizes[0] - per_key * SMALL, per_key
