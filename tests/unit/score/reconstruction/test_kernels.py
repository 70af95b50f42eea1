"""The compiled loops against torch and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stream_ad.score.reconstruction import kernels
from stream_ad.score.scaling import lag_weights, row_error, row_error_torch, squash_torch

ANY = st.floats(width=32)


@settings(max_examples=80)
@given(
    x=arrays.arrays(np.float32, (4, 10), elements=ANY),
    y=arrays.arrays(np.float32, (4, 10), elements=st.floats(-100, 100, width=32)),
)
def test_the_kernels_do_what_torch_does_on_other_devices(x, y):
    centre, factor = torch.linspace(-3, 3, 10), torch.linspace(0.01, 5, 10)
    z = torch.empty(4, 10)
    kernels.squash(x, centre.numpy(), factor.numpy(), z.numpy())
    torch.testing.assert_close(z, squash_torch(torch.from_numpy(x), centre, factor), rtol=1e-5, atol=1e-5)
    assert z.isfinite().all()
    weight = lag_weights(5, 2)
    found = row_error(torch.from_numpy(x).reshape(4, 5, 2), z, torch.from_numpy(y), weight)
    expected = row_error_torch(torch.from_numpy(x), z, torch.from_numpy(y), weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("w", [1, 2, 5, 16, 33])
def test_comparators_sort(w):
    values = np.random.default_rng(w).normal(size=(w, 20)).astype(np.float32)
    pairs = kernels.comparators(w)
    for a, b in pairs:
        values[[a, b]] = np.sort(values[[a, b]], axis=0)
    assert (np.diff(values, axis=0) >= 0).all()


@settings(max_examples=60)
@given(
    x=arrays.arrays(np.float32, (3, 7, 2), elements=st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6, width=32)))
)
def test_medians_and_deviations_of_the_history_are_numpys(x):
    count, median, mad, mean_ad = kernels.history(x, kernels.comparators(6))
    for i in range(3):
        for j in range(2):
            past = x[i, :-1, j][~np.isnan(x[i, :-1, j])].astype(np.float64)
            assert count[i, j] == len(past)
            expected = np.median(past) if len(past) else 0.0
            assert median[i, j] == pytest.approx(expected, rel=1e-6)
            away = np.abs(past - float(median[i, j]))
            assert mad[i, j] == pytest.approx(np.median(away) if len(past) else 0.0, rel=1e-5, abs=1e-3)
            assert mean_ad[i, j] == pytest.approx(np.mean(away) if len(past) else 0.0, rel=1e-5, abs=1e-3)
