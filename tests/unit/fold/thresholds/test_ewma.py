from __future__ import annotations

import numpy as np
import pytest

from stream_ad import config
from stream_ad.batch import F64, Verdicts
from stream_ad.fold.thresholds.ewma import EwmaThreshold
from tests.support.judged import scores

RATE = 1e-3


def judged(
    score: F64, slot: np.ndarray | None = None, *, step_ms: int = 1_000, keys: int = 1, **options: object
) -> Verdicts:
    threshold = EwmaThreshold(config.Threshold(**{"false_alarm_rate": RATE, **options}))
    slots = np.zeros(len(score), np.int32) if slot is None else slot
    return threshold.step(threshold.init(keys), scores(slots.tolist(), score, step_ms=step_ms))


def sample(shape: str, rng: np.random.Generator, n: int) -> F64:
    if shape == "gauss":
        return rng.normal(size=n)
    if shape == "student":
        return rng.standard_t(3, n) / np.sqrt(3)
    if shape == "lognormal":
        return (rng.lognormal(0, 0.75, n) - np.exp(0.75**2 / 2)) / np.sqrt((np.exp(0.75**2) - 1) * np.exp(0.75**2))
    return (rng.chisquare(3, n) - 3) / np.sqrt(6)


@pytest.mark.parametrize("shape", ["gauss", "student", "lognormal", "chi2"])
@pytest.mark.parametrize("keys", [1, 100, 5000])
def test_normal_scores_of_any_shape_are_flagged_about_as_often_as_wanted(shape: str, keys: int) -> None:
    n = 200_000
    first = 0.0
    for seed in range(2):
        rng = np.random.default_rng(seed)
        slot = rng.integers(0, keys, n).astype(np.int32)
        level, scale = rng.normal(size=keys) * (keys > 1), np.exp(rng.normal(0, 0.4, keys) * (keys > 1))
        flag = judged(sample(shape, rng, n) * scale[slot] + level[slot], slot, keys=keys).flag
        assert 0.2 * RATE <= flag[5_000:].mean() <= 2.2 * RATE
        first += flag[:1_000].mean() / 2
    assert first <= 0.01  # a cold start is no storm


@pytest.mark.parametrize("rate", [1e-3, 1e-4])
def test_anomalies_of_one_percent_do_not_raise_the_threshold_above_themselves(rate: float) -> None:
    rng = np.random.default_rng(3)
    score = rng.normal(size=60_000)
    odd = rng.random(len(score)) < 0.01
    score[odd] = rng.uniform(6, 12, odd.sum())
    flag = judged(score, false_alarm_rate=rate).flag[10_000:]
    assert flag[odd[10_000:]].mean() > 0.99
    assert flag[~odd[10_000:]].mean() < 2 * rate


@pytest.mark.parametrize(("rate", "top"), [(0.3, 0.45), (0.05, 0.1), (1e-6, 1e-4)])
def test_flag_threshold_and_p_value_say_the_same(rate: float, top: float) -> None:
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.normal(size=20_000), rng.normal(size=50) * 100])
    verdicts = judged(score, false_alarm_rate=rate)
    assert np.array_equal(verdicts.flag, score > verdicts.threshold)
    assert np.array_equal(verdicts.flag, verdicts.p_value < rate)
    assert ((verdicts.p_value > 0) & (verdicts.p_value <= 1)).all()
    assert verdicts.flag[5_000:20_000].mean() < top
    late = slice(19_000, 19_200)  # between two fits of the tail p falls as the deviation grows
    order = np.argsort(verdicts.deviation[late])
    assert (np.diff(verdicts.p_value[late][order]) <= 1e-3).all()


def test_p_values_are_calibrated_in_the_tail() -> None:
    p = judged(np.random.default_rng(1).normal(size=100_000), false_alarm_rate=1e-5).p_value[10_000:]
    for level in (0.02, 0.005, 0.001):
        assert 0.5 * level < (p <= level).mean() < 1.6 * level


def test_a_new_key_is_judged_by_the_pool_and_an_old_one_by_itself() -> None:
    rng = np.random.default_rng(0)
    slot = np.r_[np.arange(20_000) % 50, np.full(3_000, 50)].astype(np.int32)
    score = np.r_[rng.normal(5, 1, 20_000), rng.normal(2, 1, 3_000)]
    verdicts = judged(np.r_[score, 9.0, 9.0], np.r_[slot, 51, 50].astype(np.int32), keys=52)
    new, old = verdicts.threshold[-2], verdicts.threshold[-1]
    assert 7 < new < 11  # the pool's 5, a few of its deviations above
    assert old < 7  # its own 2
    assert verdicts.flag[-1]


def test_a_key_of_constant_scores_does_not_alarm_on_noise_that_is_nothing_to_others() -> None:
    rng = np.random.default_rng(0)
    slot = np.arange(40_000, dtype=np.int32) % 40
    score = np.where(slot == 0, 0.0, rng.normal(size=len(slot)))
    score[-40] = 0.6
    verdicts = judged(score, slot, keys=40)
    assert slot[-40] == 0
    assert not verdicts.flag[-40]


def test_anomalies_are_not_learnt() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=5_000)
    spoilt = score.copy()
    spoilt[3_000:3_040] = 500.0  # a streak too short to escape
    clean, poisoned = judged(score), judged(spoilt)
    assert poisoned.flag[3_000:3_040].all()
    assert abs(poisoned.threshold[-1] - clean.threshold[-1]) < 0.2


