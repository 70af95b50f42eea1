"""How long a whole feed has paused.

In a pause of the feed no key could send anything, so that it is no key's own gap. Where the watermark (the greatest
event time) advances by far more than it did of late, what exceeds its greatest advance is a pause. What a single key
does is no pause of the feed: between two events of one key none is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_ad.batch import F64, I32, I64
from stream_ad.fold.state import records
from stream_ad.kernel import kernel

FEED = np.dtype(
    [
        ("rows", "f8"),
        ("watermark", "f8"),  # ms
        ("paused", "f8"),  # ms, of all pauses so far
        ("longest", "f8"),  # ms; decayed maximum of the advances
        ("slot", "f8"),  # the key of the latest event
    ]
)

_FIRST_ROWS = 100.0  # which tell how long advances are
_DECAY = 0.5 ** (1.0 / 1000.0)  # by each advance
_PAUSE = 3.0  # of the longest; it learns as much of a pause, so that a feed that slows down does not pause for ever


def paused(feed: F64, slot: I32, ts_ms: I64) -> I64:
    """[n] ms of all pauses up to each event. `feed` [5] is `FEED`, and goes on."""
    pauses = np.empty(len(slot), np.int64)
    _go_on(records(feed, FEED), slot, ts_ms, pauses)
    return pauses


@kernel
def _go_on(feeds: Any, slot: I32, ts_ms: I64, pauses: I64) -> None:
    feed = feeds[0]
    for i in range(len(slot)):
        if feed.rows == 0.0:
            feed.watermark = ts_ms[i]
        advance = ts_ms[i] - feed.watermark
        if advance > 0.0:
            if feed.rows >= _FIRST_ROWS and slot[i] != feed.slot and advance > _PAUSE * feed.longest:
                feed.paused += advance - feed.longest
                advance = _PAUSE * feed.longest
            feed.longest = max(feed.longest * _DECAY, advance)
            feed.watermark = ts_ms[i]
        feed.slot = slot[i]
        feed.rows += 1.0
        pauses[i] = int(feed.paused)
