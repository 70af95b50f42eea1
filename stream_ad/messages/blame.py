"""Which fields a contribution belongs to."""

from __future__ import annotations

import numpy as np

from stream_ad.batch import F32, F64
from stream_ad.config.feature_kinds.row import Role
from stream_ad.config.features import FeatureSpec

_MOST_DEVIATIONS = 25.0  # that count, as in the statistical scorer


def of_fields(contribution: F32, x: F32, spec: FeatureSpec) -> F64:
    """[w,f] both: that of a joint feature divided among itself and the standard ones of its lag, by the fourth powers
    of their deviations."""
    own = np.nan_to_num(contribution.astype(np.float64))
    roles = [spec.kind_of(feature).role for feature in spec.features]
    joint = np.flatnonzero([role is Role.JOINT for role in roles])
    if not len(joint):
        return own
    alike = np.flatnonzero([role in (Role.JOINT, Role.STANDARD) for role in roles])
    power = np.clip(np.nan_to_num(np.abs(x[:, alike].astype(np.float64))), 0.0, _MOST_DEVIATIONS) ** 4
    divided = own[:, joint].sum(axis=1)
    known = power.sum(axis=1) > 0
    own[np.ix_(known, joint)] = 0.0
    own[np.ix_(known, alike)] += divided[known, None] * power[known] / power[known].sum(axis=1, keepdims=True)
    return own