@pytest.mark.parametrize("level", [5.0, 8.0, 40.0])
@pytest.mark.parametrize("pooled", [False, True])
def test_a_lasting_noisy_shift_is_flagged_then_reported_once_then_normal(level: float, pooled: bool) -> None:
    rng = np.random.default_rng(7)
    keys = 20 if pooled else 1
    n, at = 6_000 * keys, 2_000 * keys
    slot = (np.arange(n) % keys).astype(np.int32)
    score = rng.normal(size=n) + np.where((slot == 0) & (np.arange(n) >= at), level, 0.0)
    verdicts = judged(score, slot, keys=keys, step_ms=10_000 // keys, escape_after="30m", half_life_rows=200)
    mine = slot == 0
    assert not verdicts.shift[~mine].any()
    (where,) = np.flatnonzero(verdicts.shift[mine])
    assert 2_000 + 180 <= where < 2_000 + 600  # 30 min of an event every 10 s are 180 rows
    assert verdicts.flag[mine][2_000:2_010].sum() >= 5
    assert verdicts.flag[mine][where + 1 :].mean() < 0.01
    assert verdicts.threshold[mine][where + 1] < level + 6  # its own level, not one between that and the pool's


def test_the_escape_waits_for_both_time_and_rows() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=1_200)
    score[1_000:] += 20
    by_rows = judged(score, step_ms=600_000, escape_after="1h", escape_rows=50)
    by_time = judged(score, step_ms=1_000, escape_after="100s", escape_rows=5)
    assert np.flatnonzero(by_rows.shift).tolist() == [1_049]
    assert np.flatnonzero(by_time.shift).tolist() == [1_100]


def test_a_slot_given_to_another_key_forgets_even_on_a_row_without_score() -> None:
    rng = np.random.default_rng(0)
    threshold = EwmaThreshold(config.Threshold(false_alarm_rate=RATE))
    state, seen = threshold.init(1), set[int]()
    threshold.step(state, scores([0] * 3_000, rng.normal(6, 0.5, 3_000), seen=seen))
    assert state.key[0, 0] > 2_900
    threshold.step(state, scores([0], [], row=[], fresh=[0], seen=seen))
    assert not state.key[0].any()


def test_a_shard_whose_model_is_badly_calibrated_finds_its_scale() -> None:
    score = np.random.default_rng(0).normal(40, 7, 10_000)
    flag = judged(score).flag
    assert flag[:1_000].mean() < 0.05
    assert flag[1_000:].mean() < 3 * RATE


def carried(old_scale: F64, new_scale: F64, r: int) -> tuple[F64, F64]:
    """Thresholds of ten keys before and after a swap, the model's scores mapped by a line."""
    rng = np.random.default_rng(0)
    threshold = EwmaThreshold(config.Threshold(false_alarm_rate=RATE))
    state, seen = threshold.init(10), set[int]()
    slot = (np.arange(10_000) % 10).astype(np.int32)
    base = rng.normal(size=10_000) + slot / 5
    threshold.step(state, scores(slot.tolist(), old_scale[0] + old_scale[1] * base, seen=seen))
    recent = base[-r:]
    threshold.carry(state, old_scale[0] + old_scale[1] * recent, new_scale[0] + new_scale[1] * recent)
    probe = scores(list(range(10)), np.full(10, new_scale[0]), seen=seen)
    after = threshold.step(state, probe).threshold
    return (after - new_scale[0]) / new_scale[1], base


def test_a_swap_of_models_carries_the_thresholds_to_the_new_scale() -> None:
    before, _ = carried(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 256)
    after, _ = carried(np.array([0.0, 1.0]), np.array([3.0, 4.0]), 256)
    assert np.allclose(before, after, rtol=1e-9)
    assert np.ptp(before) > 1  # the keys' own levels are kept


def test_a_swap_begins_the_tail_anew() -> None:
    """The scores of the old model have hardly a tail, and those of the new one a heavy one."""
    rng = np.random.default_rng(0)
    threshold = EwmaThreshold(config.Threshold(false_alarm_rate=RATE))
    state, seen = threshold.init(10), set[int]()
    slot = (np.arange(20_000) % 10).astype(np.int32)
    light, heavy = rng.uniform(-1, 1, 20_000), rng.laplace(size=20_000)
    threshold.step(state, scores(slot.tolist(), light, seen=seen))
    threshold.carry(state, light[-256:], heavy[:256])
    flag = threshold.step(state, scores(slot.tolist(), heavy, seen=seen)).flag
    assert flag[:2_000].mean() < 0.02
    assert flag[2_000:].mean() < 3 * RATE


def test_a_swap_with_too_few_windows_takes_both_sides_as_calibrated() -> None:
    after, base = carried(np.array([5.0, 3.0]), np.array([-base_mean(), 1.0]), 31)
    assert 2 < after.mean() < 6
    assert np.ptp(after) > 1
    assert np.isfinite(base).all()


def base_mean() -> float:
    return 0.9


def test_a_swap_without_any_window_or_spread_is_survived() -> None:
    threshold = EwmaThreshold(config.Threshold())
    for old, new in ((np.zeros(0), np.zeros(0)), (np.ones(100), np.ones(100)), (np.full(40, np.nan), np.ones(40))):
        state = threshold.init(3)
        threshold.carry(state, old, new)
        assert state.pool.tolist() == [100.0, 0.0, 1.0]
