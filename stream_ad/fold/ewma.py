"""The exponentially weighted mean and variance of a series, one value at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_ad.kernel import kernel

MOMENTS = np.dtype([("rows", "f8"), ("mean", "f8"), ("variance", "f8")])


@kernel
def moved(mean: float, variance: float, weight: float, value: float) -> tuple[float, float]:
    """Mean and variance after `value` (West, CACM 1979; Finch 2009, section 9).

    If the k-th value has the weight max(1/k, alpha), the first 1/alpha values count alike.
    """
    delta = value - mean
    step = weight * delta
    return mean + step, (1.0 - weight) * (variance + delta * step)


@kernel
def learn(moments: Any, value: float, alpha: float) -> None:
    """One step of `MOMENTS`; the first 1/alpha values weigh the same."""
    moments.rows += 1.0
    weight = max(1.0 / moments.rows, alpha)
    moments.mean, moments.variance = moved(moments.mean, moments.variance, weight, value)


@kernel
def forget(moments: Any) -> None:
    moments.rows = moments.mean = moments.variance = 0.0


@kernel
def shift(moments: Any, a: float, b: float) -> None:
    """The moments of values that were `x`, for values that are `a + b * x`."""
    moments.mean = a + b * moments.mean
    moments.variance *= b * b
