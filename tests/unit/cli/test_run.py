"""What a bounded run answers: no more than was done."""

from __future__ import annotations

import pytest

from stream_ad.cli.run import _bounded, _left
from stream_ad.errors import InputError, Unfinished


@pytest.mark.parametrize(
    ("committed", "left"),
    [({0: 100, 1: 50}, 0), ({0: 8, 1: 50}, 92), ({0: None, 1: None}, 130), ({0: 120, 1: 60}, 0), ({}, 130)],
)
def test_what_is_left_counts_from_the_start_of_the_log(committed: dict[int, int | None], left: int) -> None:
    assert _left({0: 0, 1: 20}, {0: 100, 1: 50}, committed) == left


@pytest.mark.parametrize(
    ("facts", "code", "ends", "says"),
    [
        ({"left": 0, "events": 5, "rejects": 1}, 0, 0, "all 100 offsets"),
        ({"left": 0, "events": 0, "rejects": 0}, 0, 0, "all 100 offsets"),
        ({"left": 0, "events": 0, "rejects": 9}, 0, InputError.exit_code, "all 100 offsets"),
        ({"left": 92, "events": 8, "rejects": 0}, 0, Unfinished.exit_code, "92 of the 100 offsets"),
        ({"left": 92, "events": 0, "rejects": 8}, 0, Unfinished.exit_code, "92 of the 100 offsets"),
        ({"left": 92, "events": 8, "rejects": 0}, 130, 130, "92 of the 100 offsets"),
    ],
)
def test_all_is_said_only_of_all(facts: dict[str, int], code: int, ends: int, says: str) -> None:
    found, words = _bounded("t", 100, facts, code)
    assert found == ends
    assert says in words
    assert words.startswith("all") is not bool(facts["left"])
