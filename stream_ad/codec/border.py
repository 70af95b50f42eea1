"""The codec's border: a record for which the codec fails becomes a reject, and its neighbours stay events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_ad.batch import EventBatch, RawBatch, RejectBatch, Strings
from stream_ad.border import ContractBroken, Failed, Stretch, check_array, isolated
from stream_ad.config import Record
from stream_ad.protocols import Codec


class GuardedCodec:
    """A codec whose batches keep the contract, whatever the codec inside does.

    A record for which it raises, or answers no proper event, is rejected with the reason `codec_error`.
    """

    def __init__(self, codec: Codec, record: Record, numeric: int, categorical: int) -> None:
        """`numeric` and `categorical` are the numbers of fields."""
        self._codec, self._record = codec, record
        self._numeric, self._categorical = numeric, categorical

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        """Raises a `StreamAdError` that the codec raises: then the codec cannot work at all."""

        def ask(first: int, last: int) -> tuple[EventBatch, RejectBatch]:
            part = raw if last - first == len(raw) else _part(raw, first, last)
            answer = self._codec.decode(part)
            self._check(part, *answer)
            return answer

        outcomes = list(isolated(len(raw), ask))
        if len(outcomes) == 1 and isinstance(outcomes[0], Stretch):
            return outcomes[0].answer
        return self._joined(raw, outcomes)

    def _check(self, raw: RawBatch, events: EventBatch, rejects: RejectBatch) -> None:
        """Raises `ContractBroken`."""
        n, record = len(events), self._record
        check_array("row", events.row, np.int64, (n,))
        check_array("offset", events.offset, np.int64, (n,))
        check_array("ts_ms", events.ts_ms, np.int64, (n,))
        check_array("values", events.values, np.float64, (n, self._numeric))
        check_array("codes", events.codes, np.uint64, (n, self._categorical))
        rows = np.concatenate([events.row, np.array(rejects.row, np.int64)])
        if len(rejects.row) != len(rejects.reason) or not np.array_equal(np.sort(rows), np.arange(len(raw))):
            raise ContractBroken(f"makes {n} events and {len(rejects)} rejects of {len(raw)} records")
        if np.any(np.diff(events.row) <= 0) or np.any(np.diff(rejects.row) <= 0):
            raise ContractBroken("changes the order of the records")
        if not np.array_equal(events.offset, raw.offset[events.row]):
            raise ContractBroken("gives an event another record's offset")
        if len(events.cats) != self._categorical:
            raise ContractBroken(f"gives {len(events.cats)} categories where {self._categorical} are expected")
        for name, column in (("key", events.key), *(("cats", cat) for cat in events.cats)):
            _check_strings(name, column, n)
        if np.isinf(events.values).any():
            raise ContractBroken("gives an infinite value")
        if n and not record.earliest <= events.ts_ms.min() <= events.ts_ms.max() < record.latest:
            raise ContractBroken("gives an event time outside record.earliest and record.latest")
        if n and not 0 < np.diff(events.key.start).min() <= np.diff(events.key.start).max() <= record.max_key_bytes:
            raise ContractBroken("gives an empty key, or one longer than record.max_key_bytes")

    def _joined(
        self, raw: RawBatch, outcomes: Sequence[Stretch[tuple[EventBatch, RejectBatch]] | Failed]
    ) -> tuple[EventBatch, RejectBatch]:
        rejected: list[tuple[int, str]] = []
        row = [np.zeros(0, np.int64)]
        parts: list[EventBatch] = []
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                rejected.append((outcome.row, f"codec_error: {outcome.reason}"))
                continue
            events, rejects = outcome.answer
            parts.append(events)
            row.append(events.row + outcome.first)
            rejected += [(at + outcome.first, why) for at, why in zip(rejects.row, rejects.reason, strict=True)]
        rows = np.concatenate(row)
        columns = [[part.cats[column] for part in parts] for column in range(self._categorical)]
        events = EventBatch(
            raw=raw,
            row=rows,
            offset=raw.offset[rows],
            ts_ms=np.concatenate([np.zeros(0, np.int64), *(part.ts_ms for part in parts)]),
            key=Strings.concat([part.key for part in parts]),
            values=np.concatenate([np.zeros((0, self._numeric)), *(part.values for part in parts)]),
            cats=tuple(Strings.concat(column) for column in columns),
            codes=np.concatenate([np.zeros((0, self._categorical), np.uint64), *(part.codes for part in parts)]),
        )
        return events, RejectBatch(raw, [at for at, _ in rejected], [why for _, why in rejected])


def _part(raw: RawBatch, first: int, last: int) -> RawBatch:
    return RawBatch(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset[first:last],
        timestamp_ms=raw.timestamp_ms[first:last],
        key=raw.key[first:last],
        value=raw.value[first:last],
        headers=lambda row: raw.headers(first + row),
        next_offset=raw.next_offset,
    )


def _check_strings(name: str, column: Strings, rows: int) -> None:
    """Raises `ContractBroken`: compiled loops would read beyond the end."""
    check_array(f"{name}.start", column.start, np.int64, (rows + 1,))
    check_array(f"{name}.data", column.data, np.uint8, (len(column.data),))
    if column.start[0] < 0 or column.start[-1] > len(column.data) or np.any(np.diff(column.start) < 0):
        raise ContractBroken(f"{name} reaches beyond its data")
