"""What the built-in scorer and threshold promise on streams whose anomalies are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from stream_ad import config
from stream_ad.batch import RawBatch
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly, judge
from tests.support.clean_streams import flagged, values_of

KNOWN, COLD = 50, 300  # keys
WARM_ROWS = 40_000  # of known keys, before and while cold ones come
RATE = 1e-4
CONFIG = config.parse(
    {
        "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
        "features": {"half_life_rows": 3000, "event": [], "numeric": {"a": ["zscore", "diff"]}},
        "threshold": {"false_alarm_rate": RATE},
    }
)


def flags(
    key: list[int], value: Sequence[float | None], ms: list[int] | None = None, settings: config.Config = CONFIG
) -> np.ndarray:
    parts = Assembly.of(settings)
    found, shard = [], {0: parts.shard(0)}
    with LocalModels(settings) as models:
        for first in range(0, len(key), 2000):
            last = min(first + 2000, len(key))
            lines: list[bytes | None] = [
                orjson.dumps(
                    {"k": f"k{key[at]}", "t": 1_700_000_000_000 + (1000 * at if ms is None else ms[at]), "a": value[at]}
                )
                for at in range(first, last)
            ]
            n = len(lines)
            offset = np.arange(first, last)
            raw = RawBatch("t", 0, offset, np.full(n, -1), [None] * n, lines, lambda row: [], last)
            found += [verdicts.flag for verdicts in judge(parts, shard, [raw], models).verdicts]
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("row", "decades", "least"),
    [(8, 0, 0.5), (16, 0, 0.9), (100, 0, 0.99), (100, 2, 0.99), (400, 10, 0.9)],
)
def test_a_spike_of_ten_deviations_is_found_early_in_a_keys_life(row: int, decades: int, least: float) -> None:
    """Keys have levels of their own, and scales, which differ by up to so many powers of ten. The spike is the `row`-th
    value of each cold key, counted from 0."""
    random = np.random.default_rng(row)
    level = random.normal(0.0, 3.0, KNOWN + COLD)
    scale = 10.0 ** random.uniform(-2.0, decades - 2.0, KNOWN + COLD)
    order = [(at * COLD * 40 / WARM_ROWS, int(random.integers(KNOWN))) for at in range(WARM_ROWS)]
    order += [(40 * cold + 7 * at + random.random(), KNOWN + cold) for cold in range(COLD) for at in range(row + 3)]
    key = [key for _, key in sorted(order)]
    seen = np.zeros(KNOWN + COLD, int)
    value, spike = [], np.zeros(len(key), bool)
    for at, one in enumerate(key):
        spike[at] = one >= KNOWN and seen[one] == row
        seen[one] += 1
        value.append(float(scale[one] * (level[one] + (10.0 if spike[at] else random.normal()))))
    flag = flags(key, value)
    assert spike.sum() == COLD
    assert flag[spike].mean() >= least
    assert flag[~spike].mean() <= RATE


@pytest.mark.parametrize("event", [["gap"], []])
def test_spikes_after_a_pause_of_the_whole_feed_are_found(event: list[str]) -> None:
    """The gap of every key is far out at once, and what the threshold learns of it must not hide what follows."""
    keys, before, after, noise = 500, 150, 60, np.random.default_rng(1)
    section = CONFIG.features.model_copy(update={"event": event, "numeric": {"a": ["zscore"]}})
    window = CONFIG.window.model_copy(update={"rows": 8})
    settings = CONFIG.model_copy(update={"features": section, "window": window})
    key = [at % keys for at in range(keys * (before + after))]
    ms = [at // 15 if at < keys * before else 40_000 + (at - keys * before) // 2 for at in range(len(key))]
    value = noise.normal(50.0, 5.0, len(key))
    spike = np.zeros(len(key), bool)
    spike[keys * before + keys - 1 :: keys] = True
    key = [int(noise.integers(keys)) if spike[at] else one for at, one in enumerate(key)]
    value[spike] = 5000.0
    flag = flags(key, value.tolist(), ms, settings)
    assert spike.sum() == after
    assert flag[spike].all()
    assert flag[~spike].sum() < keys / 25  # the pause is no key's own gap


@pytest.mark.parametrize("pattern", ["in turn", "at once", "at random"])
def test_a_pause_of_the_whole_feed_is_no_keys_own_gap(pattern: str) -> None:
    """100 keys speak every 10 s, then none for two hours."""
    keys, rounds, pause, noise = 100, 300, 7_200_000, np.random.default_rng(2)
    section = CONFIG.features.model_copy(update={"event": ["gap"], "numeric": {"a": ["zscore"]}})
    settings = CONFIG.model_copy(update={"features": section, "window": CONFIG.window.model_copy(update={"rows": 8})})
    offset = {"in turn": np.arange(keys) * 100, "at once": np.zeros(keys), "at random": noise.uniform(0, 9_000, keys)}
    events = [
        (int(10_000 * at + offset[pattern][key] + (pause if at >= rounds / 2 else 0)), key)
        for at in range(rounds)
        for key in range(keys)
    ]
    events.sort()
    flag = flags(
        [key for _, key in events], noise.normal(size=len(events)).tolist(), [ms for ms, _ in events], settings
    )
    assert flag.sum() <= keys / 20


@pytest.mark.parametrize("kind", ["missing", "calm"])
@pytest.mark.parametrize("rows", [100, 300])
def test_a_stretch_without_values_or_without_noise_hides_no_spike_and_flags_no_noise(kind: str, rows: int) -> None:
    """Of 3 keys, in 8 streams: from row 1000 on. The spikes of each come 20, 60, 150 and 400 rows after its end."""
    keys, end, found, false = 3, 1000 + rows, [], []
    section = CONFIG.features.model_copy(update={"numeric": {"a": ["zscore"]}})
    threshold = CONFIG.threshold.model_copy(update={"false_alarm_rate": 1e-3})
    settings = CONFIG.model_copy(update={"features": section, "threshold": threshold})
    for seed in range(8):
        value = np.random.default_rng(seed).normal(size=(end + 500, keys))
        value[1000:end] *= np.nan if kind == "missing" else 1e-3
        spike = np.zeros(value.shape, bool)
        spike[[end + after for after in (20, 60, 150, 400)]] = True
        value[spike] = 8.0
        key = np.tile(np.arange(keys), len(value)).tolist()
        flag = flags(key, [None if one != one else one for one in value.ravel().tolist()], settings=settings)
        flag = flag.reshape(value.shape)
        found.append(flag[spike])
        false.append(flag[200:][~spike[200:]])
    assert np.concatenate(found).mean() >= 0.9
    assert np.concatenate(false).mean() <= 1e-3


@pytest.mark.parametrize(
    ("stream", "rate", "off"),
    [
        ("AR(.98)", 1e-2, 0.2),
        ("Gaussian", 1e-3, 0.2),
        ("lognormal", 1e-3, 0.2),
        ("t3", 1e-3, 0.2),
        ("daily", 1e-3, 0.2),
        ("Poisson", 1e-3, 0.2),
        ("mixed", 1e-3, 0.2),
        ("Gaussian", 1e-4, 0.5),
        ("lognormal", 1e-4, 0.5),
        ("Poisson", 1e-4, 0.5),
    ],
)
def test_the_stated_rate_of_false_alarms_is_realised(stream: str, rate: float, off: float) -> None:
    """On clean streams, also where keys have different distributions; `make bench ARGS=calibration` has those where it
    is not."""
    flag = flagged(values_of(stream), rate)
    assert flag.mean() == pytest.approx(rate, rel=off)
    assert flag.mean(axis=0).max() < 10 * rate
