import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import WindowBatch
from stream_ad.config import Window
from stream_ad.errors import ConfigError
from stream_ad.fold.keys import Keys
from stream_ad.fold.state import arrays, fill
from stream_ad.fold.windows import CountWindow, TimeWindow, WindowState
from tests.support.batches import Row, events
from tests.support.strategies import cuts, same_batches, same_state, streams


def stepped(rows: list[Row], window: Window, kind: type[CountWindow], capacity: int = 8) -> WindowBatch:
    keys, windows = Keys(window, 64), kind(window, len(rows[0][2]))
    return windows.step(windows.init(capacity), keys.step(keys.init(capacity), events(rows)))


def test_newest_last_and_absent_lags_are_nan() -> None:
    rows: list[Row] = [("a", 10, [1.0]), ("b", 15, [9.0]), ("a", 25, [2.0])]
    batch = stepped(rows, Window(rows=3), CountWindow)
    np.testing.assert_array_equal(batch.values[2, :, 0], [math.nan, 1.0, 2.0])
    assert batch.age_ms[2].tolist() == [-1, 15, 0]
    assert batch.count.tolist() == [1, 1, 2]


def test_every_hop_th_event_of_a_key_is_emitted_its_first_included() -> None:
    rows: list[Row] = [(key, 0, [1.0]) for key in "aabaaabaa"]
    batch = stepped(rows, Window(rows=2, hop=3), CountWindow)
    assert batch.emit.tolist() == [True, False, True, False, True, False, False, False, True]


def test_a_lag_as_old_as_the_span_has_left_the_window() -> None:
    rows: list[Row] = [("a", ts, [float(ts)]) for ts in (0, 1, 1000)]
    batch = stepped(rows, Window(rows=3, span="1s"), TimeWindow)
    np.testing.assert_array_equal(batch.values[2, :, 0], [math.nan, 1.0, 1000.0])
    assert batch.age_ms[2].tolist() == [-1, 999, 0]
    assert batch.count[2] == 2


def test_a_time_window_needs_a_span() -> None:
    with pytest.raises(ConfigError, match=r"window\.span"):
        TimeWindow(Window(kind="time", span=0), 1)


@settings(max_examples=80)
@given(streams(c=0), st.sampled_from([1, 2, 5]), st.sampled_from([None, 1, 1500, 20_000]), st.sampled_from([2, 16]))
def test_agrees_with_lists_of_rows(rows: list[Row], w: int, span_ms: int | None, capacity: int) -> None:
    window = Window(rows=w, span=f"{span_ms or 1}ms", kind="time" if span_ms else "count")
    keys = Keys(window, 64)
    keyed = keys.step(keys.init(capacity), events(rows))
    fold = (TimeWindow if span_ms else CountWindow)(window, 2)
    batch = fold.step(fold.init(capacity), keyed)
    held: dict[int, list[Row]] = {}
    for i, row in enumerate(rows):
        slot = int(keyed.slot[i])
        if keyed.fresh[i]:
            held[slot] = []
        held[slot].append(row)
        present = 0
        for lag in range(w):
            there = lag < len(held[slot])
            then = held[slot][-1 - lag] if there else row
            age = row[1] - then[1]
            if there and (span_ms is None or then[1] > row[1] - span_ms):
                present += 1
                assert batch.age_ms[i, w - 1 - lag] == max(age, 0)
                np.testing.assert_array_equal(batch.values[i, w - 1 - lag], then[2])
            else:
                assert batch.age_ms[i, w - 1 - lag] == -1
                assert np.isnan(batch.values[i, w - 1 - lag]).all()
        assert batch.count[i] == present


@settings(max_examples=50)
@given(st.data(), streams(), st.sampled_from([2, 16]), st.sampled_from([CountWindow, TimeWindow]))
def test_splitting_and_restoring_change_nothing(
    data: st.DataObject, rows: list[Row], capacity: int, kind: type[CountWindow]
) -> None:
    window = Window(rows=4, span="20s", hop=2)
    keys, fold = Keys(window, 64), kind(window, 2)
    key_state = keys.init(capacity)
    keyed = [keys.step(key_state, events(rows))]
    whole_state = fold.init(capacity)
    whole = fold.step(whole_state, keyed[0])

    at, batch = data.draw(cuts(len(rows))), events(rows)
    key_state, state, parts = keys.init(capacity), fold.init(capacity), []
    for first, last in pairwise(at):
        parts.append(fold.step(state, keys.step(key_state, batch.slice(first, last))))
        saved: WindowState = fold.init(capacity)
        fill(saved, arrays(state, keys.used(key_state)))
        state = saved
    same_batches(whole, parts)
    same_state(whole_state, state, keys.used(key_state))


@settings(max_examples=40)
@given(streams(c=0))
def test_a_window_holds_its_own_key_only(rows: list[Row]) -> None:
    window = Window(rows=4)
    whole = stepped(rows, window, CountWindow)
    for name in {row[0] for row in rows}:
        mine = [i for i, row in enumerate(rows) if row[0] == name]
        alone = stepped([rows[i] for i in mine], window, CountWindow)
        assert alone.values.tobytes() == whole.values[mine].tobytes()
        assert alone.age_ms.tobytes() == whole.age_ms[mine].tobytes()
