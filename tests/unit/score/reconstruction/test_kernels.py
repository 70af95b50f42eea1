"""The compiled loops against torch and numpy."""

from __future__ import annotations

import numpy as np
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
