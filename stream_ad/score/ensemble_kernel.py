"""The fusion of an ensemble's scores on the CPU in one pass; `Ensemble` has the same in torch, for other devices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_ad.batch import F32, F64
from stream_ad.kernel import kernel
from stream_ad.score.reconstruction.kernels import LIMIT, ZERO


class Fusion(NamedTuple):
    """How the scores of m members become one."""

    weights: F64  # [m]
    tails: F64  # [m,k]  the scores that k known shares of a member's held-back rows exceed, ascending
    surprise: F64  # [k]  -log of these shares
    calibration: F64  # [2]  centre and spread of the fused surprise


@kernel
def fuse(x: F32, scores: F32, fusion: Fusion, out: F32) -> None:
    """x [n,d], scores [m,n] -> out [n]: the root mean square of the surprises, calibrated; 0 for a row without values.

    A surprise is linear between the known scores and beyond the last.
    """
    n, d = x.shape
    surprise = fusion.surprise
    for i in range(n):
        out[i] = ZERO
    total = np.zeros(n)
    for m in range(len(scores)):
        tail, weight = fusion.tails[m], fusion.weights[m]
        for i in range(n):
            score, at = np.float64(scores[m, i]), 1
            while at < len(tail) - 1 and tail[at] < score:
                at += 1
            slope = (surprise[at] - surprise[at - 1]) / (tail[at] - tail[at - 1])
            value = max(surprise[at - 1] + slope * (score - tail[at - 1]), 0.0)
            total[i] += weight * value * value
    for i in range(n):
        score = (np.sqrt(total[i]) - fusion.calibration[0]) / fusion.calibration[1]
        for j in range(d - 1, -1, -1):  # the newest lag, which is seldom absent, stands last
            if x[i, j] == x[i, j]:
                out[i] = np.float32(min(max(score, -np.float64(LIMIT)), np.float64(LIMIT)))
                break
