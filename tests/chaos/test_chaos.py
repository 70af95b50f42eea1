"""The short form of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.faults import FAULTS
from tests.chaos.points import POINTS
from tests.chaos.run import Run, Settings
from tests.chaos.servers import Servers

ENOUGH = 30  # faults and hits at points, in the order of the seed


@pytest.mark.timeout(1200)
def test_a_battered_run_says_what_an_undisturbed_one_says(servers: Servers, tmp_path: Path) -> None:
    # a stream longer than the faults take on a slow machine: what is left of it is sent at once when they are done
    settings = Settings(1, 600_000, 1800.0, tuple(FAULTS), tuple(POINTS), most=ENOUGH)
    outcome = Run(settings, servers, tmp_path, print).go()
    print(report.table([outcome]))
    print(report.summary([outcome]))
    assert outcome.alerts > 1000
    assert len(outcome.injected) >= ENOUGH
    assert outcome.violations == 0, report.summary([outcome])
