"""A decoded stretch can be cut at any offset; each record is on its side of the cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.batch import RawBatch
from stream_ad.codec.decoded import Decoded
from stream_ad.state import assemble

CODEC = assemble.codec(
    config.parse(
        {
            "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
            "features": {"numeric": {"a": ["raw"]}},
        }
    )
)


def decoded(offsets: list[int]) -> Decoded:
    """Each offset is the value of its event; every third one is no event."""
    lines = [b"{" if at % 3 == 0 else b'{"k": "key", "t": 1700000000000, "a": %d}' % at for at in offsets]
    at = np.array(offsets, np.int64)
    return Decoded.of(
        CODEC, RawBatch("t", 3, at, at, [None] * len(at), list(lines), lambda row: [], (offsets or [6])[-1] + 2)
    )


@given(offsets=st.sets(st.integers(5, 40)).map(sorted), cut=st.integers(0, 45))
def test_each_record_is_on_its_side_of_the_cut(offsets: list[int], cut: int) -> None:
    whole = decoded(offsets)
    head, rest = whole.split(cut)
    for part, expected in ((head, [at for at in offsets if at < cut]), (rest, [at for at in offsets if at >= cut])):
        assert part.events.offset.tolist() == [at for at in expected if at % 3]
        assert part.events.values[:, 0].tolist() == [at for at in expected if at % 3]
        assert part.raw.offset[part.rejects.row].tolist() == [at for at in expected if not at % 3]
    assert (head.first_offset, head.next_offset) == (whole.first_offset, cut)
    assert (rest.first_offset, rest.next_offset) == (cut, whole.next_offset)


def test_a_stretch_without_records_begins_where_it_ends() -> None:
    assert (decoded([]).first_offset, decoded([]).next_offset) == (8, 8)
