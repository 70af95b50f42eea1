"""Sums over a span of event time, in 16 buckets; an event's bucket is floor(16·ts/SPAN).

A sum covers between 15/16 and 16/16 of the span. A late event is added to its bucket if the span still has that
bucket, and gets the sum up to itself.
"""

from __future__ import annotations

from stream_ad.batch import F64
from stream_ad.kernel import inlined

BUCKETS = 16  # of a span, a power of two
NEWEST = BUCKETS  # column of `spans` [capacity,b,17] behind the buckets: the number of the newest


@inlined
def spanned(spans: F64, s: int, b: int, first: bool, now_ms: int, span_ms: int, amount: float) -> float:
    """Adds `amount` to the event's bucket and returns the sum of the span that ends there. A missing amount is 0."""
    if amount != amount:
        amount = 0.0
    number = now_ms * BUCKETS // span_ms
    if first:
        spans[s, b, :] = 0.0
        spans[s, b, NEWEST] = number
    newest = int(spans[s, b, NEWEST])
    if number > newest:
        for passed in range(max(newest + 1, number - BUCKETS + 1), number + 1):
            spans[s, b, passed & (BUCKETS - 1)] = 0.0
        newest = number
        spans[s, b, NEWEST] = number
    oldest = newest - BUCKETS + 1
    if number < oldest:
        return amount
    spans[s, b, number & (BUCKETS - 1)] += amount
    total = 0.0
    for held in range(oldest, number + 1):
        total += spans[s, b, held & (BUCKETS - 1)]
    return total
