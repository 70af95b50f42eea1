"""How often keys have events, from the times of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stream_ad.batch import F64, I64

_STEADY = 0.5  # variation of gaps below which a key has a rhythm
_GO_ON = 0.9  # share of keys that still speak at the end of the sample; a few may just be silent
_LATE_GAPS = 3  # after so many gaps without an event a key does not speak any more
_FASTER = 3  # times: events come so much faster than the gaps say, which are then those between the sample's places
_ENOUGH = 20  # records to see an order in
_SORTED = 0.9  # share of steps that go one way
_PLACES = 8  # of a partition that a sample is taken from, at most


@dataclass(frozen=True, slots=True)
class Rhythm:
    lateness_ms: int = 0  # how far events of a partition lag behind the newest
    gap_ms: float = 0.0  # between events of a key; 0 = unknown
    steady: bool = False  # keys have events at regular intervals
    lasting: bool = False  # and nearly all of several keys go on to the end of the sample
    order: str = ""  # that of the records, where it is not about that of their times; then no lateness is known


def rhythm_of(ts_ms: I64, keys: Sequence[bytes | None], partition: Sequence[int]) -> Rhythm:
    """[n] each, in the order of the log; a time of -1 is none."""
    lateness_ms = 0
    newest: dict[int, int] = {}
    times: dict[bytes | None, list[int]] = {}
    where: dict[bytes | None, int] = {}
    for key, at, ms in zip(keys, partition, ts_ms.tolist(), strict=True):
        if ms < 0:
            continue
        newest[at] = max(newest.get(at, ms), ms)
        lateness_ms = max(lateness_ms, newest[at] - ms)
        times.setdefault(key, []).append(ms)
        where[key] = at
    order = _order(ts_ms, keys, partition)
    if order:
        lateness_ms = 0
    gaps = [np.diff(np.sort(np.array(of_key, np.float64))) for of_key in times.values() if len(of_key) > 2]
    if not gaps:
        return Rhythm(lateness_ms, order=order)
    gap_ms, pace_ms = float(np.median(np.concatenate(gaps))), _pace_ms(keys, ts_ms, partition)
    between_places = not order and pace_ms < gap_ms / _FASTER
    steady = bool(np.median([_variation(part) for part in gaps]) < _STEADY) and gap_ms > 0 and not between_places
    if not steady:
        return Rhythm(lateness_ms, gap_ms if order else min(gap_ms, pace_ms), order=order)
    silent_ms = [newest[where[key]] - max(of_key) for key, of_key in times.items()]
    speaking = sum(ms <= _LATE_GAPS * gap_ms for ms in silent_ms)
    return Rhythm(lateness_ms, gap_ms, steady, len(silent_ms) > 1 and speaking >= _GO_ON * len(silent_ms), order)


def _order(ts_ms: I64, keys: Sequence[bytes | None], partition: Sequence[int]) -> str:
    """What a table is sorted by, if not by time: then the lateness of its records is no fact of the stream."""
    if len(ts_ms) < _ENOUGH or set(partition) != {partition[0]} or ts_ms.min() < 0:
        return ""
    back = np.diff(ts_ms) < 0
    same = np.array([key == after for key, after in pairwise(keys)])
    if back.any() and back.sum() >= _SORTED * np.count_nonzero(np.diff(ts_ms)):
        return "newest first"
    blocks = int((~same).sum()) + 1
    if 1 < blocks == len(set(keys)) and back.any() and back[same].mean() <= 1 - _SORTED:
        return "key after key"
    return ""


def _pace_ms(keys: Sequence[bytes | None], ts_ms: I64, partition: Sequence[int]) -> float:
    """The mean gap between events of a key, by how many keys a partition has and how often any of them speaks.

    Of a key among many, a sample has an event here and there, and the gaps between them are those between its places.
    """
    paces = []
    for at in set(partition):
        rows = [row for row, one in enumerate(partition) if one == at and ts_ms[row] >= 0]
        steps = np.sort(np.maximum(np.diff(ts_ms[rows]), 0))[:-_PLACES]
        if len(steps):
            paces.append(float(steps.mean()) * len({keys[row] for row in rows}))
    return float(np.median(paces)) if paces else np.inf


def _variation(gaps: F64) -> float:
    """Interquartile range, as a standard deviation, over the median: robust, since a sample has holes."""
    low, median, high = np.percentile(gaps, [25, 50, 75])
    return float((high - low) / 1.349 / median) if median > 0 else np.inf
