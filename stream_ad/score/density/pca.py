"""Principal components: how far a row lies along the usual directions (T²), and how far off them (Q)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from stream_ad.batch import Explanation
from stream_ad.score.bundle import Bundle
from stream_ad.score.density import kernels
from stream_ad.score.density.mahalanobis import covariance, distance, scaled
from stream_ad.score.density.options import PcaOptions
from stream_ad.score.scaling import Calibration, Scaler, blocks, compressed, robust_spread, shares
from stream_ad.score.train import Fitted, Progress

LEAST_TYPICAL = 0.01  # of T² and Q per direction: held-back rows that never move give no unit to measure by


class Pca:
    """Scores a window by T² within the kept principal directions and the squared residual Q outside of them.

    T² is the squared distance in units of each kept direction's variance (Hotelling 1933), Q the squared prediction
    error (Jackson & Mudholkar 1979). Each is divided by its median over the held-back rows, and the two are added (the
    combined index of Yue & Qin 2001). The error is the geometric mean of two such indices per feature: that of the
    newest lag, and that of the mean of the lags, with medians of its own. Scaled values are logarithmic beyond 5
    deviations; a missing feature lies at its median. A single feature has T² alone.
    """

    Options = PcaOptions

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.scaler = Scaler.of(tensors)
        self.calibration = Calibration(tensors["calibration"])
        self.points, self.stretches = tensors["points"], tensors["stretches"]
        self.spread = tensors["spread"]
        self.fused: kernels.Subspace | None = None

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        f = architecture["f"]
        vectors = dict.fromkeys(("scaler.centre", "scaler.spread", "spread"), (f,))
        return {**vectors, "calibration": (2,), "points": (f, f), "stretches": (f, f)}

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Self:
        model = cls({name: tensor.to(device) for name, tensor in bundle.tensors.items()})
        if device.type == "cpu":
            model.fuse()
        return model

    def fuse(self) -> None:
        """Has `score` run as one loop on the CPU from here on."""
        matrices = self.points.contiguous(), self.stretches.contiguous()
        parts = self.scaler.centre, self.scaler.spread, *matrices, self.calibration.constants
        self.fused = kernels.Subspace(*(part.numpy() for part in parts))

    @property
    def rowwise(self) -> bool:
        return self.fused is not None

    @classmethod
    def fit(cls, x: Tensor, held: Tensor, options: PcaOptions, progress: Progress) -> Fitted:
        _, w, f = x.shape
        scaler = Scaler.learn(x.numpy())
        usual = covariance(compressed(scaled(scaler, x[:, -1:])[:, 0]))
        variances, directions = (found.flip(-1) for found in torch.linalg.eigh(usual))
        count = kept(variances, options.variance)
        views = [_views(scaler, block) for block in blocks(held)]
        newest, mean = (torch.cat(each) for each in zip(*views, strict=True))
        tensors = {
            **scaler.tensors(),
            "points": index(newest, variances, directions, count),
            "stretches": index(mean, variances, directions, count),
            "calibration": torch.tensor([0.0, 1.0]),
            "spread": scaler.spread,
        }
        model = cls(tensors)
        residual = torch.from_numpy(robust_spread((held[:, -1] - model._expected(newest)).numpy()))
        tensors["spread"] = torch.where(residual.isfinite() & (residual > 0), residual, scaler.spread)
        error = model._error(newest, mean)
        tensors["calibration"] = Calibration.learn(error).constants
        loss = float(error.mean())
        progress(0, loss, loss)
        return Fitted({"w": w, "f": f}, tensors, ((loss, loss),), loss, float(newest.square().mean()))

    @torch.inference_mode()
    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; a row whose newest lag is missing altogether scores 0."""
        if self.fused is not None:
            scores = np.empty(len(x), np.float32)
            kernels.pca_score(x.numpy().reshape(len(x), -1), x.shape[1], self.fused, scores)
            return torch.from_numpy(scores)
        newest = x[:, -1]
        return self.calibration.score(self._error(*_views(self.scaler, x))) * (newest == newest).any(1)

    @torch.inference_mode()
    def explain(self, x: Tensor) -> Explanation:
        """A feature that is there contributes by how much of each index it could take away (the contribution by
        reconstruction of Alcala & Qin 2009); it was expected where it takes away most, the others staying."""
        newest, mean = _views(self.scaler, x)
        parts = _divided(mean, self.stretches)[:, None].repeat(1, x.shape[1], 1) / x.shape[1]
        parts[:, -1] += _divided(newest, self.points)
        expected = self.scaler.centre.expand(x.shape).clone()
        expected[:, -1] = self._expected(newest)
        return Explanation(
            contribution=shares((parts * (x == x)).float()).cpu().numpy(),
            expected=expected.cpu().numpy(),
            spread=self.spread.cpu().numpy(),
        )

    def _error(self, newest: Tensor, mean: Tensor) -> Tensor:
        """Two views [n,f] -> [n]."""
        return (distance(newest, self.points) * distance(mean, self.stretches)).sqrt().float()

    def _expected(self, newest: Tensor) -> Tensor:
        """[n,f] -> float32 [n,f] in units of the features: what makes the index least, one feature at a time."""
        return self.scaler.expand(newest - newest @ self.points / self.points.diagonal(), 1)[:, 0].float()


def kept(variances: Tensor, least: float) -> int:
    """How many directions are kept: those whose variance [f] is `least` times the mean or more (Kaiser 1960, with 1);
    at least one, and not all of them unless there is one only."""
    return max(1, min(int((variances >= least * variances.mean()).sum()), len(variances) - 1))


def index(z: Tensor, variances: Tensor, directions: Tensor, count: int) -> Tensor:
    """Held-back z [h,f], variances [f] and directions [f,f] in columns -> M [f,f] of an index z'Mz = T²/t + Q/q.

    T² is of the first `count` directions and Q of the others; t and q are their medians over z.
    """
    weight = torch.cat([1.0 / variances[:count], torch.ones_like(variances[count:])])
    square = (z @ directions).square() * weight
    for part in (slice(0, count), slice(count, None)):
        if len(weight[part]):
            typical = square[:, part].mean(1).quantile(0.5).clamp(min=LEAST_TYPICAL)
            weight[part] /= typical * len(weight[part])
    return (directions * weight) @ directions.T


def _views(scaler: Scaler, x: Tensor) -> tuple[Tensor, Tensor]:
    """float32 [n,w,f] -> the newest lag and the mean of the lags, float64 [n,f]."""
    z = scaled(scaler, x)
    return compressed(z[:, -1]), compressed(z.mean(1))


def _divided(z: Tensor, matrix: Tensor) -> Tensor:
    """[n,f] -> [n,f], summing to 1: what replacing each feature by what was expected takes off z'Mz."""
    less = (z @ matrix).square() / matrix.diagonal()
    return less / less.sum(1, keepdim=True).clamp(min=1e-300)
