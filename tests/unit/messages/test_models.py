"""Bundles as records of the log, whoever wrote them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.batch import Message
from stream_ad.messages.models import PART_BYTES, encode_bundle, join_bundle


def rows(messages: list[Message]) -> list[tuple[bytes | None, bytes | None]]:
    return [(one.key, one.value) for one in messages]


@given(size=st.integers(1, 4 * PART_BYTES), order=st.randoms())
def test_a_bundle_comes_back_from_its_parts_in_any_order(size: int, order) -> None:
    blob = bytes(size)
    parts = rows(encode_bundle("v", blob)) * 2
    order.shuffle(parts)
    assert join_bundle("v", parts) == blob


@pytest.mark.parametrize("place", ["1/" + "9" * 5000, "9" * 5000 + "/1", "1/¹", "1/-1", "1", "1/1/1", "", "/"])
def test_a_place_that_is_none_is_no_part(place: str) -> None:
    assert join_bundle("v", [(b"v/1/1", b"y"), (f"v/{place}".encode(), b"x")]) == b"y"


@given(number=st.integers(0, 10**14), total=st.integers(0, 10**14) | st.just(10**14))
def test_a_part_of_a_bundle_that_is_never_complete_is_no_bundle(number: int, total: int) -> None:
    parts = [(f"v/{number}/{total}".encode(), b"x")]
    assert join_bundle("v", parts) == (b"x" if number == total == 1 else None)
