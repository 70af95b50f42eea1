"""The laws over keys, windows and features together: how they are wired in a shard."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import EventBatch, FeatureBatch
from stream_ad.config import Config, parse
from stream_ad.config.feature_kinds import kinds_of
from stream_ad.config.feature_kinds.row import Of, Parameter
from stream_ad.config.features import FeatureSpec
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.keys import Keys
from stream_ad.fold.state import arrays, bytes_per_key, fill
from stream_ad.fold.windows import CountWindow, TimeWindow
from tests.support.batches import Row, events
from tests.support.strategies import cuts, same_batches, same_state, streams

PARAMETERS = {None: "", Parameter.ROWS: ":3", Parameter.SPAN: ":3s"}
EVERY = {of: [kind.name + PARAMETERS[kind.parameter] for kind in kinds_of(of).values()] for of in Of}
FEATURES = {
    "event": [*EVERY[Of.EVENT], "count:1m"],
    "numeric": {"a": EVERY[Of.NUMBER], "b": ["zscore", "ew_std:50", "sum:1m"]},
    "categorical": {"c": EVERY[Of.CATEGORY]},
    "half_life_rows": 5.0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "count": {"rows": 4, "max_keys": 16},
    "evicting": {"rows": 3, "max_keys": 2, "hop": 2},
    "one key": {"rows": 2, "max_keys": 1},
    "time": {"rows": 5, "max_keys": 16, "kind": "time", "span": "9s", "late": "drop", "allowed_lateness": "2s"},
    "rejecting": {"rows": 4, "max_keys": 3, "hop": 3, "late": "reject"},
}


class Chain:
    def __init__(self, config: Config) -> None:
        spec = FeatureSpec.of(config)
        window = TimeWindow if config.window.kind == "time" else CountWindow
        self.keys = Keys(config.window, 64)
        self.folds = (self.keys, window(config.window, len(spec.numeric)), Featuriser(spec))
        self.capacity = config.window.max_keys
        self.states = self.fresh()

    def fresh(self) -> list[Any]:
        return [fold.init(self.capacity) for fold in self.folds]

    @property
    def used(self) -> int:
        return self.keys.used(self.states[0])

    def step(self, batch: EventBatch) -> FeatureBatch:
        result: Any = batch
        for fold, state in zip(self.folds, self.states, strict=True):
            result = fold.step(state, result)
        return result  # type: ignore[no-any-return]

    def restart(self) -> None:
        states = self.fresh()
        for new, old in zip(states, self.states, strict=True):
            fill(new, arrays(old, self.used))
        self.states = states


def chain(name: str) -> Chain:
    return Chain(parse({"window": CONFIGS[name], "features": FEATURES}))


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=30)
@given(st.data(), streams(), st.booleans())
def test_splits_and_restarts_change_nothing(name: str, data: st.DataObject, rows: list[Row], restart: bool) -> None:
    whole, parts, batch = chain(name), chain(name), events(rows)
    at, results = data.draw(cuts(len(rows))), []
    for first, last in pairwise(at):
        results.append(parts.step(batch.slice(first, last)))
        if restart:
            parts.restart()
    same_batches(whole.step(batch), results)
    assert whole.used == parts.used
    for one, other in zip(whole.states, parts.states, strict=True):
        same_state(one, other, whole.used)


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=30)
@given(streams())
def test_features_are_finite_or_nan(name: str, rows: list[Row]) -> None:
    result = chain(name).step(events(rows))
    assert not np.isinf(result.x).any()
    assert not np.isinf(result.base).any()


def without_pool(config: Config) -> list[int]:
    """The features that other keys have no part in."""
    names = [feature.name for feature in FeatureSpec.of(config).features]
    return [j for j, name in enumerate(names) if not any(part in name for part in ("zscore", "overall", "joint"))]


@settings(max_examples=40)
@given(streams())
def test_keys_are_independent_except_through_the_pool(rows: list[Row]) -> None:
    config = parse({"window": CONFIGS["count"], "features": FEATURES})
    own = without_pool(config)
    whole = Chain(config).step(events(rows))
    for key in {row[0] for row in rows}:
        mine = [i for i, row in enumerate(rows) if row[0] == key]
        alone = Chain(config).step(events([rows[i] for i in mine]))
        assert alone.x[:, :, own].tobytes() == whole.x[mine][:, :, own].tobytes()


@settings(max_examples=40)
@given(streams())
def test_an_evicted_key_starts_anew(rows: list[Row]) -> None:
    config = parse({"window": CONFIGS["one key"], "features": FEATURES})
    own = without_pool(config)
    whole = Chain(config).step(events(rows))
    changes = [i for i in range(1, len(rows)) if rows[i][0] != rows[i - 1][0]]
    for first, last in pairwise([0, *changes, len(rows)]):
        alone = Chain(config).step(events(rows[first:last]))
        assert alone.x[:, :, own].tobytes() == whole.x[first:last][:, :, own].tobytes()


def test_a_million_keys_cost_nothing_until_they_come() -> None:
    many = Chain(parse({"window": {"max_keys": 1_000_000}, "features": FEATURES}))
    result = many.step(events([("a", 0, [1.0, 2.0], ["x"])]))
    assert len(result) == 1
    snapshot = sum(value.nbytes for state in many.states for value in arrays(state, many.used).values())
    pooled = sum(value.nbytes for state in many.states for value in arrays(state, 0).values())
    assert snapshot - pooled == sum(bytes_per_key(state) for state in many.states)


def test_an_empty_batch_is_no_step() -> None:
    one = chain("count")
    assert len(one.step(events([], numeric=2, categorical=1))) == 0
    assert one.used == 0
