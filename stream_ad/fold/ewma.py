"""The exponentially weighted mean and variance of a series, one value at a time."""

from __future__ import annotations

from stream_ad.kernel import kernel


@kernel
def moved(mean: float, variance: float, weight: float, value: float) -> tuple[float, float]:
    """Mean and variance with `value` among them (West, CACM 1979; Finch 2009, section 9).

    With the weight max(1/k, alpha) for the k-th value the first 1/alpha values count alike.
    """
    delta = value - mean
    step = weight * delta
    return mean + step, (1.0 - weight) * (variance + delta * step)
