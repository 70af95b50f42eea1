from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.batch import F64
from stream_ad.fold.state import Records, records
from stream_ad.fold.thresholds.recalibration import KEY, POOL, count, of_key, of_pool, uncorrected
from stream_ad.kernel import kernel

RATE = 1e-4


@kernel
def corrected(p: F64, slot: F64, keys: Records, pools: Records, rate: float) -> F64:
    """Each p-value after both corrections, and learnt then."""
    found = np.empty(len(p))
    for i in range(len(p)):
        key, pool = keys[int(slot[i])], pools[0]
        own = of_key(p[i], key)
        found[i] = of_pool(own, pool)
        count(p[i], own, rate, key, pool)
    return found


def learnt(p: F64, slot: F64 | None = None, rate: float = RATE) -> tuple[F64, Records, Records]:
    slots = np.zeros(len(p)) if slot is None else slot
    keys = records(np.zeros((int(slots.max()) + 1, KEY.itemsize // 8)), KEY)
    pools = records(np.zeros(POOL.itemsize // 8), POOL)
    return corrected(p, slots, keys, pools, rate), keys, pools


def test_sound_p_values_are_left_as_they_are() -> None:
    p = np.random.default_rng(0).uniform(size=400_000)
    found, *_ = learnt(p)
    late, before = found[100_000:], p[100_000:]
    tail = before < 0.02
    assert np.median(np.abs(np.log(late[tail] / before[tail]))) < 0.15


@pytest.mark.parametrize("exponent", [0.6, 0.8, 1.3])
def test_p_values_with_another_tail_come_true(exponent: float) -> None:
    """Of ten keys, below .02 a share of .02 (q / .02)^exponent lies below q."""
    random = np.random.default_rng(1)
    p = random.uniform(size=600_000)
    below = p < 0.02
    p[below] = 0.02 * (p[below] / 0.02) ** (1.0 / exponent)
    found, *_ = learnt(p, np.arange(len(p)) % 10.0)
    for level in (1e-2, 1e-3):
        assert (found[200_000:] < level).mean() == pytest.approx(level, rel=0.25)


def test_each_key_has_its_own_tail() -> None:
    random = np.random.default_rng(2)
    p, slot = random.uniform(size=600_000), np.arange(600_000) % 20.0
    heavy = (slot == 0) & (p < 0.02)
    p[heavy] = 0.02 * (p[heavy] / 0.02) ** (1.0 / 0.6)
    found, *_ = learnt(p, slot)
    before, after = (one[slot == 0][10_000:] < 1e-3 for one in (p, found))
    assert before.mean() > 2.5e-3
    assert after.mean() < 0.7 * before.mean()


@pytest.mark.parametrize("share", [0.002, 0.01])
def test_anomalies_do_not_correct_themselves_away(share: float) -> None:
    random = np.random.default_rng(3)
    p = random.uniform(size=200_000)
    odd = random.uniform(size=len(p)) < share
    p[odd] = 10.0 ** random.uniform(-7.0, -5.5, odd.sum())
    found, *_ = learnt(p)
    assert (found[odd] < RATE).all()


def test_rows_that_come_together_count_as_a_few() -> None:
    """As after a pause of the feed: 400 neighbours that are not quite anomalous."""
    random = np.random.default_rng(4)
    p = random.uniform(size=100_000)
    together = p.copy()
    together[60_000:60_400] = 2e-4
    slot = np.arange(len(p)) % 500.0
    one, other = learnt(p, slot)[2][0]["factor"], learnt(together, slot)[2][0]["factor"]
    assert np.abs(other - one).max() < np.log(1.6)


@given(
    st.lists(st.floats(-6.0, 0.0), min_size=0, max_size=60),
    st.sampled_from([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.3]),
    st.integers(0, 2**32 - 1),
)
def test_corrections_keep_the_order_and_lead_back(decades: list[float], rate: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    p = 10.0 ** np.r_[random.choice(decades or [0.0], 1200), np.log10(random.uniform(1e-9, 1.0, 300))]
    _, keys, pools = learnt(p, rate=rate)
    key, pool = keys[0], pools[0]
    grid = np.r_[np.geomspace(1e-12, 0.999, 400), 0.02]
    grid.sort()
    after = np.array([of_pool(of_key(one, key), pool) for one in grid])
    assert (np.diff(after) >= 0.0).all()
    assert ((after > 0.0) & (after <= 1.0)).all()
    back = uncorrected(rate, key, pool)
    assert of_pool(of_key(back, key), pool) == pytest.approx(rate, rel=1e-6)
