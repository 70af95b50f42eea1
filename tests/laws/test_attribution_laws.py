"""The law of attribution: whichever scorer judges, its explanation names the field that moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stream_ad import config, registry
from stream_ad.batch import EventBatch, RawBatch, Strings
from stream_ad.messages.explain import contributors
from stream_ad.score.local import LocalModels
from stream_ad.score.train import train
from stream_ad.state.assemble import Assembly
from tests.support.shifts import by_chance, hits

FIELDS, KEYS, ROWS, LEARNT = ("a", "b", "c", "d"), 2, 1200, 900
SHIFT, EVERY = 20.0, 20
NEARLY_ALL = 0.97
START_MS, STEP_MS = 1_700_000_000_000, 1000


def events(values: np.ndarray, first: int) -> EventBatch:
    n = len(values)
    offset = np.arange(first, first + n)
    raw = RawBatch("t", 0, offset, offset, [], [], lambda row: [], first + n)
    keys = Strings.of([b"k%d" % (at % KEYS) for at in offset.tolist()])
    return EventBatch(
        raw, np.arange(n), offset, START_MS + STEP_MS * offset, keys, values, (), np.zeros((n, 0), np.uint64)
    )


def named(scorer: str, event: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The shifted field of some rows of independent fields, and what the explanation of each names."""
    made = config.parse(
        {
            "window": {"rows": 4},
            "features": {"event": list(event), "numeric": {field: ["zscore"] for field in FIELDS}},
            "train": {"scorer": scorer, "min_events": 256},
        }
    )
    noise = np.random.default_rng(1)
    values = noise.normal(size=(ROWS, len(FIELDS))) * [1.0, 30.0, 0.1, 1000.0] + [0.0, 5.0, -3.0, 1e5]
    rows = np.arange(LEARNT + EVERY, ROWS, EVERY + 1)  # of both keys in turn
    moved = noise.integers(len(FIELDS), size=len(rows))
    values[rows, moved] += SHIFT * noise.choice([-1.0, 1.0], len(rows)) * np.array([1.0, 30.0, 0.1, 1000.0])[moved]
    parts = Assembly.of(made)
    shard = parts.shard(0)
    past, later = shard.submit(events(values[:LEARNT], 0)), shard.submit(events(values[LEARNT:], LEARNT))
    bundles = []
    if scorer != "statistical":
        bundles = [train(past.x, START_MS + STEP_MS * past.row, parts.spec, made.train, "a law", 0).to_bytes()]
    with LocalModels(made, bundles) as models:
        explanation = models.explain(models.versions[-1], later.x[rows - LEARNT])
    told = contributors(later, rows - LEARNT, explanation, parts.spec)
    return [FIELDS[at] for at in moved.tolist()], [[one.field for one in ones] for ones in told]


@pytest.mark.parametrize("scorer", registry.names("scorer"))
@pytest.mark.parametrize("event", [(), ("joint",)])
def test_the_explanation_names_the_field_that_moved(scorer: str, event: tuple[str, ...]) -> None:
    """By chance a quarter would be right; with a distance of all fields beside them less."""
    true, told = named(scorer, event)
    found = hits(true, told, np.ones(len(true), bool))
    assert found.rows >= 10
    assert found.all_first >= NEARLY_ALL > by_chance(len(FIELDS))[0]
