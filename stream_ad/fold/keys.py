"""Gives each key a row of the state, and decides which events are late: the first fold of every partition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_ad.batch import I32, I64, U8, U64, EventBatch, KeyedBatch, RejectBatch
from stream_ad.config import Window
from stream_ad.fold.key_kernel import ENDS, LINK, Events, Keyed, Lateness, Table, assign, fill_table
from stream_ad.fold.state import per_key, records

NEVER_MS = -(2**62)


@dataclass
class KeyState:
    """The keys, and the order in which they were last seen.

    Snapshots leave the hash table out: it follows from the keys, and the first step after a restore makes it again.
    """

    ends: I32  # [2]  ENDS
    used: I64  # [1]  slots in use: 0 ... used - 1
    latest_ms: I64  # [1]  highest event time so far
    key: U8 = per_key()  # [capacity, max_key_bytes]  zeros behind the key
    link: I32 = per_key()  # [capacity, 3]  LINK

    def __post_init__(self) -> None:
        size = 1 << (2 * len(self.key)).bit_length()
        self.table: U64 = np.zeros(size, np.uint64)
        self.tabled = 0  # keys in the table

    def arrays(self) -> Table:
        """As the loops take them."""
        return Table(
            ends=records(self.ends, ENDS),
            used=self.used,
            latest_ms=self.latest_ms,
            key=self.key,
            link=records(self.link, LINK),
            entry=self.table,
        )


class Keys:
    """Fold[KeyState, EventBatch, KeyedBatch]: gives every key a slot, and takes late events out.

    Keys get the slots 0, 1, 2 … until all `capacity` are in use; then a new key takes the slot of the key whose last
    event lies furthest back in the log. Keys are compared byte by byte, also where their hashes are equal.

    The watermark is the highest event time of the partition less `window.allowed_lateness` (about `NEVER_MS` before
    the first event). An event is late if it lies behind the watermark of the events before it. `window.late` decides:
    `accept` treats it as any other, `drop` counts it, `reject` also makes it a reject. Dropped and rejected events
    leave no trace in the state.
    """

    def __init__(self, window: Window, max_key_bytes: int) -> None:
        self.window = window
        self.max_key_bytes = max_key_bytes

    def init(self, capacity: int) -> KeyState:
        return KeyState(
            key=np.zeros((capacity, self.max_key_bytes), np.uint8),
            link=np.zeros((capacity, 3), np.int32),
            ends=np.zeros(2, np.int32),
            used=np.zeros(1, np.int64),
            latest_ms=np.full(1, NEVER_MS, np.int64),
        )

    def used(self, state: KeyState) -> int:
        return int(state.used[0])

    def latest_ms(self, state: KeyState) -> int:
        """The highest event time so far; `NEVER_MS` before the first event."""
        return int(state.latest_ms[0])

    def name(self, state: KeyState, slot: int) -> bytes:
        """The key that owns a slot. Raises `IndexError` for a slot not in use."""
        if not 0 <= slot < self.used(state):
            raise IndexError(f"slot {slot} of {self.used(state)} in use")
        return state.key[slot, : records(state.link, LINK)["length"][slot]].tobytes()

    def step(self, state: KeyState, batch: EventBatch) -> KeyedBatch:
        """Raises `ValueError` for a key longer than `max_key_bytes` (codecs reject those)."""
        n, lateness = len(batch), self.window.allowed_lateness
        keep = self.window.late == "accept"
        keyed = Keyed(np.empty(n, np.int32), np.empty(n, np.bool_), np.empty(n, np.int64), np.empty(n, np.bool_))
        table = state.arrays()
        if state.tabled != state.used[0]:
            fill_table(table)
        count = assign(
            Events(np.ascontiguousarray(batch.key.data), batch.key.start, batch.ts_ms),
            Lateness(lateness, keep),
            table,
            keyed,
        )
        if count < 0:
            longest = np.diff(batch.key.start).max()
            raise ValueError(f"a key of {longest} bytes where at most {self.max_key_bytes} are expected")
        state.tabled = int(state.used[0])
        slot, fresh, watermark, late = keyed
        if not count or keep:
            return KeyedBatch.of(batch, slot, fresh, watermark)
        kept = np.flatnonzero(~late)
        rejects = _rejects(batch, np.flatnonzero(late), watermark, lateness) if self.window.late == "reject" else None
        dropped = 0 if rejects is not None else count
        return KeyedBatch.of(batch.take(kept), slot[kept], fresh[kept], watermark[kept], dropped, rejects)


def _rejects(batch: EventBatch, rows: I64, watermark: I64, lateness_ms: int) -> RejectBatch:
    # a late event leaves the watermark where it stood
    reasons = [
        f"late: event time {batch.ts_ms[row]} is {watermark[row] - batch.ts_ms[row]} ms behind the watermark "
        f"{watermark[row]} (window.allowed_lateness is {lateness_ms} ms)"
        for row in rows
    ]
    return RejectBatch(batch.raw, batch.row[rows].tolist(), reasons)
