"""Fault points: every call that leaves a worker can kill it, right before or right after.

This module puts them around the calls, in the worker's process; the program does not know them.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KILL, PROMOTE, ZOMBIE = "kill -9 of a worker", "promotion", "zombie: a worker frozen past its session"

# call -> the fault that brings a worker to it again; "" = it comes by all the time
CALLS = {
    "poll": "",
    "init": ZOMBIE,
    "begin": "",
    "produce": "",
    "offsets": "",
    "commit": "",
    "abort": ZOMBIE,
    "claim": "",
    "load": "",
    "save": "",
    "swaps": "",
    "wish": "",
    "bundle": PROMOTE,
    "swap": PROMOTE,
    "save_swap": PROMOTE,
    "assigned": "",
    "revoked": KILL,
}
POINTS = [f"{when} {call}" for call in CALLS for when in ("before", "after")]


@dataclass(frozen=True)
class Plan:
    """The process dies at the `count`-th time it comes by `point`; a line in `hits` says so first."""

    number: int
    point: str
    count: int
    hits: Path


def install(plan: Plan | None) -> None:
    """Puts the points around the calls of this process."""
    if plan is None:
        return
    from stream_ad.io.kafka import sink as kafka_sink
    from stream_ad.io.kafka.models import KafkaModelLog
    from stream_ad.io.kafka.source import KafkaSource
    from stream_ad.io.redis.stores import RedisModelStore, RedisStateStore
    from stream_ad.runtime import swaps
    from stream_ad.runtime.loop import Pipeline

    left, lock = plan.count, threading.Lock()

    def hit(point: str) -> None:
        nonlocal left
        if point != plan.point:
            return
        with lock:
            left -= 1
            if left == 0:
                with plan.hits.open("a") as file:
                    file.write(f"{time.time():.3f} {plan.number} {point}\n")
                os.kill(os.getpid(), signal.SIGKILL)

    class Producer(kafka_sink.Producer):  # type: ignore[misc, name-defined]
        """The client's producer with points around what it sends."""

    kafka_sink.Producer = Producer  # type: ignore[misc]
    for owner, name, call in (
        (Producer, "init_transactions", "init"),
        (Producer, "begin_transaction", "begin"),
        (Producer, "produce", "produce"),
        (Producer, "send_offsets_to_transaction", "offsets"),
        (Producer, "commit_transaction", "commit"),
        (Producer, "abort_transaction", "abort"),
        (KafkaSource, "poll", "poll"),
        (RedisStateStore, "claim", "claim"),
        (RedisStateStore, "load", "load"),
        (RedisStateStore, "save", "save"),
        (RedisModelStore, "wish", "wish"),
        (RedisModelStore, "get", "bundle"),
        (KafkaModelLog, "swaps", "swaps"),
        (Pipeline, "assigned", "assigned"),
        (Pipeline, "revoked", "revoked"),
        (Pipeline, "swap", "swap"),
        (swaps, "make", "save_swap"),
    ):
        _around(owner, name, call, hit)


def _around(owner: Any, name: str, call: str, hit: Callable[[str], None]) -> None:
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        hit(f"before {call}")
        result = inner(*args, **kwargs)
        hit(f"after {call}")
        return result

    setattr(owner, name, outer)
