"""The distance that the fields of an event have together."""

import math

import numpy as np
import pytest

from stream_ad.config import parse
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ConfigError
from stream_ad.fold.features import joint
from tests.support.batches import Row
from tests.support.featured import START, column, featured, spec_of

TWO = {"event": ["joint"], "numeric": {"a": ["zscore"], "b": ["zscore"]}}
THREE = {"event": ["joint"], "numeric": {"a": ["zscore"], "b": ["zscore"], "c": ["zscore"]}}


def together(size: int, seed: int = 0) -> np.ndarray:
    """[size,2]: b follows a, but for a tenth of its deviation; each has levels and units of its own."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=size)
    return np.stack([50 + 5 * a, 1e6 + 1e4 * (0.995 * a + 0.1 * rng.normal(size=size))], axis=1)


def rows_of(values: np.ndarray, keys: int = 3) -> list[Row]:
    return [(f"k{i % keys}", START + 1000 * i, row) for i, row in enumerate(values.tolist())]


def test_values_that_do_not_go_together_stand_out_though_each_is_usual() -> None:
    values = together(3000)
    usual, apart = [50.0 + 1.5 * 5, 1e6 + 1.5 * 1e4], [50.0 + 1.5 * 5, 1e6 - 1.5 * 1e4]
    spec = spec_of(**TWO)
    batch = featured(rows_of(np.concatenate([values, [usual, apart]])), spec)
    distance = column(batch, spec, "joint")
    assert np.sqrt(np.mean(distance[1000:3000] ** 2)) == pytest.approx(0.8, abs=0.15)  # drawn towards the identity
    assert distance[-2] < 1.6
    assert distance[-1] > 3.5
    assert (np.abs(batch.x[-1, -1, 1:]) < 2).all()


def test_the_inverse_is_that_of_the_shrunk_covariance() -> None:
    rng = np.random.default_rng(1)
    covariance = np.cov(rng.normal(size=(7, 30)) * np.arange(1, 8)[:, None])
    precision = np.empty((7, 7))
    joint.fit(covariance, precision)
    shrunk = (1 - joint.SHRUNK) * covariance
    shrunk += (joint.SHRUNK * np.trace(covariance) / 7 + joint.LEAST_VARIANCE) * np.eye(7)
    np.testing.assert_allclose(precision, np.linalg.inv(shrunk), rtol=1e-9, atol=1e-12)


def test_an_outlier_changes_little_of_what_goes_together() -> None:
    values = together(3000)
    spec = spec_of(**TWO)
    wild = values.copy()
    wild[1500:1520] = [1e9, -1e12]
    plain, after = (column(featured(rows_of(one), spec), spec, "joint") for one in (values, wild))
    assert after[1500:1520].min() > 10
    np.testing.assert_allclose(after[2500:], plain[2500:], rtol=0.25)


def test_it_is_missing_where_all_values_are_and_a_missing_one_lies_at_its_mean() -> None:
    values = np.random.default_rng(2).normal(size=(600, 3))
    values[500] = np.nan
    values[501] = [np.nan, np.nan, 4.0]
    spec = spec_of(**THREE)
    distance = column(featured(rows_of(values), spec), spec, "joint")
    assert math.isnan(distance[500])
    assert distance[501] == pytest.approx(4.0 / math.sqrt(3), rel=0.25)


def test_the_first_events_of_a_shard_deviate_by_no_more_than_is_known() -> None:
    spec = spec_of(**TWO)
    distance = column(featured([("a", START, [1.0, 2.0]), ("b", START, [1e6, -1e9])], spec), spec, "joint")
    assert math.isnan(distance[0])
    assert distance[1] <= 1.0


def test_it_needs_two_fields() -> None:
    with pytest.raises(ConfigError, match=r"features.event: joint looks at fields together; name two under"):
        FeatureSpec.of(parse({"features": {"event": ["joint"], "numeric": {"a": ["zscore"]}}}))
