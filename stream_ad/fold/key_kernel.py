"""The key table's loops: open addressing with linear probing, and the keys in order of their last event.

An entry of the table is `hash & TAG | slot + 1`, 0 = empty: the upper half of the key's
hash says where its probing begins and spares most comparisons of bytes. Entries are
removed by shifting back those that follow (Knuth, TAOCP vol. 3, 6.4, algorithm R), so
that no tombstones gather.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_ad.batch import I32, I64, U8, U64, Bool
from stream_ad.fold.state import Records
from stream_ad.hash_kernel import FNV_BASIS, fnv1a, splitmix64
from stream_ad.kernel import kernel, prefetch

TAG = np.uint64(0xFFFFFFFF00000000)
SLOT = np.uint64(0x00000000FFFFFFFF)
HALF = np.uint64(32)
ONE = np.uint64(1)
EMPTY = np.uint64(0)
AHEAD = 8  # rows between the prefetch of a key's memory and its use

LINK = np.dtype(
    [
        ("older", "i4"),  # slot of the key that was seen just before
        ("newer", "i4"),  # and just after
        ("length", "i4"),  # bytes of the key
    ]
)
ENDS = np.dtype([("oldest", "i4"), ("newest", "i4")])  # slots


class Events(NamedTuple):
    key_data: U8  # [b]
    key_start: I64  # [n+1]
    ts_ms: I64  # [n]


class Table(NamedTuple):
    """The arrays of a `KeyState`."""

    ends: Records  # [1]  ENDS
    used: I64  # [1]
    latest_ms: I64  # [1]
    key: U8  # [capacity,max_key_bytes]
    link: Records  # [capacity]  LINK
    entry: U64  # [size]


class Lateness(NamedTuple):
    allowed_ms: int
    keep: bool  # late events, as any other


class Keyed(NamedTuple):
    """What the loop computes for each event, [n] each. A late event that is not kept has no slot."""

    slot: I32
    fresh: Bool
    watermark: I64  # after the event
    late: Bool


@kernel
def hash_bytes(data: U8, start: int, stop: int) -> np.uint64:
    """FNV-1a over eight bytes at a time, with splitmix64's increment for a prime; then over the rest, and mixed."""
    h = FNV_BASIS ^ np.uint64(stop - start)
    i = start
    while i + 8 <= stop:
        word = np.uint64(0)
        for j in range(8):
            word |= np.uint64(data[i + j]) << np.uint64(8 * j)
        h = (h ^ word) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
        i += 8
    return splitmix64(fnv1a(data, i, stop, h))


@kernel
def same(data: U8, start: int, length: int, key: U8, slot: np.int64) -> bool:
    """The bytes from `start` are those of the slot's key (of equal length)."""
    for j in range(length):  # noqa: SIM110  (numba has no generators)
        if data[start + j] != key[slot, j]:
            return False
    return True


@kernel
def find(table: U64, h: np.uint64, data: U8, first: int, length: int, key: U8, link: Records) -> np.int64:
    """The slot of the key `data[first : first + length]`; -1 = none."""
    mask = np.uint64(len(table) - 1)
    at = (h >> HALF) & mask
    while table[at] != EMPTY:
        if table[at] & TAG == h & TAG:
            slot = np.int64((table[at] & SLOT) - ONE)
            if link[slot].length == length and same(data, first, length, key, slot):
                return slot
        at = (at + ONE) & mask
    return np.int64(-1)


@kernel
def insert(table: U64, h: np.uint64, slot: np.int64) -> None:
    mask = np.uint64(len(table) - 1)
    at = (h >> HALF) & mask
    while table[at] != EMPTY:
        at = (at + ONE) & mask
    table[at] = (h & TAG) | np.uint64(slot + 1)


