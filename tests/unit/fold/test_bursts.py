"""A category that comes more often than in the long run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import F64
from tests.support.batches import Row
from tests.support.featured import START, column, featured, spec_of

BURST = {"categorical": {"c": ["burst_overall"]}}


def rows_of(categories: Sequence[str]) -> list[Row]:
    """All at one time: bursts know no clock."""
    return [(f"k{i % 3}", START, (), (category,)) for i, category in enumerate(categories)]


def bursts(categories: Sequence[str], rows: int = 8, **features: object) -> F64:
    spec = spec_of(rows, **BURST, **features)
    found: F64 = column(featured(rows_of(categories), spec), spec, "c.burst_overall").astype(np.float64)
    return found


def chi_squared(categories: Sequence[str], rows: int) -> float:
    """Of the last category, by the papers' formula, with a decay of 1/rows of the counts in the present tick."""
    stays = 1 - 1 / rows
    weight = [stays**age for age in range(len(categories))]
    t = len(categories) / sum(weight)
    a = sum(one for one, category in zip(weight, reversed(categories), strict=True) if category == categories[-1])
    s = sum(category == categories[-1] for category in categories)
    return (a - s / t) ** 2 * t**2 / (s * max(t - 1, 1)) if a > s / t else 0.0


@settings(max_examples=40, deadline=None)
@given(categories=st.lists(st.sampled_from(["", *"pqrst"]), min_size=1, max_size=120), rows=st.sampled_from([1, 4, 16]))
def test_it_is_the_root_of_the_papers_chi_squared(categories: list[str], rows: int) -> None:
    found = bursts(categories, rows)
    known: list[str] = []
    for category, burst in zip(categories, found.tolist(), strict=True):
        if category == "":
            assert math.isnan(burst)
            continue
        known.append(category)
        # the root of what is left of two equal numbers
        assert burst == pytest.approx(math.sqrt(chi_squared(known, rows)), rel=1e-5, abs=1e-5)


def test_a_burst_stands_out_of_chance() -> None:
    rng = np.random.default_rng(3)
    usual = rng.choice(["a", "b", "seldom"], 3000, p=[0.6, 0.3, 0.1]).tolist()
    found = bursts([*usual, *["seldom"] * 12], rows=16)
    assert found[-1] > 1.3 * found[300:3000].max()


def test_what_lasts_becomes_usual() -> None:
    """The long run is halved when it is 200 half-lives long."""
    found = bursts(["a"] * 2000 + ["b"] * 4000, half_life_rows=10.0)
    assert found[2000:2020].max() > 20.0
    assert found[-1] < 0.5
    assert bursts(["a"] * 2000 + ["b"] * 4000)[-1] > 1.0


def test_where_categories_share_counters_the_count_of_none_is_too_low() -> None:
    """30,000 different ones in 16,384 counters: of late each was seen once, and a ninth of a tick has one of them."""
    found = bursts([*(f"n{number}" for number in range(30_000)), *["again"] * 8], rows=16)
    assert found[-1] > 1.3 * found[5_000:30_000].max()
