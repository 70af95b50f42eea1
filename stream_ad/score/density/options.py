"""The options of the density scorers. They stand apart from the scorers: reading a configuration needs no torch."""

from __future__ import annotations

from pydantic import Field

from stream_ad.config import ScorerOptions


class TreesOptions(ScorerOptions):
    trees: int = Field(25, ge=1, le=1000, description="more make the score smoother, and slower to compute")
    height: int = Field(8, ge=1, le=15, description="halvings of the feature space; each doubles a tree")


class PcaOptions(ScorerOptions):
    variance: float = Field(
        1.0, gt=0, le=1000, description="least variance of a kept direction, in units of the mean over all directions"
    )


class NeighboursOptions(ScorerOptions):
    memory: int = Field(500, ge=16, le=20_000, description="training rows that are remembered; the cost grows with it")
    neighbours: int = Field(5, ge=1, le=16, description="nearest rows whose mean distance counts")
