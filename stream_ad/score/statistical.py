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
_MANY_LAGS = 15  # the mean of fewer levels is noise, and weighs less
_JOINT_SPREAD = 0.25  # of a usual distance about 1, with as many fields as streams often have
_JOINT_SHARE = 0.5  # of the mean over the window, beside the joint distance of the newest lag


class Statistical:
    """The level of the newest lag, and the mean level of the window beside it: for points, and for stretches.

    A level is the power mean over the features of |deviation|, as a calibrated logarithm. The mean over the window
    leaves the highest level out, so that a point does not raise the scores of the rows that follow it, and counts an
    absent lag as 0. Only standard features have a level at every lag. A joint feature stands for them in the newest
    lag, which has a level by it and one by the other features, of which the higher counts; and the window counts half
    (ADR 16).

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
        deviates = (Role.STANDARD, Role.BESIDE, Role.JOINT, Role.INDICATOR)
        standard, beside, joint, indicator = (_places(roles, role) for role in deviates)
        measure = np.flatnonzero([role in used and role not in deviates for role in roles])
        unset = np.array([0.0, 1.0])
        self.w = spec.rows
        group = np.zeros(len(roles), np.int64)
        if len(joint):
            group[:], group[joint], group[standard] = 1, 0, -1
        group[beside] = -1
        self.roles = Roles(
            standard=standard,
            beside=beside,
            joint=joint,
            measure=measure,
            indicator=indicator,
            pairs=comparators(max(spec.rows - 1, 1)),
            group=group,
            newest=np.array([unset] * (1 + len(joint))),
            centre=np.zeros(2),
            around=1.0,
            both=unset,
            share=(_JOINT_SHARE if len(joint) else 1.0) / max(spec.rows - 1, _MANY_LAGS),
        )
        noise = _noise(spec, joint)
        noise[:, :, indicator] = 0.0
        noise[:, :, beside] = np.maximum(noise[:, :, beside], 0.0)
        parts = self._parts(noise)
        levels, added = parts.levels[-1], parts.beside[-1]
        self.roles = self.roles._replace(
            newest=np.array([_centre_and_spread(level) for level in parts.newest]),
            centre=np.array([_centre_and_spread(levels - added)[0], _centre_and_spread(added)[0]]),
            around=float(_centre_and_spread(levels)[1]),
        )
        parts = self._parts(noise)
        both = parts.newest.max(axis=0) + self._shares(parts.levels).sum(axis=0)
        self.roles = self.roles._replace(both=_centre_and_spread(both))

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
        """A lag contributes by its level. `spread` is that of each row, since the scorer learns nothing: 0
        where none is known, otherwise so wide that the newest lag is as many spreads away as its normal deviate."""
        values = x.cpu().numpy()
        told = self._parts(values)
        parts = np.zeros(values.shape, np.float64)
        standard, beside, joint = self.roles.standard, self.roles.beside, self.roles.joint
        around = np.maximum(self._shares(told.levels), 0.0).T
        powers = _fourth_power(values)
        added = np.maximum(told.beside, 0.0) / np.maximum(np.maximum(told.levels, told.beside), 1e-300)
        level = np.maximum(np.nan_to_num(told.newest.max(axis=0), neginf=0.0), _LEAST_LEVEL)
        for places, share in ((standard, 1.0 - added.T), (beside, added.T)):
            parts[:, :, places] = (around * share)[:, :, None] * _divided(powers[:, :, places])
        parts[:, -1, beside] += (level * added[-1])[:, None] * _divided(powers[:, -1, beside])
        level *= 1.0 - added[-1]
        highest = self.roles.group == told.newest.argmax(axis=0)[:, None]
        parts[:, -1] += level[:, None] * _divided(highest * np.nan_to_num(told.deviation.T) ** 4)
        expected = np.nan_to_num(values)
        expected[:, :, standard], expected[:, :, beside] = 0.0, 0.0
        expected[:, -1] = told.expected.T
        spread = np.zeros(values[:, -1].shape, np.float32)
        spread[:, standard], spread[:, beside], spread[:, joint] = 1.0, 1.0, _JOINT_SPREAD
        measure, away = self.roles.measure, np.abs(np.nan_to_num(told.deviation.T))
        distance = np.abs(np.nan_to_num(values[:, -1]) - expected[:, -1])
        spread[:, measure] = (distance / np.where(away > 0.0, away, np.inf))[:, measure]
        return Explanation(shares(torch.from_numpy(parts)).numpy(), expected, spread)

    def _parts(self, x: F32) -> kernels.Parts:
        return kernels.parts_of(_flat(torch.from_numpy(x)), self.w, self.roles)

    def _shares(self, levels: F64) -> F64:
        """[w,n] -> what each lag adds to the score: its share of the mean, 0 for the highest level of the row."""
        others: F64 = levels * self.roles.share
        others[levels.argmax(axis=0), np.arange(levels.shape[1])] = 0.0
        return others


def _flat(x: Tensor) -> F32:
    """[n,w,f] -> [n,w*f] on the CPU, as the compiled loops read it."""
    flat: F32 = np.ascontiguousarray(x.cpu().numpy().reshape(len(x), -1))
    return flat


def _places(roles: Sequence[Role], role: Role) -> I64:
    return np.flatnonzero([one is role for one in roles])


def _noise(spec: FeatureSpec, joint: I64) -> F32:
    """[4096,w,f] features of independent Gaussian values."""
    random = np.random.Generator(np.random.PCG64(0))
    noise = random.standard_normal((4096, spec.rows, len(spec.features)), np.float32)
    if len(joint):
        fields = len(spec.numeric)
        noise[:, :, joint] = np.sqrt(random.chisquare(fields, (4096, spec.rows, len(joint))) / fields)
    return noise


def _fourth_power(deviations: F32) -> F64:
    power: F64 = np.nan_to_num(np.clip(np.abs(deviations), 0.0, CLIP)).astype(np.float64) ** 4
    return power


def _centre_and_spread(levels: F64) -> F64:
    """[2]. Rounded, so that machines whose logarithms differ in the last bit agree."""
    levels = levels[np.isfinite(levels)]
    spread = float(levels.std()) if len(levels) else 0.0
    return np.array([round(float(levels.mean()), 3), round(spread, 3)] if spread > 0 else [0.0, 1.0])


def _divided(parts: F64) -> F64:
    """Non-negative parts, of 1 over the last axis; 0 where all are."""
    divided: F64 = parts / np.maximum(parts.sum(axis=-1, keepdims=True), 1e-300)
    return divided
