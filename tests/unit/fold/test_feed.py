from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.fold.features.feed import paused

STEPS = st.lists(st.tuples(st.integers(-2_000, 20_000), st.integers(0, 5)), min_size=1, max_size=300)


def pauses(ts_ms: list[int], slot: list[int], feed: np.ndarray | None = None) -> list[int]:
    state = np.zeros(5) if feed is None else feed
    return paused(state, np.array(slot, np.int32), np.array(ts_ms, np.int64)).tolist()


def test_a_pause_counts_but_for_the_greatest_advance_of_late() -> None:
    ts = [*range(0, 200_000, 1000), 7_400_000, 7_401_000]
    found = pauses(ts, [at % 10 for at in range(len(ts))])
    assert set(found[:200]) == {0}
    assert 7_199_000 <= found[200] <= 7_201_000
    assert found[201] == found[200]


def test_between_two_events_of_one_key_there_is_no_pause_of_the_feed() -> None:
    ts = [*range(0, 200_000, 1000), 7_400_000]
    assert set(pauses(ts, [0] * len(ts))) == {0}


def test_a_feed_that_slows_down_does_not_pause_for_ever() -> None:
    ts = [*range(0, 200_000, 1000), *range(300_000, 9_000_000, 60_000)]
    found = pauses(ts, [at % 10 for at in range(len(ts))])
    assert found[210] == found[-1]


@given(STEPS, st.integers(0, 300))
def test_pauses_never_exceed_the_time_that_passed_and_do_not_depend_on_batches(
    steps: list[tuple[int, int]], cut: int
) -> None:
    ts = (1_700_000_000_000 + np.cumsum([step for step, _ in steps])).tolist()
    slot = [key for _, key in steps]
    whole = pauses(ts, slot)
    assert whole == sorted(whole)
    assert all(0 <= one <= max(ts[: at + 1]) - ts[0] for at, one in enumerate(whole))
    feed = np.zeros(5)
    first = pauses(ts[:cut], slot[:cut], feed)
    assert first + pauses(ts[cut:], slot[cut:], feed) == whole
