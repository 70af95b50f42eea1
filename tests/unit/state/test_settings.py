"""Which settings made a snapshot."""

from __future__ import annotations

from typing import Any

import pytest

from stream_ad.config import Config, parse
from stream_ad.state.settings import CAPACITY, FROM_NOW_ON, changed, folded, listed, outgrown

NOW = folded(Config())


@pytest.mark.parametrize("name", NOW)
def test_another_value_of_any_setting_is_a_change_unless_it_holds_from_now_on(name: str) -> None:
    words = changed({**NOW, name: "another"}, NOW)
    if name.startswith((CAPACITY, *FROM_NOW_ON)):
        assert not words
    else:
        assert len(words) == 1
        assert words[0].startswith(f'{name} was "another" and is ')


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"features": {"numeric": {"a": ["zscore"]}}}, 'features.numeric.a was not set and is ["zscore"]'),
        ({"threshold": {"half_life_rows": 90}}, "threshold.half_life_rows was 200.0 and is 90.0"),
        ({"window": {"late": "drop"}}, 'window.late was "accept" and is "drop"'),
        ({"rules": {"valid": {"a": [0, 5]}}, "features": {"numeric": {"a": ["raw"]}}}, "rules.valid.a was not set and"),
    ],
)
def test_a_change_is_told_in_words_and_back_again(document: dict[str, Any], words: str) -> None:
    other = folded(parse(document))
    assert words in listed(changed(NOW, other))
    assert changed(other, NOW)
    assert not changed(other, other)


def test_a_setting_that_an_earlier_program_did_not_know_had_its_default() -> None:
    then = {name: value for name, value in NOW.items() if name != "window.late"}
    assert not changed(then, NOW)
    assert changed(then, {**NOW, "window.late": "drop"})
    assert not changed(None, NOW)


def test_more_room_for_keys_changes_nothing_unless_keys_were_forgotten() -> None:
    most = NOW[CAPACITY]
    more = {**NOW, CAPACITY: 2 * most}
    assert not outgrown(NOW, more, most - 1)
    assert outgrown(NOW, more, most) == [f"{CAPACITY} was {most} and is {2 * most}"]
    assert not outgrown(NOW, NOW, most)
    assert not changed(NOW, more)
