"""A partition's states: only the transitions of the table, in the code, in the documentation and in real pipelines."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from stream_ad import config
from stream_ad.batch import RawBatch
from stream_ad.checkpoint import restore
from stream_ad.checkpoint.assignment import FOLDING, SAVED, TRANSITIONS, Assignment, Restored, State, WrongState
from stream_ad.checkpoint.save import Saver
from stream_ad.errors import TransactionFailed
from stream_ad.io.memory import MemoryStateStore
from stream_ad.protocols import BUILT_IN
from stream_ad.state.shard import UNKNOWN, Shard
from tests.simulation.schedule import Step, run, schedule
from tests.simulation.toy import FOLDS, decoded
from tests.simulation.world import Rules
from tests.support.assignments import judging, ready

PAGE = Path(__file__).resolve().parents[3] / "docs" / "partition-states.md"
SCHEDULES = 400
COMMITTED = 10
LISTED = {(before, after) for before, states in TRANSITIONS.items() for after in states}


def lost_after(*restoring: Step) -> list[Step]:
    """A worker that was `restoring` two partitions is frozen until another has them."""
    committed = [Step("append", argument=6), Step("append", argument=7), Step("rebalance"), Step("settle")]
    committed += [Step("poll", argument=6), Step("poll", argument=6), Step("commit"), Step("kill")]
    taken = [Step("freeze"), Step("start"), Step("rebalance"), Step("thaw"), Step("poll")]
    return [*committed, Step("rebalance"), *restoring, *taken]


LOST_WHILE_READY = lost_after(Step("settle"))
LOST_WHILE_RESTORING = lost_after(Step("work"), Step("work"), Step("take_over"))


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the page."""
    part = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in lines]


def restoring() -> Assignment:
    return Assignment(0)


def replaying(next_offset: int = 0) -> Assignment:
    found = ready(FOLDS, 0, next_offset, COMMITTED)
    found.begin()
    return found


def handed_over() -> Assignment:
    found = judging(FOLDS)
    found.hand_over()
    return found


def lost() -> Assignment:
    found = judging(FOLDS)
    found.lose()
    return found


MADE: dict[State, Callable[[], Assignment]] = {
    State.RESTORING: restoring,
    State.READY: lambda: ready(FOLDS),
    State.REPLAYING: replaying,
    State.JUDGING: lambda: judging(FOLDS),
    State.HANDED_OVER: handed_over,
    State.LOST: lost,
}


def found(mute_until: int = 0) -> Restored:
    return Restored(Shard(FOLDS, 0, 0, BUILT_IN), UNKNOWN, 0, mute_until, [], None)


CALLS: dict[str, Callable[[Assignment], object]] = {
    "restored": lambda one: one.restored(found()),
    "begin": lambda one: one.begin(),
    "judged": lambda one: one.judged(COMMITTED),
    "hand_over": lambda one: one.hand_over(),
    "lose": lambda one: one.lose(),
}


def walked() -> set[tuple[str, str, str]]:
    """What every method makes of every state, where it does not raise."""
    seen = set()
    beginnings = [*MADE.items(), (State.READY, lambda: ready(FOLDS, mute_until=COMMITTED))]
    for before, make in beginnings:
        for name, call in CALLS.items():
            one = make()
            assert one.state is before
            try:
                call(one)
            except WrongState:
                assert one.state is before, "what is refused changes nothing"
            else:
                seen.add((before.name, one.state.name, name))
    return seen


def test_the_documented_transitions_are_those_of_every_method_in_every_state() -> None:
    documented = {(before, after, method) for before, after, method, *_ in rows("Transitions")}
    assert documented == {step for step in walked() if step != ("JUDGING", "JUDGING", "judged")}
    assert {(State[before], State[after]) for before, after, _ in documented} == LISTED