@kernel
def remove(table: U64, h: np.uint64, slot: np.int64) -> None:
    mask = np.uint64(len(table) - 1)
    entry = (h & TAG) | np.uint64(slot + 1)
    hole = (h >> HALF) & mask
    while table[hole] != entry:
        hole = (hole + ONE) & mask
    at = hole
    while True:
        at = (at + ONE) & mask
        if table[at] == EMPTY:
            break
        # an entry may fill the hole unless its probing begins behind it
        if ((at - (table[at] >> HALF)) & mask) >= ((at - hole) & mask):
            table[hole] = table[at]
            hole = at
    table[hole] = EMPTY


@kernel
def fill_table(table: Table) -> None:
    """Enters the slots in use, and no others."""
    entry, key, link = table.entry, table.key, table.link
    entry[:] = EMPTY
    for slot in range(table.used[0]):
        insert(entry, hash_bytes(key[slot], 0, link[slot].length), np.int64(slot))


@kernel
def unlink(link: Records, ends: Any, slot: np.int64) -> None:
    older, newer = link[slot].older, link[slot].newer
    if slot == ends.oldest:
        ends.oldest = newer
    else:
        link[older].newer = newer
    if slot == ends.newest:
        ends.newest = older
    else:
        link[newer].older = older


@kernel
def link_newest(link: Records, ends: Any, slot: np.int64, alone: bool) -> None:
    if alone:
        ends.oldest = slot
    else:
        link[slot].older = ends.newest
        link[ends.newest].newer = slot
    ends.newest = slot


@kernel
def enter(table: Table, h: np.uint64, data: U8, first: int, length: int) -> np.int64:
    """Gives a new key a slot and returns it. Where all are in use, the key seen longest ago loses its slot."""
    ends, used, key, link, entry = table.ends[0], table.used, table.key, table.link, table.entry
    if used[0] < len(key):
        slot: np.int64 = used[0]
        used[0] += 1
    else:
        slot = np.int64(ends.oldest)
        remove(entry, hash_bytes(key[slot], 0, link[slot].length), slot)
        unlink(link, ends, slot)
    for j in range(length):
        key[slot, j] = data[first + j]
    key[slot, length:] = 0
    link[slot].length = length
    insert(entry, h, slot)
    link_newest(link, ends, slot, used[0] == 1)
    return slot


@kernel
def assign(events: Events, lateness: Lateness, table: Table, out: Keyed) -> int:
    """Moves the watermark and finds the slot of every key, in log order; returns how many events are late.

    Unless `lateness.keep`, a late event touches no key. Returns -1 for a key that is too long; then nothing has
    changed.
    """
    # taken before the loop: within it, numba would count a reference each time
    data, start, ts_ms = events.key_data, events.key_start, events.ts_ms
    latest_ms, ends, key, link, entry = table.latest_ms, table.ends[0], table.key, table.link, table.entry
    slots, fresh, watermark, late = out.slot, out.fresh, out.watermark, out.late
    n = len(slots)
    mask = np.uint64(len(entry) - 1)
    hashes = np.empty(n, np.uint64)
    for i in range(n):
        if start[i + 1] - start[i] > key.shape[1]:
            return -1
        hashes[i] = hash_bytes(data, start[i], start[i + 1])
    count = 0
    for i in range(n):
        if i + 2 * AHEAD < n:
            prefetch(entry, (hashes[i + 2 * AHEAD] >> HALF) & mask)
        if i + AHEAD < n:
            likely = entry[(hashes[i + AHEAD] >> HALF) & mask]
            if likely != EMPTY:
                prefetch(key, (likely & SLOT) - ONE)
                prefetch(link, (likely & SLOT) - ONE)
        late[i] = ts_ms[i] < latest_ms[0] - lateness.allowed_ms
        count += late[i]
        latest_ms[0] = max(latest_ms[0], ts_ms[i])
        watermark[i] = latest_ms[0] - lateness.allowed_ms
        if late[i] and not lateness.keep:
            continue
        length = start[i + 1] - start[i]
        slot = find(entry, hashes[i], data, start[i], length, key, link)
        fresh[i] = slot < 0
        if fresh[i]:
            slot = enter(table, hashes[i], data, start[i], length)
        elif slot != ends.newest:
            unlink(link, ends, slot)
            link_newest(link, ends, slot, False)
        slots[i] = slot
    return count
