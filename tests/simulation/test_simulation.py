"""Crashes, rebalances, zombies, delayed commits and a store that forgets, in thousands of orders."""

from __future__ import annotations

import pytest

from tests.simulation.explore import explored, first_of
from tests.simulation.schedule import Step, run
from tests.simulation.world import Rules
from tests.simulation.wrong import RULES, TRUSTING

SCHEDULES = 20_000  # `make simulate` runs 100,000, from another seed each time
ENOUGH = 3_000
FEW = 20

# two workers are there from the start; the first of those that answer gets both partitions
SAVED_BY_A_ZOMBIE = [
    Step("append", argument=6),
    Step("append", argument=7),
    Step("rebalance"),
    Step("settle"),
    Step("poll", argument=6),
    Step("poll", argument=6),
    Step("checkpoint"),
    Step("settle"),
    Step("freeze"),
    Step("rebalance"),  # the second worker takes over
    Step("settle"),
    Step("append", argument=6),
    Step("poll", argument=6),
    Step("commit"),
    Step("empty", argument=1),
    Step("thaw"),
    Step("wish", argument=1),
    Step("swap"),  # the first worker, which has not noticed, saves a swap that no log knows
    Step("kill", worker=1),
    Step("append", argument=6),
]


def test_no_order_of_events_loses_or_repeats_anything() -> None:
    for done, finding in explored(0, SCHEDULES, Rules()):
        assert finding is None, f"after {done} schedules: {finding}"


@pytest.mark.parametrize("rule", RULES)
def test_without_a_rule_of_the_protocol_something_is_found_and_cut_down(rule: str) -> None:
    finding = first_of(range(ENOUGH), RULES[rule])
    assert finding is not None
    assert len(finding.steps) <= FEW
    assert run(finding.steps, Rules()) is None, "it is the rule that was missing"


def test_a_swap_saved_by_a_zombie_is_not_believed() -> None:
    assert run(SAVED_BY_A_ZOMBIE, TRUSTING) is not None
    assert run(SAVED_BY_A_ZOMBIE, Rules()) is None