def test_the_documented_states_are_those_of_the_code() -> None:
    table = {name: (read, written) for name, _, _, read, written in rows("What is kept where")}
    assert list(table) == [state.name for state in State]
    for state in State:
        read, written = table[state.name]
        assert (read != "not read") == (state in FOLDING)
        assert (written != "not written") == (state in SAVED)
    names = re.findall(r"`(\w+)\.(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert ("Saver", "_sending") in names


def test_what_a_state_does_not_allow_raises() -> None:
    batch: RawBatch = decoded(0, 0, 2).raw
    for state, make in MADE.items():
        for call, allowed in (
            (lambda one: one.read(batch), FOLDING),
            (lambda one: one.snapshot(), SAVED),
            (lambda one: one.shard, set(State) - {State.RESTORING}),
        ):
            one = make()
            if state in allowed:
                call(one)
            else:
                with pytest.raises(WrongState, match=f"partition 0: .*{state.name}"):
                    call(one)


def test_a_replay_ends_at_the_committed_offset_and_not_before() -> None:
    one = replaying()
    one.judged(COMMITTED - 1)
    assert (one.state, one.to_replay) == (State.REPLAYING, 1)
    one.judged(COMMITTED)
    assert (one.state, one.to_replay) == (State.JUDGING, 0)


def test_nothing_is_read_twice() -> None:
    one = judging(FOLDS)
    one.read(decoded(0, 0, 5).raw)
    with pytest.raises(TransactionFailed, match="goes back to offset 3, it had come to 5"):
        one.read(decoded(0, 3, 7).raw)


def test_a_partition_without_history_begins_where_its_first_batch_does_and_says_so() -> None:
    one = ready(FOLDS, 0, UNKNOWN)
    one.begin()
    assert not one.settled
    one.read(decoded(0, 7, 9).raw)
    assert one.shard.next_offset == 7
    assert one.announcement is not None
    assert (one.announcement.offset, one.announcement.version) == (7, BUILT_IN)
    assert not one.settled
    one.announcement = None
    assert one.settled


def test_pipelines_make_each_of_these_transitions_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the simulation: real pipelines on ports in memory, through crashes, rebalances and zombies."""
    seen: Counter[tuple[State | None, State]] = Counter()

    def note(one: Assignment, state: State) -> None:
        seen[one.__dict__.get("_state"), state] += 1
        one.__dict__["_state"] = state

    monkeypatch.setattr(Assignment, "state", property(lambda one: one.__dict__["_state"], note), raising=False)
    monkeypatch.setattr(restore, "TOGETHER_EVENTS", 1)  # so that one waits for another
    logging.disable(logging.CRITICAL)
    try:
        for steps in (LOST_WHILE_READY, LOST_WHILE_RESTORING, *map(schedule, range(SCHEDULES))):
            assert run(steps, Rules()) is None
    finally:
        logging.disable(logging.NOTSET)
    assert set(seen) == {(None, State.RESTORING)} | LISTED


class Held(MemoryStateStore):
    """Writes of partition 0 wait to be let go, and stop at their first part until then."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()
        self.calls: list[tuple[str, int]] = []

    def claim(self, partition: int) -> int:
        self.calls.append(("claim", partition))
        return super().claim(partition)

    def save(self, partition: int, owner: int, next_offset: int, parts: Iterable[bytes]) -> bool:
        self.calls.append(("save", partition))
        if partition == 0:
            self.begun.set()
            assert self.go.wait(60)
        return super().save(partition, owner, next_offset, parts)


@pytest.mark.parametrize("given_up", [State.LOST, State.HANDED_OVER])
def test_what_is_handed_over_is_still_written_and_what_is_lost_is_not(given_up: State) -> None:
    store: Any = Held()
    saver = Saver(store, config.parse({}).redis)
    ours = [judging(FOLDS, part, 5) for part in (0, 1)]
    for one in ours:
        saver.save(one)
    assert store.begun.wait(60)
    for one in ours:  # one is being sent, the other waits behind it
        one.hand_over() if given_up is State.HANDED_OVER else one.lose()
    store.go.set()
    saver._pool.shutdown(wait=True)
    if given_up is State.HANDED_OVER:
        assert [store.offset(part) for part in (0, 1)] == [5, 5]
    else:
        assert [store.offset(part) for part in (0, 1)] == [-1, -1]
        assert store.calls == [("claim", 0), ("save", 0)]
