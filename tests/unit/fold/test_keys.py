import dataclasses
from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import KeyedBatch, Strings
from stream_ad.config import Window
from stream_ad.fold.key_kernel import fill_table
from stream_ad.fold.keys import Keys, KeyState
from stream_ad.fold.state import arrays, fill
from tests.support.batches import Row, events
from tests.support.strategies import cuts, same_batches, same_state, streams


def stepped(rows: list[Row], capacity: int, **window: object) -> tuple[Keys, KeyState, KeyedBatch]:
    keys = Keys(Window(**window), 64)
    state = keys.init(capacity)
    return keys, state, keys.step(state, events(rows))


def test_slots_count_up_and_keys_keep_theirs() -> None:
    keys, state, batch = stepped([(key, 0, [1.0]) for key in "abacb"], 8)
    assert batch.slot.tolist() == [0, 1, 0, 2, 1]
    assert batch.fresh.tolist() == [True, True, False, True, False]
    assert keys.used(state) == 3
    assert [keys.name(state, slot) for slot in range(3)] == [b"a", b"b", b"c"]
    with pytest.raises(IndexError):
        keys.name(state, 3)


def test_the_key_seen_longest_ago_is_evicted() -> None:
    keys, state, batch = stepped([(key, 0, [1.0]) for key in "abacba"], 2)
    assert batch.slot.tolist() == [0, 1, 0, 1, 0, 1]
    assert batch.fresh.tolist() == [True, True, False, True, True, True]
    assert [keys.name(state, slot) for slot in range(2)] == [b"b", b"a"]


@settings(max_examples=150)
@given(st.data(), st.integers(1, 40))
def test_agrees_with_an_ordered_dict(data: st.DataObject, capacity: int) -> None:
    alphabet = st.integers(0, 60).map(lambda number: "k" * (number % 20) + str(number))
    names = data.draw(st.lists(alphabet, min_size=1, max_size=400))
    model: OrderedDict[str, int] = OrderedDict()
    slots, fresh = [], []
    for name in names:
        fresh.append(name not in model)
        if name in model:
            model.move_to_end(name)
        else:
            model[name] = len(model) if len(model) < capacity else model.popitem(last=False)[1]
        slots.append(model[name])
    keys, state, batch = stepped([(name, 0, [1.0]) for name in names], capacity)
    assert batch.slot.tolist() == slots
    assert batch.fresh.tolist() == fresh
    assert {keys.name(state, slot).decode(): slot for slot in range(keys.used(state))} == dict(model)


def test_a_full_table_that_evicts_all_the_time_forgets_nothing() -> None:
    # long chains of probing and many removals: an entry that a removal strands would be assigned anew
    rng = np.random.default_rng(1)
    names = [f"key-{number}" for number in rng.integers(0, 1500, 30_000)]
    model: OrderedDict[str, None] = OrderedDict()
    fresh = []
    for name in names:
        fresh.append(name not in model)
        model.pop(name, None)
        model[name] = None
        if len(model) > 1000:
            model.popitem(last=False)
    _, state, batch = stepped([(name, 0, [1.0]) for name in names], 1000)
    assert batch.fresh.tolist() == fresh
    before = sorted(state.table.tolist())
    state.table[:] = 0
    fill_table(state.arrays())
    assert sorted(state.table.tolist()) == before


def test_keys_that_differ_in_length_or_last_byte_only_are_different() -> None:
    names = ["", "\0", "\0\0", "a", "a\0", "x" * 63, "x" * 64, "x" * 63 + "y", "12345678", "123456789"]
    _, _, batch = stepped([(name, 0, [1.0]) for name in names * 2], 16)
    assert batch.slot.tolist() == list(range(len(names))) * 2


def test_keys_whose_hashes_collide_are_different() -> None:
    # the table holds 32 bits of a hash: some 10 of the pairs among 300,000 keys agree in all of them
    names = Strings.of([b"%d" % number for number in range(300_000)])
    column = np.zeros(len(names), np.int64)
    batch = dataclasses.replace(events([("a", 0, [1.0])]), offset=column, ts_ms=column, key=names)
    keys = Keys(Window(), 8)
    state = keys.init(len(names))
    for fresh in (True, False):
        keyed = keys.step(state, batch)
        assert (keyed.fresh == fresh).all()
        np.testing.assert_array_equal(keyed.slot, np.arange(len(names)))


def test_a_key_longer_than_agreed_is_a_bug_of_the_codec() -> None:
    with pytest.raises(ValueError, match="65 bytes where at most 64"):
        stepped([("x" * 65, 0, [1.0])], 4)


TIMES = [1000, 900, 5000, 4500, 3999, 4000, 6000]


@pytest.mark.parametrize(("policy", "kept"), [("accept", 7), ("drop", 6), ("reject", 6)])
def test_late_is_what_lies_behind_the_watermark(policy: str, kept: int) -> None:
    rows: list[Row] = [(f"k{i}", ts, [1.0]) for i, ts in enumerate(TIMES)]
    keys, state, batch = stepped(rows, 8, allowed_lateness="1s", late=policy)
    assert len(batch) == keys.used(state) == kept
    expected = [0, 0, 4000, 4000, 4000, 4000, 5000]
    if policy != "accept":
        del expected[4]
    assert batch.watermark.tolist() == expected
    assert batch.dropped == (policy == "drop")
    if policy == "reject":
        assert batch.rejects is not None
        assert batch.rejects.row == [4]
        assert batch.rejects.reason[0].startswith("late: event time 3999 is 1 ms behind the watermark 4000")
    else:
        assert batch.rejects is None


def test_nothing_is_late_before_the_first_event() -> None:
    _, _, batch = stepped([("a", -(10**15), [1.0])], 1, late="drop")
    assert len(batch) == 1


@settings(max_examples=60)
@given(st.data(), streams(), st.sampled_from([1, 2, 3, 16]), st.sampled_from(["accept", "drop", "reject"]))
def test_splitting_and_restoring_change_nothing(
    data: st.DataObject, rows: list[Row], capacity: int, policy: str
) -> None:
    keys, whole_state, whole = stepped(rows, capacity, allowed_lateness="3s", late=policy)
    batch = events(rows)
    at = data.draw(cuts(len(rows)))
    state, parts = keys.init(capacity), []
    for first, last in pairwise(at):
        parts.append(keys.step(state, batch.slice(first, last)))
        saved = {name: value.copy() for name, value in arrays(state, keys.used(state)).items()}
        state = keys.init(capacity)
        fill(state, saved)
    same_batches(whole, parts)
    same_state(whole_state, state, keys.used(state))


def test_a_snapshot_grows_with_the_keys_in_use_only() -> None:
    keys, state, _ = stepped([("a", 0, [1.0]), ("b", 0, [1.0])], 100_000)
    assert sum(value.nbytes for value in arrays(state, keys.used(state)).values()) < 300
