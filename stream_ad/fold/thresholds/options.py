"""The options of the built-in thresholds. They stand apart from the kernels: reading a configuration needs no numba."""

from __future__ import annotations

from pydantic import Field

from stream_ad.config import ThresholdOptions
from stream_ad.config.sections import Duration


class EwmaOptions(ThresholdOptions):
    half_life_rows: float = Field(200.0, gt=0, description="memory of a key's mean and deviation of scores")
    prior_rows: float = Field(60.0, gt=0, description="weight of the pooled prior, in events of the key")
    escape_after: Duration = Field(1_800_000, description="a level held so long becomes the new normal, reported once")
    escape_rows: int = Field(30, ge=2, description="and at least so many events of it")
