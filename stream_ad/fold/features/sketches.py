"""How often a category was seen: a count-min sketch of two rows with conservative update.

(Cormode & Muthukrishnan 2005; Estan & Varghese 2002.) A count is never too low: a collision may hide a novelty, but
never invents one. When a counter is full, all are halved, rounding up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stream_ad.batch import I64
from stream_ad.hash_kernel import splitmix64
from stream_ad.kernel import inlined

KEY_WIDTH, OVERALL_WIDTH = 32, 65_536  # counters in a row, powers of two


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
