"""Scores robust deviations from the key's own recent past, without training and from the first event on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from stream_ad.batch import F32, F64, I64, Explanation
from stream_ad.config import ScorerOptions
from stream_ad.config.feature_kinds.row import Role
from stream_ad.config.features import FeatureSpec
from stream_ad.score import statistical_kernel as kernels
from stream_ad.score.bundle import Bundle
from stream_ad.score.deviation_kernel import CLIP, Roles, comparators
from stream_ad.score.scaling import shares

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
        used = [role for role in roles if role is not Role.CONTEXT] or roles
        standard, indicator = (_places(roles, role) for role in (Role.STANDARD, Role.INDICATOR))
        measure = np.flatnonzero([role in used and role not in (Role.STANDARD, Role.INDICATOR) for role in roles])
        unset = np.array([0.0, 1.0])
        self.w = spec.rows
        self.roles = Roles(standard, measure, indicator, comparators(max(spec.rows - 1, 1)), unset, unset, unset)
        noise = np.random.Generator(np.random.PCG64(0)).standard_normal((4096, spec.rows, len(roles)), np.float32)
        noise[:, :, indicator] = 0.0
        parts = self._parts(noise)
        self.roles = self.roles._replace(
            newest=_centre_and_spread(parts.newest), around=_centre_and_spread(parts.levels[-1])
        )
        parts = self._parts(noise)
        self.roles = self.roles._replace(both=_centre_and_spread(parts.newest + _shares(parts.levels).sum(axis=0)))

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {}

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Self:
        return cls(bundle.spec)

    @property
    def rowwise(self) -> bool:
        return True

    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; 0 where there is nothing to compare with."""
        scores = np.empty(len(x), np.float32)
        kernels.statistical_score(_flat(x), self.w, self.roles, scores)
        return torch.from_numpy(scores).to(x.device)

    def explain(self, x: Tensor) -> Explanation:
        """A lag contributes by its level. `spread` is 0 where the scorer knows none, since it learns nothing."""
        values = x.cpu().numpy()
        told = self._parts(values)
        parts = np.zeros(values.shape, np.float64)
        standard = self.roles.standard
        compared = np.nan_to_num(np.clip(np.abs(values[:, :, standard]), 0.0, CLIP)).astype(np.float64) ** 4
        around = np.maximum(_shares(told.levels), 0.0).T
        parts[:, :, standard] = around[:, :, None] * _divided(compared)
        level = np.maximum(np.nan_to_num(told.newest, neginf=0.0), _LEAST_LEVEL)
        parts[:, -1] += level[:, None] * _divided(np.nan_to_num(told.deviation.T) ** 4)
        expected = np.nan_to_num(values)
        expected[:, :, standard] = 0.0
        expected[:, -1] = told.expected.T
        spread = np.zeros(values.shape[2], np.float32)
        spread[standard] = 1.0
        return Explanation(shares(torch.from_numpy(parts)).numpy(), expected, spread)

    def _parts(self, x: F32) -> kernels.Parts:
        return kernels.parts_of(_flat(torch.from_numpy(x)), self.w, self.roles)


def _flat(x: Tensor) -> F32:
    """[n,w,f] -> [n,w*f] on the CPU, as the compiled loops read it."""
    flat: F32 = np.ascontiguousarray(x.cpu().numpy().reshape(len(x), -1))
    return flat


def _places(roles: Sequence[Role], role: Role) -> I64:
    return np.flatnonzero([one is role for one in roles])


def _shares(levels: F64) -> F64:
    """[w,n] -> what each lag adds to the score: its share of the mean, 0 for the highest level of the row."""
    w, n = levels.shape
    others: F64 = levels * kernels.share_of(w)
    others[levels.argmax(axis=0), np.arange(n)] = 0.0
    return others


def _centre_and_spread(levels: F64) -> F64:
    """[2]. Rounded, so that machines whose logarithms differ in the last bit agree."""
    levels = levels[np.isfinite(levels)]
    spread = float(levels.std()) if len(levels) else 0.0
    return np.array([round(float(levels.mean()), 3), round(spread, 3)] if spread > 0 else [0.0, 1.0])


def _divided(parts: F64) -> F64:
    """Non-negative parts, of 1 over the last axis; 0 where all are."""
    divided: F64 = parts / np.maximum(parts.sum(axis=-1, keepdims=True), 1e-300)
    return divided
