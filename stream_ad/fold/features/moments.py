"""The mean and deviation expected of a value before it comes, and how they are learnt.

Both are exponentially weighted, with a half-life in values of the key (West 1979; Finch 2009, section 9): the k-th
value has the weight max(1/k, 1 - 2^(-1/half-life)), so the first values count alike. A key's own statistics
(half-life `half_life_rows`) are blended with those of the pool: all keys of the shard, with 100 times that half-life.

Neither the key nor the pool learns a value that deviates by more than `GATE` deviations, so an anomaly does not become
the baseline while it lasts. The gate stands open while more than `OPEN_SHARE` of the key's values are that far out:
they are no exception then, but a level that has shifted for good, or one of two levels that the field has. The share
has `SLOWER` times the half-life, so a known key learns a lasting shift after about three quarters of a half-life.
"""

from __future__ import annotations

import math

from stream_ad.batch import F64
from stream_ad.fold.ewma import moved
from stream_ad.kernel import inlined

KEY_WARM, POOL_WARM = 16, 256  # so many values are learnt before outliers are cut or kept out
GATE, OPEN_SHARE, SLOWER = 3.5, 0.05, 10.0
LEAST = 1e-12  # deviation, of the level: far above what rounding leaves in a variance
FADE = 3.0  # times `prior_rows`: after so many values of a key the pool has 1/e of its weight
WITHIN_WARM = 64.0  # so many residuals are learnt before the variance within keys is trusted fully
# columns of `fields` [capacity,p,6]; OUTSIDE is the share of values beyond the gate
OWN_COUNT, OWN_MEAN, OWN_VARIANCE, PREVIOUS, PREVIOUS_MS, OUTSIDE = range(6)
# columns of `pool` [p,5]: values of all keys; how many deviations from their own key's mean, and their mean square
POOL_COUNT, POOL_MEAN, POOL_VARIANCE, RESIDUALS, WITHIN = range(5)
# columns of what is expected [q,3]; the variance is 0 where it is below its floor
MEAN, DEVIATION, VARIANCE = range(3)


@inlined
def expected(
    fields: F64, s: int, c: int, pool: F64, memory_rows: float, prior_rows: float
) -> tuple[float, float, float]:
    """Mean, standard deviation, and the variance without its floor (0 where it is below).

    With k = min(values of the key, half_life_rows / ln 2): m = (k·m_key + q·m_pool) / (k + q) and
    s² = (k·var_key + p·within) / (k + p). `within` is the mean square of the deviations of values from their own
    key's mean. p = prior_rows · 2^(-values/half_life_rows): the pool fades once a key is known. q = min(p, within /
    between), between = var_pool - within: where keys differ in level, the pool's mean says little about a key (Efron
    & Morris 1975). A new key has m = m_pool, s² = var_pool. Before 64 deviations are learnt, `within` is drawn towards
    var_pool. s is at least 1e-3·√within and 1e-12·(|m| + 1), so that a constant series does not explode. NaN before
    the shard's first value.
    """
    if pool[c, POOL_COUNT] == 0:
        return math.nan, math.nan, 0.0
    count, total = fields[s, c, OWN_COUNT], pool[c, POOL_VARIANCE]
    mean, variance, spread = pool[c, POOL_MEAN], total, total
    if count > 0:
        if pool[c, RESIDUALS] < WITHIN_WARM:
            spread += pool[c, RESIDUALS] / WITHIN_WARM * (pool[c, WITHIN] - total)
        else:
            spread = pool[c, WITHIN]
        own = min(count, memory_rows)
        prior = prior_rows * math.exp(-count / (FADE * prior_rows))
        share = own / (own + prior)
        variance = share * fields[s, c, OWN_VARIANCE] + (1.0 - share) * spread
        between = total - spread
        if prior * between > spread:
            share = own * between / (own * between + spread)
        mean += share * (fields[s, c, OWN_MEAN] - mean)
    least = LEAST * (abs(mean) + 1.0)
    floor = max(1e-6 * spread, least * least)
    return mean, math.sqrt(max(variance, floor)), variance if variance > floor else 0.0


