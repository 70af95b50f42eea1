"""Scales features for a model, and calibrates its error to a score that all versions share.

On the CPU the two passes over the windows are numba kernels (torch's own take 1.7 times as
long as the whole scorer with them); elsewhere they are torch. Tests hold them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stream_ad.batch import F32
from stream_ad.score.reconstruction import kernels

LAG_DECAY = 0.7  # weight of a lag's error against that of the lag after it
LIMIT = float(kernels.LIMIT)
LINEAR = float(kernels.LINEAR)
HUGE = float(kernels.HUGE)
BLOCK_ROWS = 512
_ERROR_FLOOR = float(kernels.ERROR_FLOOR)


def blocks(x: Tensor) -> Iterator[Tensor]:
    """Slices of consecutive rows, so short that the cache holds their activations."""
    for first in range(0, len(x), BLOCK_ROWS):
        yield x[first : first + BLOCK_ROWS]


def lag_weights(w: int, f: int) -> Tensor:
    """float32 [w*f]: the newest lag weighs 1, each older one `LAG_DECAY` of its successor."""
    weight = LAG_DECAY ** np.arange(w - 1, -1, -1.0)
    return torch.from_numpy(np.repeat(weight, f).astype(np.float32))


def robust_spread(values: F32) -> F32:
    """[n,f] -> [f]: interquartile range / 1.349; the standard deviation where that is 0; NaN where nothing is."""
    spread = np.full(values.shape[1], np.nan, np.float32)
    for j in range(values.shape[1]):
        column = values[:, j][np.isfinite(values[:, j])].astype(np.float64)
        if len(column):
            low, high = np.percentile(column, [25, 75])
            spread[j] = (high - low) / 1.349 or column.std()
    return spread


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """Robust scaling of each feature, the same for every lag."""

    centre: Tensor  # [f]
    spread: Tensor  # [f] > 0

    @classmethod
    def learn(cls, x: F32) -> Scaler:
        """x [n,w,f]: median and interquartile range of the newest lag (each event counts once).

        A feature that never varied gets a twentieth of its size, one that was never there 0 and 1.
        """
        newest = x[:, -1]
        centre = np.zeros(x.shape[2], np.float32)
        for j in range(x.shape[2]):
            column = newest[:, j][np.isfinite(newest[:, j])]
            if len(column):
                centre[j] = np.median(column)
        spread = robust_spread(newest)
        seen = np.isfinite(spread)
        constant = seen & (spread <= 1e-6 * np.abs(centre))
        spread[constant] = np.maximum(0.05, 0.05 * np.abs(centre[constant]))
        spread[~seen] = 1.0
        return cls(torch.from_numpy(centre), torch.from_numpy(np.maximum(spread, 1e-20)))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Scaler:
        return cls(tensors["scaler.centre"], tensors["scaler.spread"])

    def tensors(self) -> dict[str, Tensor]:
        return {"scaler.centre": self.centre, "scaler.spread": self.spread}

    def squash(self, x: Tensor) -> Tensor:
        """x [n,w,f] -> z [n,w*f]: scaled, sign(z)*(5+log1p(|z|-5)) beyond +-5, 0 where x is NaN."""
        n, w, f = x.shape
        centre, factor = self.centre.repeat(w), self.spread.reciprocal().repeat(w)
        flat = x.reshape(n, w * f)
        if x.device.type != "cpu":
            return squash_torch(flat, centre, factor)
        z = torch.empty_like(flat)
        kernels.squash(flat.numpy(), centre.numpy(), factor.numpy(), z.numpy())
        return z

    def expand(self, z: Tensor, w: int) -> Tensor:
        """The inverse: z [n,w*f] -> [n,w,f] in units of the features."""
        size = z.abs()
        linear = torch.where(size > LINEAR, torch.sign(z) * (LINEAR + torch.expm1((size - LINEAR).clamp(0, 40))), z)
        values = linear.reshape(len(z), w, -1) * self.spread + self.centre
        return values.nan_to_num(0.0).clamp(-HUGE, HUGE)


def squash_torch(x: Tensor, centre: Tensor, factor: Tensor) -> Tensor:
    z = ((x - centre) * factor).nan_to_num(0.0, torch.inf, -torch.inf)
    return compressed(z)


def compressed(z: Tensor) -> Tensor:
    """Scaled values, sign(z)*(5+log1p(|z|-5)) beyond +-5."""
    size = z.abs().clamp(max=HUGE)
    return torch.where(size > LINEAR, torch.copysign(LINEAR + torch.log1p(size - LINEAR), z), z)


def row_error(x: Tensor, z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """x [n,w,f], z and y [n,w*f], weight [w*f] -> [n]: weighted mean of (y-z)^2 over what is present in x.

    NaN where nothing is present, infinite where y overflowed.
    """
    flat = x.reshape(len(x), -1)
    if x.device.type != "cpu":
        return row_error_torch(flat, z, y, weight)
    error = torch.empty(len(x))
    kernels.row_error(flat.numpy(), z.numpy(), y.numpy(), weight.numpy(), error.numpy())
    return error


def row_error_torch(x: Tensor, z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    share = (x == x) * weight
    error = torch.where(share > 0, (y - z).square() * share, 0.0).sum(1).nan_to_num(torch.inf, torch.inf)
    total = share.sum(1)
    return torch.where(total > 0, error / total, torch.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Error -> score: log(error), less its median, in robust standard deviations, on held-back normal rows."""

    constants: Tensor  # [2]  median of log(error + 1e-6), and 1.4826 times its median absolute deviation

    @classmethod
    def learn(cls, error: Tensor) -> Calibration:
        level = (error[error.isfinite()].double() + _ERROR_FLOOR).log()
        median = level.quantile(0.5)
        spread = 1.4826 * (level - median).abs().quantile(0.5)
        # identical rows have no spread; a smaller one would turn rounding errors into alarms
        return cls(torch.stack([median, spread.clamp(min=0.05)]).float())

    def score(self, error: Tensor) -> Tensor:
        """[n] -> [n], within +-50. NaN, an error of nothing, scores 0; one that overflowed scores 50."""
        level = ((error + _ERROR_FLOOR).log() - self.constants[0]) / self.constants[1]
        return level.nan_to_num(0.0, LIMIT, -LIMIT).clamp(-LIMIT, LIMIT)


def shares(parts: Tensor) -> Tensor:
    """Non-negative [k,w,f] -> the same summing to 1 over w and f; equal shares where all is 0."""
    parts = parts.nan_to_num(0.0, HUGE, 0.0).double()
    total = parts.sum((1, 2), keepdim=True)
    equal = 1.0 / (parts.shape[1] * parts.shape[2])
    return torch.where(total > 0, parts / total.clamp(min=1e-300), equal).float()
