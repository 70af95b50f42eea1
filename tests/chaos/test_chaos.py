"""The short form of `make chaos`, and the proof that the harness can fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.faults import FAULTS
from tests.chaos.points import KILL, POINTS, ZOMBIE
from tests.chaos.run import Run, Settings
from tests.chaos.servers import Servers
from tests.chaos.wrong import RULES

LIMIT_S = 90.0
# what shows that a rule is missing
CAUSES = {
    "snapshot before commit": ((), ("before commit",) * 6),
    "offsets committed early": ((KILL,) * 2, ("after commit",) * 6),
    "no fencing": ((ZOMBIE,) * 6, ()),
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.close()


def test_a_battered_run_says_what_an_undisturbed_one_says(servers: Servers, tmp_path: Path) -> None:
    settings = Settings(1, 200_000, 1800.0, tuple(FAULTS), tuple(POINTS), LIMIT_S)
    outcome = Run(settings, servers, tmp_path, print).go()
    print(report.table([outcome]))
    print(report.summary([outcome]))
    assert outcome.alerts > 1000
    assert len(outcome.injected) > 15  # on a machine that is busy
    assert outcome.violations == 0, report.summary([outcome])


@pytest.mark.parametrize("rule", RULES)
def test_without_a_rule_of_the_protocol_the_harness_finds_it(servers: Servers, tmp_path: Path, rule: str) -> None:
    faults, points = CAUSES[rule]
    settings = Settings(2, 50_000, 1500.0, faults, points, 40.0, rule)
    outcome = Run(settings, servers, tmp_path, print).go()
    assert outcome.lost or outcome.duplicated or outcome.different, report.summary([outcome])
