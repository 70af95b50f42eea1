"""Scores robust deviations from the key's own recent past, without training and from the first event on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stream_ad.batch import F32, F64, Bool, Explanation
from stream_ad.config import ScorerOptions
from stream_ad.config.feature_kinds.row import Role
from stream_ad.config.features import FeatureSpec
from stream_ad.score.reconstruction import kernels
from stream_ad.score.scaling import LIMIT, shares

MIN_LAGS = 4
CLIP = 20.0  # deviations at most, so that one feature cannot hide how many others agree
_POWER = 4  # of the mean over features: near the largest, yet several small ones add up


class Statistical:
    """Power mean over the features of |deviation| of the newest lag, as a calibrated logarithm.

    Deviations follow the role of the kind, and are normal deviates, so that those of different kinds compare. Standard
    features are deviates already (they carry the shard's prior, so a key's first event is judged). For indicators the
    deviate is that of their share in the key's previous lags. For measures it is that of (value - median) / spread of
    the previous lags, where at least four are present; a few lags make it a Student t, whose tail is heavy: twenty
    spreads from seven lags are no more than four deviations. Context moves by steps and says nothing about the event
    itself; it is judged only where there is no other feature.
    The spread is the mean of 1.4826*MAD and 1.2533*mean absolute deviation: the first is robust,
    the second is not 0 for features that rarely move (Iglewicz & Hoaglin 1993 fall back alike).

    Always computed on the CPU.
    """

    Options = ScorerOptions  # it has none of its own

    def __init__(self, spec: FeatureSpec) -> None:
        roles = [spec.kind_of(feature).role for feature in spec.features]
        self.standard: Bool = np.array([role is Role.STANDARD for role in roles])
        self.indicator: Bool = np.array([role is Role.INDICATOR for role in roles])
        used = np.array([role is not Role.CONTEXT for role in roles])
        self.used: Bool = used if used.any() else np.ones(len(roles), np.bool_)
        self.pairs = kernels.comparators(max(spec.rows - 1, 1))
        self.centre, self.spread = 0.0, 1.0
        noise = np.random.Generator(np.random.PCG64(0)).standard_normal((4096, spec.rows, len(roles)), np.float32)
        noise[:, :, self.indicator] = 0.0
        level = self._level(*self._deviations(noise))
        level = level[np.isfinite(level)]
        if len(level) and level.std() > 0:
            # rounded, so that machines whose logarithms differ in the last bit agree
            self.centre, self.spread = round(float(level.mean()), 3), round(float(level.std()), 3)

    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; 0 where there is nothing to compare with."""
        level = self._level(*self._deviations(x.cpu().numpy()))
        score = np.where(np.isfinite(level), (level - self.centre) / self.spread, 0.0)
        return torch.from_numpy(np.clip(score, -LIMIT, LIMIT).astype(np.float32)).to(x.device)

    def explain(self, x: Tensor) -> Explanation:
        """Only the newest lag contributes. `spread` is 0 where the scorer knows none, since it learns nothing."""
        values = x.cpu().numpy()
        deviation, expected_newest = self._deviations(values)
        parts = np.zeros(values.shape, np.float32)
        parts[:, -1] = np.nan_to_num(np.abs(deviation)) ** _POWER
        expected = np.nan_to_num(values)
        expected[:, -1] = expected_newest
        return Explanation(
            contribution=shares(torch.from_numpy(parts)).numpy(),
            expected=expected,
            spread=self.standard.astype(np.float32),
        )

    def _deviations(self, x: F32) -> tuple[F32, F32]:
        """[n,w,f] -> deviation of the newest lag (NaN = not judged) and what was expected of it, [n,f]."""
        x = np.clip(x, -kernels.HUGE, kernels.HUGE)
        newest = x[:, -1]
        count, median, mad, mean_ad = kernels.history(x, self.pairs)
        spread = np.float32(0.5 * 1.4826) * mad + np.float32(0.5 * 1.2533) * mean_ad
        still = spread <= np.float32(1e-6) * np.abs(median)
        spread = np.where(still, np.float32(0.05) * np.abs(median) + np.float32(1e-3), spread)
        # few lags tell little about the spread
        spread *= np.float32(1.0) + np.float32(MIN_LAGS) / np.maximum(count, 1)
        deviation = ((newest - median) / spread).astype(np.float64)
        # of a value that never moved only that is known
        deviation = np.where(still, np.clip(deviation, -CLIP / 2, CLIP / 2), deviation)
        deviation = _normal_of_t(deviation, count / 2)
        deviation[count < MIN_LAGS] = np.nan
        expected = np.where(count > 0, median, np.nan_to_num(newest))
        if self.standard.any():
            deviation[:, self.standard] = np.clip(newest[:, self.standard], -CLIP, CLIP)
            expected[:, self.standard] = 0.0
        if self.indicator.any():
            seen = x[:, :-1, self.indicator]
            # two imagined lags in which the indicator is 1, so that a first event is no surprise
            usual = (np.nansum(seen, axis=1) + 2.0) / (count[:, self.indicator] + 2.0)
            new = newest[:, self.indicator]
            deviate = np.where(new > usual, _normal_of_share(usual), 0.0)
            deviation[:, self.indicator] = np.where(np.isnan(new), np.nan, deviate)
            expected[:, self.indicator] = usual
        deviation[:, ~self.used] = np.nan
        return deviation.astype(np.float32), expected.astype(np.float32)

    def _level(self, deviation: F32, expected: F32) -> F32:
        """[n,f] -> log of the power mean [n]; -inf where nothing is judged."""
        judged = ~np.isnan(deviation)
        power = np.where(judged, np.abs(deviation), 0.0).astype(np.float64) ** _POWER
        # a sum in index order: numpy's reductions may group by the shape of the batch
        total = np.zeros(len(deviation))
        for j in range(deviation.shape[1]):
            total += power[:, j]
        share = total / np.maximum(judged.sum(axis=1), 1)
        with np.errstate(divide="ignore"):
            level = np.log(share ** (1 / _POWER) + 0.3)
        return np.where(judged.any(axis=1), level, -np.inf)


def _normal_of_t(t: F64, freedom: F64) -> F64:
    """The normal deviate that is as rare as a Student t (Wallace, Annals of Mathematical Statistics 1959).

    The spread above knows about as much as the standard deviation of half as many values.
    """
    freedom = np.maximum(freedom, 1.0)
    z: F64 = np.sign(t) * (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log(1.0 + t * t / freedom))
    return z


def _normal_of_share(share: F64) -> F64:
    """The two-sided normal deviate of an event that has this share."""
    z: F64 = -torch.special.ndtri(torch.from_numpy(share.astype(np.float64)) / 2).numpy()
    return z
