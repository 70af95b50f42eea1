"""Streams without anomalies, and how often a threshold flags them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from stream_ad import config
from stream_ad.batch import F64, Bool, EventBatch, RawBatch, Scores, Strings
from stream_ad.protocols import BUILT_IN
from stream_ad.score.statistical import Statistical
from stream_ad.state.assemble import Assembly

KEYS, ROWS = 50, 20_000
WARM_ROWS = 200  # of each key, which are not counted
DAY_ROWS = 1440
AT_ONCE = 200  # rows of each key in one batch
START_MS = 1_700_000_000_000
Noise = np.random.Generator


def autoregressive(noise: Noise, rows: int, keys: int) -> F64:
    values = noise.normal(size=(rows, keys))
    for row in range(1, rows):
        values[row] += 0.98 * values[row - 1]
    return values


def daily(noise: Noise, rows: int, keys: int) -> F64:
    return 3 * np.sin(2 * np.pi * np.arange(rows) / DAY_ROWS)[:, None] + noise.normal(size=(rows, keys))


STREAMS: dict[str, Callable[[Noise, int, int], F64]] = {
    "Gaussian": lambda noise, *shape: noise.normal(size=shape),
    "AR(.98)": autoregressive,
    "lognormal": lambda noise, *shape: np.exp(noise.normal(size=shape)),
    "t3": lambda noise, *shape: noise.standard_t(3, size=shape),
    "daily": daily,
    "Poisson": lambda noise, *shape: noise.poisson(5, size=shape).astype(float),
}


def values_of(name: str, rows: int = ROWS, keys: int = KEYS) -> F64:
    """[rows,keys] of one kind, or of each kind in turn for "mixed"; keys have levels of their own."""
    noise = np.random.default_rng(7)
    if name == "mixed":
        made = [stream(noise, rows, keys) for stream in STREAMS.values()]
        values = np.stack([made[key % len(made)][:, key] for key in range(keys)], axis=1)
    else:
        values = STREAMS[name](noise, rows, keys)
    levelled: F64 = values + noise.normal(0.0, 3.0, keys)
    return levelled


def flagged(values: F64, rate: float) -> Bool:
    """[rows,keys] flags by the statistical scorer and the default threshold, the first rows of each key left out."""
    rows, keys = values.shape
    made = config.parse(
        {
            "features": {"event": [], "numeric": {"a": ["zscore"]}},
            "threshold": {"false_alarm_rate": rate},
        }
    )
    parts = Assembly.of(made)
    scorer, shard, names = Statistical(parts.spec), parts.shard(0), Strings.of([b"k%d" % key for key in range(keys)])
    found = []
    for first in range(0, rows, AT_ONCE):
        part = values[first : first + AT_ONCE]
        n = part.size
        offset = np.arange(first * keys, first * keys + n)
        raw = RawBatch("clean", 0, offset, offset, [], [], lambda row: [], int(offset[-1]) + 1)
        events = EventBatch(
            raw,
            np.arange(n),
            offset,
            START_MS + 1000 * (offset // keys),
            names.take(np.tile(np.arange(keys), len(part))),
            part.reshape(-1, 1).copy(),
            (),
            np.zeros((n, 0), np.uint64),
        )
        features = shard.submit(events)
        scores = scorer.score(torch.from_numpy(features.x)).double().numpy()
        verdicts, _ = shard.finish(Scores(features, BUILT_IN, scores))
        found.append(verdicts.flag)
    flags: Bool = np.concatenate(found).reshape(rows, keys)[WARM_ROWS:]
    return flags
