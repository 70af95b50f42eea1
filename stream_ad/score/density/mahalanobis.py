"""The Mahalanobis distance (Hotelling's T²) with a shrunk covariance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from stream_ad.batch import Explanation
from stream_ad.config import ScorerOptions
from stream_ad.score.bundle import Bundle
from stream_ad.score.density import kernels
from stream_ad.score.scaling import Calibration, Scaler, blocks, shares
from stream_ad.score.train import Fitted, Progress

KEPT = 0.95  # of the rows that the covariance is of: those that are nearest, so that outliers do not widen it
ROUNDS = 3
LEAST_VARIANCE = 0.05  # of any direction: what never moved may move a little


class Mahalanobis:
    """Scores a window by how far it lies from the training rows, given how their features go together.

    The error is the geometric mean of two squared distances per feature: that of the newest lag, and that of the mean
    of the lags; so it grows with points and with stretches. A missing feature lies at its median.
    """

    Options = ScorerOptions  # it has none of its own

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.scaler = Scaler.of(tensors)
        self.calibration = Calibration(tensors["calibration"])
        self.precision = tensors["precision"]
        self.fused: kernels.Ellipsoid | None = None

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        f = architecture["f"]
        return {"scaler.centre": (f,), "scaler.spread": (f,), "calibration": (2,), "precision": (f, f)}

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Self:
        model = cls({name: tensor.to(device) for name, tensor in bundle.tensors.items()})
        if device.type == "cpu":
            model.fuse()
        return model

    def fuse(self) -> None:
        """Has `score` run as one loop on the CPU from here on."""
        parts = self.scaler.centre, self.scaler.spread, self.precision.contiguous(), self.calibration.constants
        self.fused = kernels.Ellipsoid(*(part.numpy() for part in parts))

    @property
    def rowwise(self) -> bool:
        return self.fused is not None

    @classmethod
    def fit(cls, x: Tensor, held: Tensor, options: ScorerOptions, progress: Progress) -> Fitted:
        architecture = {"w": x.shape[1], "f": x.shape[2]}
        scaler = Scaler.learn(x.numpy())
        precision = torch.linalg.inv(covariance(scaled(scaler, x)[:, -1]))
        tensors = {**scaler.tensors(), "precision": precision, "calibration": torch.tensor([0.0, 1.0])}
        model = cls(tensors)
        error = torch.cat([model._error(scaled(scaler, block)) for block in blocks(held)])
        tensors["calibration"] = Calibration.learn(error).constants
        loss = float(error.mean())
        progress(0, loss, loss)
        baseline = float(scaled(scaler, held).square().mean())
        return Fitted(architecture, tensors, ((loss, loss),), loss, baseline)

    @torch.inference_mode()
    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; a row whose newest lag is missing altogether scores 0."""
        if self.fused is not None:
            scores = np.empty(len(x), np.float32)
            kernels.mahalanobis_score(x.numpy().reshape(len(x), -1), x.shape[1], self.fused, scores)
            return torch.from_numpy(scores)
        newest = x[:, -1]
        return self.calibration.score(self._error(scaled(self.scaler, x))) * (newest == newest).any(1)

    @torch.inference_mode()
    def explain(self, x: Tensor) -> Explanation:
        """A feature contributes its term of each distance; it was expected where the others of its lag put it."""
        z = scaled(self.scaler, x)
        newest, mean = z[:, -1], z.mean(1)
        parts = _divided(mean, self.precision)[:, None].repeat(1, x.shape[1], 1) / x.shape[1]
        parts[:, -1] += _divided(newest, self.precision)
        expected = self.scaler.centre.expand(x.shape).clone()
        own = self.precision.diagonal()
        # the mean of a Gaussian variable given all others (Rue & Held 2005, theorem 2.3)
        conditional = newest - newest @ self.precision / own
        expected[:, -1] += (conditional * self.scaler.spread).float()
        return Explanation(
            contribution=shares(parts.float()).cpu().numpy(),
            expected=expected.clamp(-1e30, 1e30).cpu().numpy(),
            spread=(own.rsqrt() * self.scaler.spread).float().cpu().numpy(),
        )

    def _error(self, z: Tensor) -> Tensor:
        """[n,w,f] -> [n]."""
        points, stretches = distance(z[:, -1], self.precision), distance(z.mean(1), self.precision)
        return (points * stretches).sqrt().float()


def covariance(z: Tensor) -> Tensor:
    """[n,f] about 0 -> [f,f], shrunk, of the rows that are nearest by it, so that outliers do not widen it."""
    found = shrunk(z)
    for _ in range(ROUNDS - 1):
        away = distance(z, torch.linalg.inv(found))
        found = shrunk(z[away <= away.quantile(KEPT)])
    return found


def shrunk(z: Tensor) -> Tensor:
    """[n,f] about 0 -> covariance [f,f], drawn towards a multiple of the identity (Ledoit & Wolf 2004)."""
    n, f = z.shape
    covariance = z.T @ z / n
    mean = covariance.diagonal().mean()
    identity = torch.eye(f, dtype=z.dtype)
    apart = (covariance - mean * identity).square().sum()
    noise = (z.square().sum(1).square().mean() - covariance.square().sum()) / n
    share = float((noise / apart.clamp(min=1e-300)).clamp(0.0, 1.0))
    return share * mean * identity + (1.0 - share) * covariance + LEAST_VARIANCE * identity


def scaled(scaler: Scaler, x: Tensor) -> Tensor:
    """float32 [n,w,f] -> float64; 0 where missing."""
    return ((x - scaler.centre) / scaler.spread).double().nan_to_num(0.0).clamp(-kernels.MOST, kernels.MOST)


def distance(z: Tensor, precision: Tensor) -> Tensor:
    """[n,f] -> [n]: squared, per feature."""
    return ((z @ precision) * z).sum(1).clamp(min=0.0) / z.shape[1]


def _divided(z: Tensor, precision: Tensor) -> Tensor:
    terms = ((z @ precision) * z).clamp(min=0.0)
    return terms / terms.sum(1, keepdim=True).clamp(min=1e-300)
