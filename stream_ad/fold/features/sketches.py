"""How often a category was seen: a count-min sketch of two rows with conservative update.

(Cormode & Muthukrishnan 2005; Estan & Varghese 2002.) A count is never too low: a collision may hide a novelty, but
never invents one. When a counter is full, all are halved, rounding up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stream_ad.batch import F64, I64, U64
from stream_ad.hash_kernel import splitmix64
from stream_ad.kernel import inlined, kernel

KEY_WIDTH, OVERALL_WIDTH, BURST_WIDTH = 32, 65_536, 16_384  # counters in a row, powers of two
TIMES, RECENT, LATEST = range(3)  # columns of `bursts`: times in the long run, of late, number of the latest
NUMBER, COUNTED = range(2)  # columns of `burst_totals`: categories so far, and in the long run
LATELY, IN_ALL, TICKS = range(3)  # columns of what `rise` answers


@kernel
def with_pairs(codes: U64, first: I64, second: I64) -> U64:
    """codes [n,c] -> [n,c+pairs], with the codes of the pairs of two columns; 0 where one of the two is missing."""
    n, c = codes.shape
    out = np.zeros((n, c + len(first)), np.uint64)
    for i in range(n):
        for j in range(c):
            out[i, j] = codes[i, j]
        for p in range(len(first)):
            one, other = codes[i, first[p]], codes[i, second[p]]
            if one != 0 and other != 0:
                # mixed twice: the same two the other way round are another pair
                out[i, c + p] = max(splitmix64(splitmix64(one) + other), np.uint64(1))
    return out


@inlined
def consult(sketch: npt.NDArray[np.unsignedinteger], total: I64, s: int, k: int, code: int, limit: int) -> float:
    """How often the category was seen before, or more; then counts it. `sketch` [s,k,2,width], `total` [s,k]."""
    width = sketch.shape[3]
    if total[s, k] >= limit:
        # rounded up, so that a category that was seen stays seen
        for row in range(2):
            for column in range(width):
                sketch[s, k, row, column] = sketch[s, k, row, column] // 2 + sketch[s, k, row, column] % 2
        total[s, k] = total[s, k] // 2 + total[s, k] % 2
    h = splitmix64(np.uint64(code))
    mask = np.uint64(width - 1)
    one, other = h & mask, (h >> np.uint64(32)) & mask
    estimate = np.int64(min(sketch[s, k, 0, one], sketch[s, k, 1, other]))
    sketch[s, k, 0, one] = max(np.int64(sketch[s, k, 0, one]), estimate + 1)
    sketch[s, k, 1, other] = max(np.int64(sketch[s, k, 1, other]), estimate + 1)
    total[s, k] += 1
    return float(estimate)


@inlined
def rise(late: F64, u: int, bursts: F64, burst_totals: I64, code: int, rows: float, most: float) -> None:
    """Counts the category, and fills `late` [u,3] with the counts of `Burst`.

    `bursts` [u,2,width,3], `burst_totals` [u,2]. A count of late loses a share of 1/rows with every category; that is
    done when it is looked at. The long run is halved when it has `most` categories.
    """
    if burst_totals[u, COUNTED] >= most:
        bursts[u, :, :, TIMES] *= 0.5
        burst_totals[u, COUNTED] = burst_totals[u, COUNTED] // 2
    burst_totals[u, NUMBER] += 1
    burst_totals[u, COUNTED] += 1
    number, stays = burst_totals[u, NUMBER], 1.0 - 1.0 / rows
    h = splitmix64(np.uint64(code))
    mask = np.uint64(bursts.shape[2] - 1)
    a, b = h & mask, (h >> np.uint64(32)) & mask
    recent_a = bursts[u, 0, a, RECENT] * stays ** (number - bursts[u, 0, a, LATEST])
    recent_b = bursts[u, 1, b, RECENT] * stays ** (number - bursts[u, 1, b, LATEST])
    recent = min(recent_a, recent_b) + 1.0
    times = min(bursts[u, 0, a, TIMES], bursts[u, 1, b, TIMES]) + 1.0
    bursts[u, 0, a, RECENT], bursts[u, 1, b, RECENT] = max(recent_a, recent), max(recent_b, recent)
    bursts[u, 0, a, TIMES] = max(bursts[u, 0, a, TIMES], times)
    bursts[u, 1, b, TIMES] = max(bursts[u, 1, b, TIMES], times)
    bursts[u, 0, a, LATEST], bursts[u, 1, b, LATEST] = number, number
    late[u, LATELY], late[u, IN_ALL] = recent, times
    late[u, TICKS] = burst_totals[u, COUNTED] / (rows * (1.0 - stays ** float(number)))
