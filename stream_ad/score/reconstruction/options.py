"""The options of the reconstructing scorers. They stand apart: reading a configuration needs no torch."""

from __future__ import annotations

from pydantic import Field

from stream_ad.config import ScorerOptions


class NetworkOptions(ScorerOptions):
    epochs: int = Field(30, ge=1, description="at most")
    hidden: list[int] = Field(default_factory=lambda: [64, 16], description="layer widths down to the latent one")


class VaeOptions(NetworkOptions):
    samples: int = Field(
        0, ge=0, le=256, description="of the reconstruction probability; 0 scores by the posterior's mean"
    )