@inlined
def expected_overall(pool: F64, c: int) -> tuple[float, float, float]:
    """Mean, standard deviation and variance over all keys, as `expected`."""
    if pool[c, POOL_COUNT] == 0:
        return math.nan, math.nan, 0.0
    mean, variance = pool[c, POOL_MEAN], pool[c, POOL_VARIANCE]
    least = LEAST * (abs(mean) + 1.0)
    return mean, math.sqrt(max(variance, least * least)), variance if variance > least * least else 0.0


@inlined
def winsorised(value: float, mean: float, variance: float, alpha: float) -> float:
    """`value` cut to mean ± r·deviation, r = max(8, 2/(3√a)) for a weight of a (Huber & Ronchetti 2009).

    So one event raises a variance by half at most. Where the deviation is 0, the value is not cut.
    """
    delta, least = value - mean, LEAST * (abs(mean) + 1.0)
    if delta * delta <= 64.0 * variance or variance <= least * least:
        return value
    reach = max(8.0, 2.0 / (3.0 * math.sqrt(alpha))) * math.sqrt(variance)
    return min(max(value, mean - reach), mean + reach)


@inlined
def kept_out(fields: F64, s: int, c: int, value: float, mean: float, deviation: float, floor: float) -> bool:
    """Counts a value that deviates from what was expected, and returns whether nothing shall learn it."""
    count = fields[s, c, OWN_COUNT] + 1.0
    if count <= KEY_WARM:
        return False
    outside = abs(value - mean) > GATE * deviation
    # the first values count as inside, twice: one of those that follow is no twentieth
    weight = max(1.0 / (count + KEY_WARM), floor / SLOWER)
    fields[s, c, OUTSIDE] += weight * ((1.0 if outside else 0.0) - fields[s, c, OUTSIDE])
    return outside and fields[s, c, OUTSIDE] < OPEN_SHARE


@inlined
def learn(fields: F64, s: int, c: int, value: float, mean: float, variance: float, floor: float) -> None:
    """Moves the key's own statistics. `mean` and `variance` were expected, `floor` is the least weight."""
    alpha = max(1.0 / (fields[s, c, OWN_COUNT] + 1.0), floor)
    if fields[s, c, OWN_COUNT] >= KEY_WARM:
        value = winsorised(value, mean, variance, alpha)
    fields[s, c, OWN_MEAN], fields[s, c, OWN_VARIANCE] = moved(
        fields[s, c, OWN_MEAN], fields[s, c, OWN_VARIANCE], alpha, value
    )


@inlined
def learn_pool(pool: F64, c: int, value: float, own_count: float, own_mean: float, floor: float) -> None:
    """Moves the statistics of the pool. `own_*` are the key's before the value."""
    if own_count > 0:
        count = pool[c, RESIDUALS] + 1.0
        alpha = max(1.0 / count, floor)
        held = winsorised(value, own_mean, pool[c, WITHIN], alpha) if count > POOL_WARM else value
        # a mean of k values is off by 1/k of the variance itself
        square = (held - own_mean) * (held - own_mean) * (own_count / (own_count + 1.0))
        pool[c, WITHIN] += alpha * (square - pool[c, WITHIN])
        pool[c, RESIDUALS] = count
    count = pool[c, POOL_COUNT] + 1.0
    alpha = max(1.0 / count, floor)
    held = winsorised(value, pool[c, POOL_MEAN], pool[c, POOL_VARIANCE], alpha) if count > POOL_WARM else value
    pool[c, POOL_MEAN], pool[c, POOL_VARIANCE] = moved(pool[c, POOL_MEAN], pool[c, POOL_VARIANCE], alpha, held)
    pool[c, POOL_COUNT] = count
