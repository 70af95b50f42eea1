"""The proof that the harness can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.points import KILL, ZOMBIE
from tests.chaos.run import Run, Settings
from tests.chaos.servers import Servers
from tests.chaos.wrong import RULES

# what shows that a rule is missing
CAUSES = {
    "snapshot before commit": ((), ("before commit",) * 6),
    "offsets committed early": ((KILL,) * 2, ("after commit",) * 6),
    "no fencing": ((ZOMBIE,) * 6, ()),
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rule", RULES)
def test_without_a_rule_of_the_protocol_the_harness_finds_it(servers: Servers, tmp_path: Path, rule: str) -> None:
    faults, points = CAUSES[rule]
    # a stream longer than the faults take: what is left of it is sent at once when they are done
    outcome = Run(Settings(2, 200_000, 1500.0, faults, points, rule=rule), servers, tmp_path, print).go()
    print(report.summary([outcome]))
    assert outcome.lost or outcome.duplicated or outcome.different, report.summary([outcome])
