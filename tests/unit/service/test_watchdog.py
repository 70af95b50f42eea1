"""What is a stall and what is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stream_ad.service.watchdog import MOST_DOUBLINGS, QUEUED, TOGETHER, Verdict, Watchdog

PATIENCE_S = 20.0


def looks(dog: Watchdog, first_s: int, last_s: int, **fixed: dict[int, int]) -> dict[int, Verdict]:
    """One each second; partition 1 moves and keeps up, unless its position or end is given."""
    return {
        now: dog.look(
            float(now),
            {1: now, **fixed.get("positions", {})},
            {1: now + 1, **fixed.get("ends", {})},
            fixed.get("others", {}),
        )
        for now in range(first_s, last_s)
    }


def alarms(found: dict[int, Verdict]) -> dict[int, list[int]]:
    return {now: [stall.partition for stall in verdict.stalls] for now, verdict in found.items() if verdict.stalls}


def test_a_partition_that_stands_still_while_another_moves_is_an_alarm_within_thirty_seconds() -> None:
    found = looks(Watchdog(PATIENCE_S), 0, 30, positions={0: 7}, ends={0: 9})
    assert alarms(found) == {now: [0] for now in range(20, 30)}
    stall = found[20].stalls[0]
    assert (stall.position, stall.lag, stall.standing_s) == (7, 2, 20.0)


def test_a_silent_partition_is_never_stalled() -> None:
    assert alarms(looks(Watchdog(PATIENCE_S), 0, 1000, positions={0: 7}, ends={0: 7})) == {}


def test_an_end_that_is_not_known_tells_nothing() -> None:
    assert alarms(looks(Watchdog(PATIENCE_S), 0, 1000, positions={0: 7})) == {}


def test_a_partition_that_was_never_read_is_stalled_too() -> None:
    found = looks(Watchdog(PATIENCE_S), 0, 25, positions={0: -1}, ends={0: 9})
    assert found[20].stalls[0].lag == 9


def test_what_other_workers_commit_are_moves() -> None:
    alone = Watchdog(PATIENCE_S)
    assert alarms({now: alone.look(now, {0: 7}, {0: 9}, {1: now}) for now in range(30)}).keys() == set(range(20, 30))


def test_where_nothing_moves_patience_lasts_longer() -> None:
    dog = Watchdog(PATIENCE_S)
    found = {now: dog.look(now, {0: 7}, {0: 9}, {1: 3}) for now in range(70)}
    assert alarms(found).keys() == set(range(int(TOGETHER * PATIENCE_S), 70))


def test_behind_a_queue_that_is_worked_off_it_only_waits() -> None:
    """All that was fetched of one partition comes before the next one's."""
    dog, rate = Watchdog(PATIENCE_S), 1000
    found = {now: dog.look(now, {0: 7, 1: rate * now, 2: 5}, {0: 9, 1: 10**9, 2: 5}, {3: now}) for now in range(600)}
    assert min(alarms(found)) == QUEUED // rate, "no queue is that long"


def test_a_muted_replay_is_progress() -> None:
    dog = Watchdog(PATIENCE_S)
    back = [900, *range(0, 900, 20)]
    assert alarms({now: dog.look(now, {0: at, 1: now}, {0: 2000, 1: 1000}, {}) for now, at in enumerate(back)}) == {}


def test_while_the_brokers_are_away_nothing_is_expected() -> None:
    dog = Watchdog(PATIENCE_S)
    looks(dog, 0, 19, positions={0: 7}, ends={0: 9})
    for now in range(19, 500):
        dog.blind(float(now))
    found = looks(dog, 500, 530, positions={0: 7}, ends={0: 9})
    assert min(alarms(found)) == 499 + PATIENCE_S


def test_it_asks_once_and_who_does_not_obey_is_stuck() -> None:
    found = looks(Watchdog(PATIENCE_S), 0, 60, positions={0: 7}, ends={0: 9})
    assert [now for now, verdict in found.items() if verdict.restart] == [20]
    assert min(now for now, verdict in found.items() if verdict.stuck) == 40


