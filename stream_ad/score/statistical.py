"""Scores robust deviations from the key's own recent past, without training and from the first event on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from stream_ad.batch import F32, F64, Bool, Explanation
from stream_ad.config import ScorerOptions
from stream_ad.config.feature_kinds.row import Role
from stream_ad.config.features import FeatureSpec
from stream_ad.score.bundle import Bundle
from stream_ad.score.reconstruction import kernels
from stream_ad.score.scaling import LIMIT, shares

MIN_LAGS = 4
CLIP = 25.0  # deviations at most, so that one feature cannot hide how many others agree
_POWER = 4  # of the mean over features: near the largest, yet several small ones add up
_MANY_LAGS = 15  # the mean of fewer levels is noise, and weighs less
_LEAST_LEVEL = 1e-3  # of the newest lag where a score is divided among lags


class Statistical:
    """The level of the newest lag, and the mean level of the window beside it: for points, and for stretches.

    A level is the power mean over the features of |deviation|, as a calibrated logarithm. The mean over the window
    leaves the highest level out, so that a point does not raise the scores of the rows that follow it, and counts an
    absent lag as 0. Only standard features have a level at every lag.

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
        self.others = np.flatnonzero(~self.standard & self.used)
        self.compared = np.flatnonzero(self.standard)
        self.pairs = kernels.comparators(max(spec.rows - 1, 1))
        self.newest, self.around, self.both = (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)  # centre and spread
        noise = np.random.Generator(np.random.PCG64(0)).standard_normal((4096, spec.rows, len(roles)), np.float32)
        noise[:, :, self.indicator] = 0.0
        self.newest = _centre_and_spread(self._newest_level(self._deviations(noise)[0]))
        self.around = _centre_and_spread(self._levels(noise)[:, -1])
        self.both = _centre_and_spread(self._both(noise))

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {}

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Self:
        return cls(bundle.spec)

    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; 0 where there is nothing to compare with."""
        score = self._both(x.cpu().numpy())
        score = np.where(np.isfinite(score), score, 0.0)
        return torch.from_numpy(np.clip(score, -LIMIT, LIMIT).astype(np.float32)).to(x.device)

    def explain(self, x: Tensor) -> Explanation:
        """A lag contributes by its level. `spread` is 0 where the scorer knows none, since it learns nothing."""
        values = x.cpu().numpy()
        deviation, expected_newest = self._deviations(values)
        parts = np.zeros(values.shape, np.float64)
        compared = np.nan_to_num(np.clip(np.abs(values[:, :, self.standard]), 0.0, CLIP)).astype(np.float64) ** _POWER
        around = np.maximum(self._shares(self._levels(values)), 0.0)
        parts[:, :, self.standard] = around[:, :, None] * _divided(compared)
        level = np.nan_to_num(self._newest_level(deviation), neginf=0.0)
        powers = np.nan_to_num(np.abs(deviation)).astype(np.float64) ** _POWER
        parts[:, -1] += np.maximum(level, _LEAST_LEVEL)[:, None] * _divided(powers)
        expected = np.nan_to_num(values)
        expected[:, :, self.standard] = 0.0
        expected[:, -1] = expected_newest
        return Explanation(
            contribution=shares(torch.from_numpy(parts)).numpy(),
            expected=expected,
            spread=self.standard.astype(np.float32),
        )

    def _deviations(self, x: F32) -> tuple[F32, F32]:
        """[n,w,f] -> deviation of the newest lag (NaN = not judged) and what was expected of it, [n,f]."""
        newest = np.clip(x[:, -1], -kernels.HUGE, kernels.HUGE)
        deviation, expected = np.full(newest.shape, np.nan), np.nan_to_num(newest).astype(np.float64)
        if len(self.others):
            compared = self._compared_with_lags(np.clip(x[:, :, self.others], -kernels.HUGE, kernels.HUGE))
            deviation[:, self.others], expected[:, self.others] = compared
        deviation[:, self.standard] = np.clip(newest[:, self.standard], -CLIP, CLIP)
        expected[:, self.standard] = 0.0
        return deviation.astype(np.float32), expected.astype(np.float32)

    def _compared_with_lags(self, x: F32) -> tuple[F64, F64]:
        """[n,w,o] measures and indicators -> as `_deviations`."""
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
        expected = np.where(count > 0, median, np.nan_to_num(newest)).astype(np.float64)
        indicator = self.indicator[self.others]
        if indicator.any():
            # two imagined lags in which the indicator is 1, so that a first event is no surprise
            usual = (np.nansum(x[:, :-1, indicator], axis=1) + 2.0) / (count[:, indicator] + 2.0)
            new = newest[:, indicator]
            deviate = np.where(new > usual, _normal_of_share(usual), 0.0)
            deviation[:, indicator] = np.where(np.isnan(new), np.nan, deviate)
            expected[:, indicator] = usual
        return deviation, expected

    def _both(self, x: F32) -> F64:
        """[n,w,f] -> the score [n]; -inf where nothing is judged."""
        level = self._newest_level(self._deviations(x)[0]) + self._shares(self._levels(x)).sum(axis=1)
        return self._standardised(level, self.both)

    @staticmethod
    def _standardised(level: F64, centre_and_spread: tuple[float, float]) -> F64:
        centre, spread = centre_and_spread
        standardised: F64 = (level - centre) / spread
        return standardised

    def _newest_level(self, deviation: F32) -> F64:
        """[n,f] -> [n]; -inf where nothing is judged."""
        judged = ~np.isnan(deviation)
        power: F64 = np.where(judged, np.abs(deviation), 0.0).astype(np.float64) ** _POWER
        # a sum in index order: numpy's reductions may group by the shape of the batch
        total = np.zeros(len(deviation))
        for j in range(deviation.shape[1]):
            total += power[:, j]
        mean = (total / np.maximum(judged.sum(axis=1), 1)) ** (1 / _POWER)
        return np.where(judged.any(axis=1), self._standardised(np.log(mean + 0.3), self.newest), -np.inf)

    def _levels(self, x: F32) -> F64:
        """[n,w,f] -> the level of the standard features at each lag, [n,w]; 0 where a lag has none of them."""
        mean, judged = kernels.power_means(x, self.compared, CLIP)
        return np.where(judged, self._standardised(np.log(mean + 0.3), self.around), 0.0)

    @staticmethod
    def _shares(levels: F64) -> F64:
        """[n,w] -> what each lag adds to the score: its share of the mean, 0 for the highest level of the row."""
        n, w = levels.shape
        others: F64 = levels / max(w - 1, _MANY_LAGS)
        others[np.arange(n), levels.argmax(axis=1)] = 0.0
        return others


def _centre_and_spread(levels: F64) -> tuple[float, float]:
    """Rounded, so that machines whose logarithms differ in the last bit agree."""
    levels = levels[np.isfinite(levels)]
    spread = float(levels.std()) if len(levels) else 0.0
    return (round(float(levels.mean()), 3), round(spread, 3)) if spread > 0 else (0.0, 1.0)


def _divided(parts: F64) -> F64:
    """Non-negative parts, of 1 over the last axis; 0 where all are."""
    divided: F64 = parts / np.maximum(parts.sum(axis=-1, keepdims=True), 1e-300)
    return divided


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
