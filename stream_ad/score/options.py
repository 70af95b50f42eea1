"""The options of the ensemble. They stand apart from it: reading a configuration needs no torch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from stream_ad import registry
from stream_ad.score.density.options import NeighboursOptions, PcaOptions
from stream_ad.score.reconstruction.options import NetworkOptions


class EnsembleOptions(NetworkOptions, NeighboursOptions, PcaOptions):
    """Members take those of their options that stand here, and the defaults of the others."""

    members: list[str] = Field(
        default_factory=lambda: ["statistical", "autoencoder", "pca"],
        description="registered scorers that judge together",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = [name for name in self.members if name == "ensemble" or not registry.has("scorer", name)]
        if unknown:
            others = ", ".join(name for name in registry.names("scorer") if name != "ensemble")
            raise ValueError(f"members: no scorer is called {unknown[0]!r}; there are: {others}")
        if not self.members or len(set(self.members)) < len(self.members):
            raise ValueError("members: name at least one scorer, and none twice")
        return self
