"""A pair of categorical fields is a category itself."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ad.batch import Explanation
from stream_ad.config import Window
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ConfigError
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.keys import Keys
from stream_ad.fold.windows import CountWindow
from stream_ad.messages.explain import contributors
from stream_ad.testing import check_snapshot, check_split_invariance
from tests.support.batches import Row, events
from tests.support.featured import START, column, featured, spec_of

KINDS = ["novelty", "frequency", "novelty_overall", "frequency_overall", "burst_overall", "missing"]
PAIR = {"categorical": {"service": ["novelty"], "service + flag": KINDS}}
USUAL = [("http", "SF"), ("dns", "S0"), ("http", "SF"), ("smtp", "SF")] * 20


def rows_of(categories: list[tuple[str, str]]) -> list[Row]:
    return [("k", START + 1000 * i, (), pair) for i, pair in enumerate(categories)]


def last(categories: list[tuple[str, str]], spec: FeatureSpec, kind: str) -> float:
    return float(column(featured(rows_of(categories), spec), spec, f"service + flag.{kind}")[-1])


@pytest.mark.parametrize("kind", ["novelty", "novelty_overall"])
def test_a_pair_that_was_never_seen_is_novel_though_both_halves_are_usual(kind: str) -> None:
    spec = spec_of(**PAIR)
    assert last([*USUAL, ("http", "SF")], spec, kind) == 0.0
    assert last([*USUAL, ("dns", "SF")], spec, kind) == 1.0
    assert column(featured(rows_of([*USUAL, ("dns", "SF")]), spec), spec, "service.novelty")[-1] == 0.0


def test_a_half_may_have_no_features_of_its_own_and_the_order_is_that_of_the_name() -> None:
    spec = spec_of(categorical={"flag + service": ["novelty"], "service": ["novelty"]})
    assert spec.categorical == ("service", "flag")
    assert spec.pairs == ((1, 0),)
    assert FeatureSpec.from_json(spec.to_json()) == spec
    swapped = featured(rows_of([("x", "y"), ("y", "x"), ("x", "y")]), spec)
    assert column(swapped, spec, "flag + service.novelty").tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("pair", [("", "SF"), ("http", ""), ("", "")])
def test_where_a_half_is_missing_there_is_no_pair(pair: tuple[str, str]) -> None:
    spec = spec_of(**PAIR)
    assert all(np.isnan(last([*USUAL, pair], spec, kind)) for kind in KINDS[:-1])
    assert last([*USUAL, pair], spec, "missing") == 1.0
    assert last(USUAL, spec, "missing") == 0.0


def test_pairs_keep_the_laws_of_a_fold() -> None:
    spec, window = spec_of(**PAIR), Window(rows=4)
    keys, windows = Keys(window, 64), CountWindow(window, 0)
    batch = windows.step(windows.init(4), keys.step(keys.init(4), events(rows_of([*USUAL, ("dns", "SF"), ("", "SF")]))))
    check_split_invariance(lambda: Featuriser(spec), batch, [1, 7, 40], 4)
    check_snapshot(lambda: Featuriser(spec), batch, 33, 4)


def test_an_alert_says_both_halves() -> None:
    spec = spec_of(**PAIR)
    batch = featured(rows_of([*USUAL, ("dns", "SF")]), spec)
    index = [feature.name for feature in spec.features].index("service + flag.novelty")
    contribution = np.zeros((1, *batch.x.shape[1:]), np.float32)
    contribution[0, -1, index] = 1.0
    usual = np.zeros_like(contribution)
    rows = np.array([len(batch.row) - 1])
    explanation = Explanation(contribution, usual, np.zeros(len(spec.features), np.float32))
    (((told,),)) = contributors(batch, rows, explanation, spec)
    assert told.text == "service dns with flag SF never seen for this key"
    assert (told.field, told.observed, told.direction) == ("service + flag", "dns + SF", "novel")


@pytest.mark.parametrize("name", ["a + b + c", "a + a", "a + ", " + a"])
def test_what_is_no_pair_of_two_fields_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"features\.categorical\..*: a pair is two different fields"):
        spec_of(categorical={name: ["novelty"]})


def test_a_pair_is_of_categories() -> None:
    with pytest.raises(ConfigError, match=r"features\.categorical\.a: is a numeric field already"):
        spec_of(numeric={"a": ["raw"]}, categorical={"a + b": ["novelty"]})
    with pytest.raises(ConfigError, match=r"features\.categorical\.a \+ b: no feature is called 'zscore'"):
        spec_of(categorical={"a + b": ["zscore"]})
