"""What has changed since the latest snapshots, and what the next start costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_ad.config import Config
    from stream_ad.config.features import FeatureSpec


def changes(config: Config, spec: FeatureSpec) -> dict[str, Any]:
    """Facts for `check`: `changed` in words, and the events that the next start folds again, silently. Raises
    `ConnectionFailed`, `InputError`."""
    from stream_ad.checkpoint.throughput import CAREFUL_PER_S
    from stream_ad.io.kafka.admin import identity, reach, start_offsets
    from stream_ad.io.redis.stores import RedisStateStore
    from stream_ad.state import assemble
    from stream_ad.state.settings import changed
    from stream_ad.state.snapshot import Opened

    topic = config.source.topic
    folds = assemble.folds(config, spec, capacity=1).of_topic(*identity(config.kafka, topic, reach(config.kafka)))
    store = RedisStateStore(config.redis)
    found: dict[str, None] = {}
    again, seconds = 0, 0.0
    for partition, start in start_offsets(config.kafka, topic).items():
        parts = store.load(partition)
        if parts is None:
            continue
        try:
            head = Opened.of(parts).head
        except ValueError:
            continue  # the start says so, and folds again
        words = changed(head.get("settings"), folds.settings)
        if not words and head.get("layout") != folds.layout:
            words = ["features, windows or thresholds"]
        if words:
            found |= dict.fromkeys(words)
            there = max(0, head["next_offset"] - start)
            count = {"all": there, "horizon": min(there, config.redis.horizon_events), "cold": 0}[config.redis.rebuild]
            again += count
            seconds += count / (head.get("events_per_s") or CAREFUL_PER_S)
    return {"changed": list(found), "folded_again": again, "folded_again_s": round(seconds, 1)}


def sentence(facts: dict[str, Any]) -> str:
    from stream_ad.state.settings import listed

    if not facts["folded_again"]:
        cost = "begins cold (redis.rebuild)"
    else:
        seconds = f"{facts['folded_again_s']:.3g}"
        cost = f"folds {facts['folded_again']:,} events again, silently, in about {seconds} s (redis.rebuild)"
    return f"since the latest snapshots {listed(facts['changed'])}: the next start {cost}"
