"""The scoring pass of a network on the CPU: one compiled loop instead of a dozen torch operations.

Each torch operation takes the interpreter's lock when it ends, and waits for it while other threads decode and fold.
The loop takes the lock once for a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stream_ad.score.reconstruction import kernels
from stream_ad.score.scaling import Calibration, Scaler


class Layer(NamedTuple):
    weight: Tensor  # [out,in]
    bias: Tensor  # [out]
    relu: bool


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """`Reconstruction.score` of dense layers, in numpy's memory."""

    network: kernels.Network

    @classmethod
    def of(cls, scaler: Scaler, layers: Sequence[Layer], weight: Tensor, calibration: Calibration) -> Fused:
        w = len(weight) // len(scaler.centre)
        parts = [part.numpy().ravel() for layer in layers for part in (layer.weight.contiguous(), layer.bias)]
        network = kernels.Network(
            centre=scaler.centre.repeat(w).numpy(),
            factor=scaler.spread.reciprocal().repeat(w).numpy(),
            layers=np.array([[*layer.weight.T.shape, layer.relu] for layer in layers], np.int64),
            weights=np.concatenate(parts),
            share=weight.numpy(),
            constants=calibration.constants.numpy(),
        )
        return cls(network)

    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f] -> [n]; a row's bits depend on that row alone, for any n."""
        scores = np.empty(len(x), np.float32)
        kernels.reconstruction_score(x.numpy().reshape(len(x), -1), self.network, scores)
        return torch.from_numpy(scores)
