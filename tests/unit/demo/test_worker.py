"""What is read of the worker."""

from __future__ import annotations

import pytest

from stream_ad.config import parse
from stream_ad.demo.worker import parsed, refusal
from stream_ad.errors import ModelError
from stream_ad.io.memory import MemoryModelStore
from stream_ad.jobs.train import promote
from stream_ad.protocols import ModelInfo
from tests.support.demo import METRICS


def test_the_workers_figures_are_read() -> None:
    figures = parsed(METRICS)
    assert (figures.events, figures.keys) == (81_000, 240)
    assert figures.versions == {0: "v1"}
    assert (figures.score, figures.threshold) == (1.5, 6.25)


def test_the_log_says_why_a_model_was_refused() -> None:
    metrics = {f"trial_{name}": 0.0 for name in ("flags", "found", "judge_flags")}
    metrics |= {"trial_rows": 1000.0, "trial_spikes": 400.0, "trial_judge_found": 300.0}
    info = ModelInfo("v1", "autoencoder", 0, "", 0, metrics)
    with pytest.raises(ModelError) as refused:
        promote(MemoryModelStore(), info, parse({}))
    said = refusal(
        f"12:00 trainer INFO starts\n12:01 trainer WARNING {refused.value}; what judges goes on\n12:02 end\n"
    )
    assert said is not None
    assert said.startswith("it finds 0 of 400 spikes")
    assert refusal("12:00 trainer INFO starts\n") is None
