"""The key table's loops: open addressing with linear probing, and the keys in order of their last event.

An entry of the table is `hash & TAG | slot + 1`, 0 = empty: the upper half of the key's
hash says where its probing begins and spares most comparisons of bytes. Entries are
removed by shifting back those that follow (Knuth, TAOCP vol. 3, 6.4, algorithm R), so
that no tombstones gather.
"""

from __future__ import annotations

import numpy as np

from stream_ad.batch import I32, I64, U8, U64, Bool
from stream_ad.kernel import kernel, prefetch

TAG = np.uint64(0xFFFFFFFF00000000)
SLOT = np.uint64(0x00000000FFFFFFFF)
HALF = np.uint64(32)
ONE = np.uint64(1)
EMPTY = np.uint64(0)
AHEAD = 8  # rows; long enough for memory to answer
OLDER, NEWER, LENGTH = 0, 1, 2  # columns of `link`; in `ends` the first two are the oldest and newest slot


@kernel
def hash_bytes(data: U8, start: int, stop: int) -> np.uint64:
    """FNV-1a over eight bytes at a time, finished with splitmix64's mixer (Steele et al. 2014)."""
    h = np.uint64(0xCBF29CE484222325) ^ np.uint64(stop - start)
    i = start
    while i + 8 <= stop:
        word = np.uint64(0)
        for j in range(8):
            word |= np.uint64(data[i + j]) << np.uint64(8 * j)
        h = (h ^ word) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
        i += 8
    while i < stop:
        h = (h ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
        i += 1
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@kernel
def same(data: U8, start: int, length: int, key: U8, slot: np.int64) -> bool:
    """The bytes from `start` are those of the slot's key (of equal length)."""
    for j in range(length):  # noqa: SIM110  (numba has no generators)
        if data[start + j] != key[slot, j]:
            return False
    return True


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
def fill_table(table: U64, key: U8, link: I32, used: int) -> None:
    """The table of the first `used` slots, into an empty one."""
    table[:] = EMPTY
    for slot in range(used):
        insert(table, hash_bytes(key[slot], 0, link[slot, LENGTH]), np.int64(slot))


@kernel
def unlink(link: I32, ends: I32, slot: np.int64) -> None:
    older, newer = link[slot, OLDER], link[slot, NEWER]
    if slot == ends[OLDER]:
        ends[OLDER] = newer
    else:
        link[older, NEWER] = newer
    if slot == ends[NEWER]:
        ends[NEWER] = older
    else:
        link[newer, OLDER] = older


@kernel
def link_newest(link: I32, ends: I32, slot: np.int64, alone: bool) -> None:
    if alone:
        ends[OLDER] = slot
    else:
        link[slot, OLDER] = ends[NEWER]
        link[ends[NEWER], NEWER] = slot
    ends[NEWER] = slot


@kernel
def assign(
    data: U8,
    start: I64,
    ts_ms: I64,
    lateness_ms: int,
    keep_late: bool,
    latest_ms: I64,
    key: U8,
    link: I32,
    ends: I32,
    used: I64,
    table: U64,
    watermark: I64,
    late: Bool,
    slots: I32,
    fresh: Bool,
) -> int:
    """The partition's clock and the slot of every key, in log order; answers how many events are late.

    Fills `watermark` (after the event), `late`, `slots`, `fresh` [n]. Unless `keep_late`, a late event
    touches no key. A key that is too long: answers -1, and nothing has changed.
    """
    n = len(slots)
    mask = np.uint64(len(table) - 1)
    hashes = np.empty(n, np.uint64)
    for i in range(n):
        if start[i + 1] - start[i] > key.shape[1]:
            return -1
        hashes[i] = hash_bytes(data, start[i], start[i + 1])
    count = 0
    for i in range(n):
        if i + 2 * AHEAD < n:
            prefetch(table, (hashes[i + 2 * AHEAD] >> HALF) & mask)
        if i + AHEAD < n:
            likely = table[(hashes[i + AHEAD] >> HALF) & mask]
            if likely != EMPTY:
                prefetch(key, (likely & SLOT) - ONE)
                prefetch(link, (likely & SLOT) - ONE)
        late[i] = ts_ms[i] < latest_ms[0] - lateness_ms
        count += late[i]
        latest_ms[0] = max(latest_ms[0], ts_ms[i])
        watermark[i] = latest_ms[0] - lateness_ms
        if late[i] and not keep_late:
            continue
        h, first = hashes[i], start[i]
        length = start[i + 1] - first
        slot = np.int64(-1)
        at = (h >> HALF) & mask
        while table[at] != EMPTY:
            if table[at] & TAG == h & TAG:
                candidate = np.int64((table[at] & SLOT) - ONE)
                if link[candidate, LENGTH] == length and same(data, first, length, key, candidate):
                    slot = candidate
                    break
            at = (at + ONE) & mask
        fresh[i] = slot < 0
        if fresh[i]:
            if used[0] < len(key):
                slot = used[0]
                used[0] += 1
            else:
                slot = np.int64(ends[OLDER])
                remove(table, hash_bytes(key[slot], 0, link[slot, LENGTH]), slot)
                unlink(link, ends, slot)
            for j in range(length):
                key[slot, j] = data[first + j]
            key[slot, length:] = 0
            link[slot, LENGTH] = length
            insert(table, h, slot)
            link_newest(link, ends, slot, used[0] == 1)
        elif slot != ends[NEWER]:
            unlink(link, ends, slot)
            link_newest(link, ends, slot, False)
        slots[i] = slot
    return count
