"""What is read of the worker."""

from __future__ import annotations

from stream_ad.demo.worker import parsed
from tests.support.demo import METRICS


def test_the_workers_figures_are_read() -> None:
    figures = parsed(METRICS)
    assert (figures.events, figures.keys) == (81_000, 240)
    assert figures.versions == {0: "v1"}
    assert (figures.score, figures.threshold) == (1.5, 6.25)
