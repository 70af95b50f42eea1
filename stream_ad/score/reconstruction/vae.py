"""A variational autoencoder (Kingma & Welling 2014) over the flattened window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stream_ad.score.reconstruction.fused import Layer
from stream_ad.score.reconstruction.network import Losses, Reconstruction, forward, mlp, mlp_shapes, trimmed_mean
from stream_ad.score.reconstruction.options import VaeOptions
from stream_ad.score.scaling import blocks, row_error


class Vae(Reconstruction[VaeOptions]):
    """Scores with the posterior's mean; or, with `train.samples` above 0, by Monte-Carlo
    reconstruction probability (An & Cho 2015), over noise that is part of the bundle, so that
    scoring is pure. The observation's variance is one number in training (Rybkin et al. 2021,
    sigma-VAE), one per lag and feature, from held-back rows, for the probability.
    """

    Options = VaeOptions

    def __init__(self, architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__(architecture, tensors)
        self.latent: int = architecture["hidden"][-1]
        self.samples: int = architecture["samples"]
        # only the mean is needed to reconstruct: half of the last layer
        self.mean_tensors = dict(tensors)
        for part in ("weight", "bias"):
            name = f"encoder{self.depth - 1}.{part}"
            self.mean_tensors[name] = tensors[name][: self.latent]

    @classmethod
    def extra(cls, options: VaeOptions) -> dict[str, Any]:
        return {"samples": options.samples}

    @classmethod
    def weight_shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        d, hidden = architecture["w"] * architecture["f"], architecture["hidden"]
        encoder = mlp_shapes("encoder", [d, *hidden[:-1], 2 * hidden[-1]])
        return encoder | mlp_shapes("decoder", [*hidden[::-1], d])

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        shapes = super().shapes(architecture)
        if architecture["samples"]:
            shapes["noise"] = (architecture["samples"], architecture["hidden"][-1])
            shapes["precision"] = (architecture["w"] * architecture["f"],)
        return shapes

    def layers(self) -> list[Layer]:
        return mlp(self.mean_tensors, "encoder", self.depth) + mlp(self.tensors, "decoder", self.depth)

    def fuse(self) -> None:
        if not self.samples:
            super().fuse()

    def _decode(self, latent: Tensor) -> Tensor:
        return forward(latent, mlp(self.tensors, "decoder", self.depth))

    def _posterior(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = forward(z, mlp(self.tensors, "encoder", self.depth)).chunk(2, 1)
        return mean, log_variance.clamp(-12, 12)

    def loss(self, z: Tensor, target: Tensor, share: Tensor, keep: float, generator: torch.Generator) -> Losses:
        mean, log_variance = self._posterior(z)
        latent = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
        error = trimmed_mean(((self._decode(latent) - target).square() * share).sum(1), keep)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)
        # the effective number of independent errors, given the weights
        size = 1.0 / share.square().sum(1).mean().clamp(min=1e-9)
        return 0.5 * size * (error + 1e-6).log() + trimmed_mean(divergence, keep), error

    def finish(self, held: Tensor) -> dict[str, Tensor]:
        if not self.samples:
            return {}
        with torch.inference_mode():
            total = torch.zeros(self.weight.shape)
            count = torch.zeros(self.weight.shape)
            for rows in blocks(held):
                z = self.scaler.squash(rows)
                present = (rows == rows).reshape(z.shape)
                total += ((self.reconstruct(z) - z).square().clamp(max=25.0) * present).sum(0)
                count += present.sum(0)
        variance = ((total + 1.0) / (count + 1.0)).clamp(min=1e-3)
        generator = torch.Generator().manual_seed(0)
        return {"noise": torch.randn(self.samples, self.latent, generator=generator), "precision": 1.0 / variance}

    def error(self, x: Tensor, z: Tensor) -> Tensor:
        if "noise" not in self.tensors:
            return super().error(x, z)
        mean, log_variance = self._posterior(z)
        deviation = (0.5 * log_variance).exp()
        weight = self.weight * self.tensors["precision"]
        # the log-density's constant part is the same for all rows; weights instead of a plain sum
        parts = [row_error(x, z, self._decode(mean + deviation * noise), weight) for noise in self.tensors["noise"]]
        return torch.stack(parts).mean(0)
