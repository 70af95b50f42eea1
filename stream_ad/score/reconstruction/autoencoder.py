"""A denoising autoencoder over the flattened window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stream_ad.score.reconstruction.fused import Layer
from stream_ad.score.reconstruction.network import Losses, Reconstruction, mlp, mlp_shapes, trimmed_mean
from stream_ad.score.reconstruction.options import NetworkOptions


class Autoencoder(Reconstruction[NetworkOptions]):
    """w*f -> hidden -> ... -> latent -> ... -> hidden -> w*f, as in `train.hidden = [64, 16]`."""

    Options = NetworkOptions

    @classmethod
    def weight_shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        widths = [architecture["w"] * architecture["f"], *architecture["hidden"]]
        return mlp_shapes("encoder", widths) | mlp_shapes("decoder", widths[::-1])

    def layers(self) -> list[Layer]:
        return mlp(self.tensors, "encoder", self.depth) + mlp(self.tensors, "decoder", self.depth)

    def loss(self, z: Tensor, target: Tensor, share: Tensor, keep: float, generator: torch.Generator) -> Losses:
        error = trimmed_mean(((self.reconstruct(z) - target).square() * share).sum(1), keep)
        return error, error
