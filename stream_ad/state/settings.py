"""Which settings made a snapshot: another configuration folds the same log to another state."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import orjson

from stream_ad.config import Config

Settings = Mapping[str, Any]  # by dotted key

CAPACITY = "window.max_keys"
FROM_NOW_ON = ("incidents.budget", "calendar.")  # what owners change while it runs, and nobody wants to wait for
_SHOWN = 3
_SECTIONS = {"record", "window", "features", "rules", "calendar", "threshold", "incidents", "silence"}


def folded(config: Config) -> Settings:
    """All that the codec and the folds read."""
    return {
        "pipeline": config.pipeline,
        "source.topic": config.source.topic,
        **_flat(config.model_dump(mode="json", include=_SECTIONS)),
    }


def changed(then: Settings | None, now: Settings) -> list[str]:
    """What differs, in words; nothing where `then` is None: earlier programs kept a hash only.

    What is missing in `then` had its default. A change `FROM_NOW_ON` needs no other past, and `window.max_keys` decides
    nothing while there is room for a key (`outgrown`).
    """
    if then is None:
        return []
    defaults = _defaults()
    names = [*now, *(name for name in then if name not in now)]
    return [
        _words(then, now, name)
        for name in names
        if not name.startswith((CAPACITY, *FROM_NOW_ON)) and then.get(name, defaults.get(name)) != now.get(name)
    ]


def outgrown(then: Settings | None, now: Settings, used: int) -> list[str]:
    """`window.max_keys` in words, where another one would have forgotten other keys."""
    if then is None or then.get(CAPACITY) == now.get(CAPACITY) or used < int(then.get(CAPACITY, 0)):
        return []
    return [_words(then, now, CAPACITY)]


def listed(changes: list[str]) -> str:
    more = len(changes) - _SHOWN
    return "; ".join(changes[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _words(then: Settings, now: Settings, name: str) -> str:
    was, is_ = (orjson.dumps(one[name]).decode()[:80] if name in one else "not set" for one in (then, now))
    return f"{name} was {was} and is {is_}"


def _flat(options: Settings, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


@functools.cache
def _defaults() -> Settings:
    return folded(Config())
