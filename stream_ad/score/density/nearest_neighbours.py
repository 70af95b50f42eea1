"""The distance to the nearest of some remembered training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from stream_ad.batch import Explanation
from stream_ad.score.bundle import Bundle
from stream_ad.score.density.options import NeighboursOptions
from stream_ad.score.scaling import Calibration, Scaler, robust_spread, shares
from stream_ad.score.train import Fitted, Progress

MOST = 1e3  # scaled deviations
BLOCK_ROWS = 256  # compared with the memory at a time


class NearestNeighbours:
    """Scores the newest lag by its mean distance to the k nearest rows of a memory (Ramaswamy, Rastogi & Shim 2000).

    The memory is an even sample of the training rows, and the distance the sum of the differences of scaled features; a
    missing feature lies at its median.
    """

    Options = NeighboursOptions

    def __init__(self, architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.neighbours: int = architecture["neighbours"]
        self.scaler = Scaler.of(tensors)
        self.calibration = Calibration(tensors["calibration"])
        self.memory, self.spread = tensors["memory"], tensors["spread"]

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        f, memory, neighbours = architecture["f"], architecture["memory"], architecture["neighbours"]
        if not 0 < neighbours <= memory:
            raise ValueError(f"{neighbours} neighbours among {memory} rows")
        return {
            "scaler.centre": (f,),
            "scaler.spread": (f,),
            "calibration": (2,),
            "memory": (memory, f),
            "spread": (f,),
        }

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Self:
        return cls(bundle.manifest.architecture, {name: t.to(device) for name, t in bundle.tensors.items()})

    @classmethod
    def fit(cls, x: Tensor, held: Tensor, options: NeighboursOptions, progress: Progress) -> Fitted:
        _, w, f = x.shape
        scaler = Scaler.learn(x.numpy())
        z = _scaled(scaler, x)
        memory = z[torch.linspace(0, len(z) - 1, min(options.memory, len(z))).long()].contiguous()
        residual = torch.from_numpy(robust_spread((held[:, -1] - scaler.centre).numpy()))
        tensors = {
            **scaler.tensors(),
            "memory": memory,
            "calibration": torch.tensor([0.0, 1.0]),
            "spread": torch.where(residual.isfinite() & (residual > 0), residual, scaler.spread),
        }
        architecture = {"w": w, "f": f, "memory": len(memory), "neighbours": min(options.neighbours, len(memory))}
        error = cls(architecture, tensors)._nearest(_scaled(scaler, held))[0]
        tensors["calibration"] = Calibration.learn(error).constants
        loss = float(error.mean())
        progress(0, loss, loss)
        return Fitted(architecture, tensors, ((loss, loss),), loss, float(_scaled(scaler, held).abs().mean()))

    @torch.inference_mode()
    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; a row whose newest lag is missing altogether scores 0."""
        newest = x[:, -1]
        return self.calibration.score(self._nearest(_scaled(self.scaler, x))[0]) * (newest == newest).any(1)

    @torch.inference_mode()
    def explain(self, x: Tensor) -> Explanation:
        """A feature contributes by how far it lies from the mean of the nearest rows, which is what was expected."""
        z = _scaled(self.scaler, x)
        usual = self.memory[self._nearest(z)[1]].mean(1)
        parts, expected = torch.zeros_like(x), self.scaler.centre.expand(x.shape).clone()
        parts[:, -1] = (z - usual).abs()
        expected[:, -1] += usual * self.scaler.spread
        return Explanation(
            contribution=shares(parts).cpu().numpy(),
            expected=expected.clamp(-1e30, 1e30).cpu().numpy(),
            spread=self.spread.cpu().numpy(),
        )

    def _nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """[n,f] -> mean distance per feature to the nearest rows [n], and which these are [n,k]."""
        found = [
            torch.cdist(block, self.memory, p=1.0).topk(self.neighbours, largest=False)
            for block in torch.split(z, BLOCK_ROWS)
        ]
        distance = torch.cat([one.values for one in found]).mean(1) / z.shape[1]
        return distance, torch.cat([one.indices for one in found])


def _scaled(scaler: Scaler, x: Tensor) -> Tensor:
    """Newest lag of float32 [n,w,f] -> [n,f]; 0 where missing."""
    return ((x[:, -1] - scaler.centre) / scaler.spread).nan_to_num(0.0).clamp(-MOST, MOST)
