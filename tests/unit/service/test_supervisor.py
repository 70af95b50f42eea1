"""When workers are started, started again, and killed: by a clock that the test moves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stream_ad import config
from stream_ad.service import supervisor
from stream_ad.service.supervisor import RESTART_S, STOP_SHARE, TICK_S, Supervisor
from tests.support.clock import Clock

STOP_S = 10.0
CONFIG = config.parse({"run": {"stop": f"{STOP_S:.0f}s"}, "train": {"auto": False}})
TERMINATED, KILLED = -signal.SIGTERM, -signal.SIGKILL


class Worker:
    """A process: `obeys_s` after it is asked to stop it ends with `code`; None = never."""

    def __init__(self, clock: Clock, obeys_s: float | None = None, code: int = 0) -> None:
        self._clock, self._obeys_s, self._code = clock, obeys_s, code
        self._asked_s = float("inf")
        self.name, self.exitcode = "worker", None
        self.started_s: float | None = None
        self.ended_s: float | None = None

    def start(self) -> None:
        self.started_s = self._clock()

    def end(self, code: int) -> None:
        self.exitcode, self.ended_s = code, self._clock()

    def terminate(self) -> None:
        self._asked_s = self._clock()

    def join(self, timeout_s: float = 0.0) -> None:
        if self.exitcode is not None:
            return
        left_s = float("inf") if self._obeys_s is None else max(0.0, self._asked_s + self._obeys_s - self._clock())
        self._clock.pass_by(min(left_s, timeout_s))
        if left_s <= timeout_s:
            self.end(self._code)

    def kill(self) -> None:
        self.end(KILLED)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, workers: list[Worker], tick: Callable[[int], None], at_once: int
) -> int:
    """`tick(n)` is what happens in the n-th pause of the supervisor's loop; answers the exit code."""
    to_come: Iterator[Worker] = iter(workers)
    ticks = 0

    class Stop(supervisor.Stop):
        def wait(self, timeout_s: float) -> bool:
            nonlocal ticks
            clock.pass_by(timeout_s)
            tick(ticks)
            ticks += 1
            return self.asked()

    class Context:
        def Process(self, **_: Any) -> Worker:
            return next(to_come)

    monkeypatch.setattr(supervisor, "Stop", Stop)
    monkeypatch.setattr(supervisor, "CONTEXT", Context())
    return Supervisor(CONFIG, at_once, None, clock).run()


def terminate(after: int) -> Callable[[int], None]:
    return lambda tick: signal.raise_signal(signal.SIGTERM) if tick == after else None


def test_workers_that_obey_in_time_are_left_to_end_by_themselves(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [Worker(clock, obeys_s) for obeys_s in (0.0, STOP_SHARE * STOP_S)]
    assert run(clock, monkeypatch, workers, terminate(0), 2) == 0
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_all_that_hang_are_killed_within_run_stop_however_many_they_are(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [Worker(clock) for _ in range(5)]
    assert run(clock, monkeypatch, workers, terminate(3), 5) == 8, "not all was committed"
    assert [worker.exitcode for worker in workers] == [KILLED] * 5
    assert clock() - 4 * TICK_S == pytest.approx(STOP_SHARE * STOP_S)


def test_a_stop_that_comes_while_a_worker_is_started_counts_from_then(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Worker):
        def start(self) -> None:
            super().start()
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                clock.pass_by(4.0)

    hangs = Worker(clock)
    assert run(clock, monkeypatch, [hangs, Slow(clock)], lambda tick: None, 2) == 8
    assert hangs.ended_s == pytest.approx(STOP_SHARE * STOP_S)


def test_a_worker_that_dies_is_started_again_after_a_while(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    dies, follows = Worker(clock), Worker(clock, 0.0)
    many = round(RESTART_S / TICK_S) + 5

    def tick(number: int) -> None:
        if number == 0:
            dies.end(KILLED)
        elif number == many:
            signal.raise_signal(signal.SIGTERM)

    assert run(clock, monkeypatch, [dies, follows], tick, 1) == 0
    assert dies.ended_s is not None
    assert follows.started_s == pytest.approx(dies.ended_s + RESTART_S, abs=TICK_S)


@pytest.mark.parametrize(("code", "found"), [(TERMINATED, 0), (0, 0), (8, 8)])
def test_who_dies_of_the_signal_had_not_begun_anything(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, code: int, found: int
) -> None:
    assert run(clock, monkeypatch, [Worker(clock, 1.0, code)], terminate(0), 1) == found


def test_an_error_that_would_come_again_ends_the_run(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    fails, other = Worker(clock), Worker(clock, 1.0)
    assert run(clock, monkeypatch, [fails, other], lambda tick: fails.end(3), 2) == 3
    assert other.exitcode == 0