def test_restarts_that_do_not_help_come_ever_later() -> None:
    dog, starts, now = Watchdog(PATIENCE_S), [], 0
    while len(starts) < MOST_DOUBLINGS + 3:
        now += 1
        if dog.look(now, {0: 7, 1: now}, {0: 9, 1: now}, {}).restart:
            starts.append(now)
            dog.restarted()
    waits = [round(after - before) for before, after in pairwise(starts)]
    assert waits[:3] == [41, 81, 161]  # a second goes by until it is seen to own the partition again
    assert waits[-1] == waits[-2] == 1 + PATIENCE_S * 2**MOST_DOUBLINGS


def test_a_restart_that_helped_is_forgotten() -> None:
    dog = Watchdog(PATIENCE_S)
    assert looks(dog, 0, 21, positions={0: 7}, ends={0: 9})[20].restart
    dog.restarted()
    looks(dog, 21, 23, positions={0: 2}, ends={0: 9})  # from the snapshot
    looks(dog, 23, 25, positions={0: 8}, ends={0: 9})
    found = looks(dog, 25, 60, positions={0: 8}, ends={0: 9})
    assert min(now for now, verdict in found.items() if verdict.restart) == 23 + PATIENCE_S


def test_one_that_is_given_back_begins_anew() -> None:
    dog = Watchdog(PATIENCE_S)
    looks(dog, 0, 19, positions={0: 7}, ends={0: 9})
    looks(dog, 19, 50)
    found = looks(dog, 50, 80, positions={0: 7}, ends={0: 9})
    assert min(alarms(found)) == 50 + PATIENCE_S


@dataclass
class Life:
    """What a partition did, as looked at."""

    at_s: float
    position: int
    end: int


@dataclass
class History:
    lives: dict[int, list[Life]] = field(default_factory=dict)
    blind_s: list[float] = field(default_factory=list)

    def stood(self, partition: int, now_s: float) -> float:
        """Since when it was there, had events to judge and did not move, while the brokers answered."""
        rows = self.lives[partition]
        since = rows[-1].at_s
        for before, after in zip(reversed(rows[:-1]), reversed(rows), strict=False):
            if before.position != after.position or after.position >= after.end:
                break
            since = before.at_s
        return max([since, *(at for at in self.blind_s if at <= now_s)])

    def moved(self, partition: int, since_s: float) -> bool:
        """Whether it moved at a look since then."""
        rows = self.lives[partition]
        return any(after.at_s >= since_s and before.position != after.position for before, after in pairwise(rows))


MOVES = st.lists(
    st.tuples(
        st.floats(0.5, 15),
        st.booleans() | st.just(True),  # do the brokers answer
        st.lists(st.tuples(st.sampled_from([0, 0, 0, 5, -3]), st.sampled_from([0, 0, 4])), min_size=3, max_size=3),
    ),
    max_size=60,
)


@given(MOVES)
def test_only_what_stood_still_for_all_the_time_is_stalled_and_all_that_did_in_the_end(
    moves: list[tuple[float, bool, list[tuple[int, int]]]],
) -> None:
    dog, history, now_s = Watchdog(PATIENCE_S), History(), 0.0
    position, end = [10, 10, 10], [12, 12, 12]
    for wait_s, answers, steps in moves:
        now_s += wait_s
        for part, (move, new) in enumerate(steps):
            end[part] += new
            position[part] = max(0, min(position[part] + move, end[part]))
        if not answers:
            dog.blind(now_s)
            history.blind_s.append(now_s)
            continue
        for part in range(3):
            history.lives.setdefault(part, []).append(Life(now_s, position[part], end[part]))
        verdict = dog.look(now_s, dict(enumerate(position)), dict(enumerate(end)), {})
        stalled = {stall.partition for stall in verdict.stalls}
        for part in range(3):
            stood_s = now_s - history.stood(part, now_s)
            lags = position[part] < end[part]
            assert part not in stalled or (lags and stood_s >= PATIENCE_S)
            waits = any(history.moved(other, now_s - PATIENCE_S) for other in range(3) if other != part)
            assert part in stalled or not lags or stood_s < TOGETHER * PATIENCE_S or waits
