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
LEAST_TYPICAL = 1e-3  # deviation, of a typical key's
FADE = 3.0  # times `prior_rows`: after so many values of a key the pool has 1/e of its weight
WITHIN_WARM = 64.0  # so many residuals are learnt before the variance within keys is trusted fully
KNOWN, EVERY = 64, 16  # after so many values of a key its variance is compared with those of others, and so often
LEAST_APART = 1e-6  # variance of logarithms
FAR, MANY_DEGREES = 4.0, 1000.0  # deviates; degrees of freedom, with which a t is 0.4 % farther out
# columns of `fields` [capacity,p,6]; OUTSIDE is the share of values beyond the gate
OWN_COUNT, OWN_MEAN, OWN_VARIANCE, PREVIOUS, PREVIOUS_MS, OUTSIDE = range(6)
# columns of `pool` [p,11]: values of all keys; how many deviations from their own key's mean, and their mean square;
# how many variances of keys, the mean and variance of their logarithms; and what follows from these: a typical key's
# variance, the least that is believed of any, and how many values of a key that knowledge is worth
POOL_COUNT, POOL_MEAN, POOL_VARIANCE, RESIDUALS, WITHIN, KEYS, LOG_MEAN, LOG_VARIANCE, TYPICAL, FLOOR, WORTH = range(11)
# columns of what is expected [q,3]; the variance is 0 where it is below its floor
MEAN, DEVIATION, VARIANCE = range(3)


@inlined
def student(degrees: float) -> float:
    """How many times farther out than the `FAR`-th normal deviate lies the Student t that is as rare (Wallace 1959)."""
    if degrees >= MANY_DEGREES:
        return 1.0
    root = FAR * (8.0 * degrees + 3.0) / (8.0 * degrees + 1.0)
    return math.sqrt(degrees * math.expm1(root * root / degrees)) / FAR


@inlined
def expected(
    fields: F64, s: int, c: int, pool: F64, memory_rows: float, prior_rows: float
) -> tuple[float, float, float]:
    """Mean, standard deviation, and the variance without its floor (0 where it is below).

    With k = min(values of the key, half_life_rows / ln 2): m = (k·m_key + q·m_pool) / (k + q) and
    s² = (k·var_key + p·typical) / (k + p). `typical` is the geometric mean of the variances of keys, and is worth
    d = 2 / (variance of their logarithms) values: where keys differ in scale, those of others say little about one
    (Smyth 2004, section 4). Before any is known, it is the mean square of the deviations of values from their own
    key's mean, `within`, and d is infinite. p = min(d, prior_rows · e^(-values / 3 prior_rows)): the pool fades once a
    key is known. q = min(p, s² / between), between = var_pool - within: where keys differ in level, the pool's mean
    says little about a key (Efron & Morris 1975). A new key has m = m_pool, s² = var_pool, and a key of one value has
    s² = within. Before 64 deviations are learnt, `within` is drawn towards var_pool. s is at least 1e-3·√typical, less
    two deviations of the logarithms, and 1e-12·(|m| + 1), so that a constant series does not explode; and it is
    `student` times as large, with k + d degrees of freedom. NaN before the shard's first value.
    """
    if pool[c, POOL_COUNT] == 0:
        return math.nan, math.nan, 0.0
    count, total = fields[s, c, OWN_COUNT], pool[c, POOL_VARIANCE]
    mean, variance, within, wider = pool[c, POOL_MEAN], total, total, 1.0
    if count > 0:
        if pool[c, RESIDUALS] < WITHIN_WARM:
            within += pool[c, RESIDUALS] / WITHIN_WARM * (pool[c, WITHIN] - total)
        else:
            within = pool[c, WITHIN]
    typical, floor = within, LEAST_TYPICAL * LEAST_TYPICAL * within
    if pool[c, KEYS] > 0:
        typical, floor = min(within, pool[c, TYPICAL]), pool[c, FLOOR]
    if count > 0:
        own = min(count, memory_rows)
        prior = prior_rows * math.exp(-count / (FADE * prior_rows))
        if pool[c, KEYS] > 0:
            prior, wider = min(prior, pool[c, WORTH]), student(own + pool[c, WORTH])
        share = own / (own + prior)
        variance = share * fields[s, c, OWN_VARIANCE] + (1.0 - share) * typical if count > 1 else within
        between = total - within
        if prior * between > variance:
            share = own * between / (own * between + variance)
        mean += share * (fields[s, c, OWN_MEAN] - mean)
    least = LEAST * (abs(mean) + 1.0)
    floor = max(floor, least * least)
    return mean, math.sqrt(max(variance, floor)) * wider, variance if variance > floor else 0.0


@inlined
def expected_overall(pool: F64, c: int) -> tuple[float, float, float]:
    """Of the values of all keys, as `expected`."""
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
def learn_pool(pool: F64, fields: F64, s: int, c: int, value: float, floor: float) -> None:
    """Moves the statistics of the pool, before those of the key."""
    own_count, own_mean, own_variance = fields[s, c, OWN_COUNT], fields[s, c, OWN_MEAN], fields[s, c, OWN_VARIANCE]
    if own_count > 0:
        count = pool[c, RESIDUALS] + 1.0
        alpha = max(1.0 / count, floor)
        held = winsorised(value, own_mean, pool[c, WITHIN], alpha) if count > POOL_WARM else value
        # a mean of k values is off by 1/k of the variance itself
        square = (held - own_mean) * (held - own_mean) * (own_count / (own_count + 1.0))
        pool[c, WITHIN] += alpha * (square - pool[c, WITHIN])
        pool[c, RESIDUALS] = count
    least = LEAST * (abs(own_mean) + 1.0)
    if own_count >= KNOWN and own_count % EVERY == 0 and own_variance > least * least:
        compare(pool, c, own_variance, floor)
    count = pool[c, POOL_COUNT] + 1.0
    alpha = max(1.0 / count, floor)
    held = winsorised(value, pool[c, POOL_MEAN], pool[c, POOL_VARIANCE], alpha) if count > POOL_WARM else value
    pool[c, POOL_MEAN], pool[c, POOL_VARIANCE] = moved(pool[c, POOL_MEAN], pool[c, POOL_VARIANCE], alpha, held)
    pool[c, POOL_COUNT] = count


@inlined
def compare(pool: F64, c: int, own_variance: float, floor: float) -> None:
    """Learns the variance of a key for those of others."""
    count = pool[c, KEYS] + 1.0
    alpha = max(1.0 / count, EVERY * floor)
    mean, apart = moved(pool[c, LOG_MEAN], pool[c, LOG_VARIANCE], alpha, math.log(own_variance))
    pool[c, KEYS], pool[c, LOG_MEAN], pool[c, LOG_VARIANCE] = count, mean, apart
    pool[c, TYPICAL] = math.exp(mean)
    pool[c, FLOOR] = LEAST_TYPICAL * LEAST_TYPICAL * math.exp(mean - 2.0 * math.sqrt(apart))
    pool[c, WORTH] = 2.0 / max(apart, LEAST_APART)
