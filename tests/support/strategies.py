"""Streams of rows for hypothesis, and equality of batches and states to the bit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stream_ad.batch import Strings
from stream_ad.fold.state import arrays
from tests.support.batches import Row

KEYS = ["a", "b", "c", "card-0000001", "card-0000002", ""]
NUMBERS = st.one_of(
    st.floats(-100, 100), st.sampled_from([0.0, 1e9, 1e9 + 1, -1e300, 1e300, 1e-300]), st.just(float("nan"))
)


@st.composite
def streams(
    draw: st.DrawFn,
    d: int = 2,
    c: int = 1,
    max_size: int = 60,
    numbers: st.SearchStrategy[float] = NUMBERS,
    min_size: int = 1,
) -> list[Row]:
    """Few keys, time that mostly advances and sometimes steps back."""
    steps = st.one_of(st.integers(0, 2_000), st.integers(-5_000, 30_000))
    row = st.tuples(
        st.sampled_from(KEYS),
        steps,
        st.lists(numbers, min_size=d, max_size=d),
        st.lists(st.sampled_from(["", "x", "y", "z"]), min_size=c, max_size=c),
    )
    now, rows = 1_700_000_000_000, []
    for key, step, values, cats in draw(st.lists(row, min_size=min_size, max_size=max_size)):
        now += step
        rows.append((key, now, values, cats))
    return rows


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Where to cut a batch of `size` rows: sorted, with both ends."""
    return st.lists(st.integers(0, size), max_size=5).map(lambda inner: [0, *sorted(inner), size])


def same_state(one: Any, other: Any, used: int) -> None:
    left, right = arrays(one, used), arrays(other, used)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.tobytes() == right[name].tobytes(), name


def same_batches(whole: Any, parts: list[Any]) -> None:
    """The columns of `parts`, joined, are those of `whole`, bit for bit."""
    for field in dataclasses.fields(whole):
        value = getattr(whole, field.name)
        pieces = [getattr(part, field.name) for part in parts]
        if field.name == "row" and hasattr(whole, "windows"):
            before = np.cumsum([0, *(len(part.windows) for part in parts)])
            pieces = [piece + first for piece, first in zip(pieces, before[:-1], strict=True)]
        if isinstance(value, np.ndarray):
            assert value.tobytes() == np.concatenate(pieces).tobytes(), field.name
        elif isinstance(value, Strings):
            assert value.tolist() == [row for piece in pieces for row in piece.tolist()]
        elif field.name == "dropped":
            assert value == sum(pieces)
        elif field.name == "rejects":
            told = [pair for piece in pieces if piece for pair in zip(piece.row, piece.reason, strict=True)]
            assert (list(zip(value.row, value.reason, strict=True)) if value else []) == told
        elif dataclasses.is_dataclass(value) and field.name != "raw":
            same_batches(value, pieces)
