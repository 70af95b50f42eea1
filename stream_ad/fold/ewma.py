"""The exponentially weighted mean and variance of a series, one value at a time."""

from __future__ import annotations

from stream_ad.kernel import kernel


@kernel
def moved(mean: float, variance: float, weight: float, value: float) -> tuple[float, float]:
    """Mean and variance after `value` (West, CACM 1979; Finch 2009, section 9).

    If the k-th value has the weight max(1/k, alpha), the first 1/alpha values count alike.
    """
    delta = value - mean
    step = weight * delta
    return mean + step, (1.0 - weight) * (variance + delta * step)
