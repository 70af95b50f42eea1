"""Snapshots of every format that ever was: read to the bit, or refused with words that help."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import orjson
import pytest

from stream_ad.errors import StateError
from stream_ad.fold import state as columns
from stream_ad.state.settings import CAPACITY, changed
from stream_ad.state.shard import Shard, States
from stream_ad.state.snapshot import FORMAT, MAGIC, PART_BYTES, Damaged, Opened, Snapshot
from tests.support.snapshots import CONFIG, END, FOLDS, PARTITION, SAVED, VERSION, foretold, judged, kept, story

FORMATS = range(1, FORMAT + 1)


def arrays(shard: Shard) -> Iterator[tuple[str, np.ndarray]]:
    for name in fields(States):
        for field, array in columns.arrays(getattr(shard.states, name.name), shard.used).items():
            yield f"{name.name}.{field}", array


def restored(parts: list[bytes]) -> Shard:
    shard, _ = Shard.restore(FOLDS, PARTITION, parts)
    return shard


@pytest.mark.parametrize("number", FORMATS)
def test_a_snapshot_of_each_format_goes_on_as_it_would_have(number: int) -> None:
    shard = restored(kept(number))
    assert (shard.next_offset, shard.version) == (SAVED, VERSION)
    told, expected = judged(shard, SAVED, END), foretold(number)
    assert {phase for _, _, phase in told["alerts"]} == {0, 2}
    assert {rule for _, rule, _ in told["alerts"]} == {0, 2}
    for name in ("alerts", "flag"):
        assert told[name] == expected[name]
    for name in ("x", "threshold", "p_value"):  # made on another kind of processor, maybe
        assert [value is None for value in told[name]] == [value is None for value in expected[name]]
        known = [[value for value in values if value is not None] for values in (told[name], expected[name])]
        np.testing.assert_allclose(*known, rtol=1e-6 if name == "x" else 1e-9)


@pytest.mark.parametrize("number", FORMATS)
def test_a_snapshot_of_each_format_is_read_to_the_bit(number: int) -> None:
    """All that is read is written again; and a shard that goes on from it is the one that never stopped."""
    shard = restored(kept(number))
    again = restored(list(shard.snapshot().parts()))
    for (name, one), (_, other) in zip(arrays(shard), arrays(again), strict=True):
        assert one.tobytes() == other.tobytes(), name
    assert judged(shard, SAVED, END) == judged(again, SAVED, END)


def test_every_fold_is_at_work_in_the_golden_snapshots() -> None:
    for number in FORMATS:
        shard = restored(kept(number))
        saved = {f"{name}.{field}" for name, field, *_ in head(kept(number))["arrays"]}
        idle = [name for name, array in arrays(shard) if array.size and not array.any()]
        assert not saved.intersection(idle)


def test_todays_golden_snapshot_is_of_todays_format() -> None:
    """When this fails, the bytes have changed: raise FORMAT, read the older one too, and write a golden one."""
    parts, golden = list(story().snapshot().parts()), kept(FORMAT)
    now, then = head(parts), head(golden)
    assert not changed(then.pop("settings"), now.pop("settings"))
    assert now == then


def head(parts: list[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(parts[0][len(MAGIC) + 32 :].partition(b"\n")[0])
    return found


def with_head(**changes: object) -> list[bytes]:
    parts = kept(FORMAT)
    line = orjson.dumps({**head(parts), **changes})
    return [MAGIC + hashlib.sha256(line).digest() + line, *parts[1:]]


def test_a_newer_format_asks_for_an_upgrade() -> None:
    with pytest.raises(StateError, match=f"partition 5: .* has format {FORMAT + 1} .* up to {FORMAT}: upgrade"):
        restored(with_head(format=FORMAT + 1))


def test_another_configuration_is_refused() -> None:
    other = dataclasses.replace(FOLDS, layout="other")
    with pytest.raises(StateError, match="partition 5: the snapshot was made with another configuration"):
        Shard.restore(other, PARTITION, kept(FORMAT))
    with pytest.raises(StateError, match="another configuration"):
        Shard.restore(FOLDS, PARTITION + 1, kept(FORMAT))
    other = dataclasses.replace(FOLDS, settings={**FOLDS.settings, "threshold.half_life_rows": 7.0})
    with pytest.raises(StateError, match=r"configuration: threshold.half_life_rows was .* and is 7.0$"):
        Shard.restore(other, PARTITION, kept(FORMAT))
    with pytest.raises(StateError, match="the topic's id was not set and is"):
        Shard.restore(FOLDS.of_topic("one", "c"), PARTITION, kept(FORMAT))
    most = FOLDS.settings[CAPACITY]
    other = dataclasses.replace(FOLDS, settings={**FOLDS.settings, CAPACITY: 2 * most})
    with pytest.raises(StateError, match=f"{CAPACITY} was {most} and is {2 * most}"):
        Shard.restore(other, PARTITION, kept(FORMAT))


@pytest.mark.parametrize("number", FORMATS)
def test_any_bit_that_turns_is_noticed(number: int) -> None:
    parts = kept(number)
    for which, part in enumerate(parts):
        for at in np.linspace(len(MAGIC) if which == 0 else 0, len(part) - 1, 60).astype(int):
            turned = bytearray(part)
            turned[at] ^= 1
            with pytest.raises(StateError):
                restored([*parts[:which], bytes(turned), *parts[which + 1 :]])


def test_parts_of_two_snapshots_do_not_mix() -> None:
    parts = kept(FORMAT)
    with pytest.raises(StateError, match="bytes are missing"):
        restored(parts[:-1])
    with pytest.raises(StateError, match="checksum"):
        restored([*parts, parts[-1]])
    with pytest.raises(StateError, match="checksum"):
        restored([with_head(version="other")[0], *parts[1:]])


def test_parts_are_bounded_and_have_one_order() -> None:
    """Arrays end anywhere within them."""
    noise = np.random.default_rng(1).integers(0, 256, 2 * PART_BYTES + 5, np.uint8)
    few = np.arange(7.0)
    parts = list(Snapshot({}, [("a", "few", few), ("a", "none", few[:0]), ("a", "noise", noise)]).parts())
    assert len(parts) == 1 + 3
    assert max(map(len, parts)) <= PART_BYTES + 33
    found = [np.zeros_like(few), few[:0].copy(), np.zeros_like(noise)]
    Opened.of(parts).pour(found)
    assert (found[0] == few).all()
    assert (found[2] == noise).all()
    with pytest.raises(Damaged):
        Opened.of([parts[0], parts[2], parts[1], parts[3]]).pour(found)


def test_what_does_not_pay_is_not_packed() -> None:
    noise = np.random.default_rng(1).integers(0, 256, 1000, np.uint8)
    kinds = [part[32] for part in [*Snapshot({}, [("a", "b", noise)]).parts()][1:]]
    kinds += [part[32] for part in [*Snapshot({}, [("a", "b", np.zeros(1000, np.uint8))]).parts()][1:]]
    assert kinds == [0, 1]


def test_a_copy_stays_as_it_was() -> None:
    shard = story()
    before = list(shard.snapshot().parts())
    copy = shard.snapshot(copied=True)
    judged(shard, SAVED, END)
    assert list(copy.parts()) == before
    assert list(shard.snapshot().parts()) != before


def test_the_configuration_is_that_of_the_story() -> None:
    assert CONFIG.window.max_keys == FOLDS.capacity == restored(kept(1)).used
