"""`stream-ad run`: keeps N workers alive, and trains the first model when there is enough to learn from."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from typing import TYPE_CHECKING

from stream_ad.errors import STUCK, ConnectionFailed, MemoryShort, ModelError, StreamAdError, Unfinished
from stream_ad.protocols import BUILT_IN
from stream_ad.service import worker
from stream_ad.service.stop import Stop

if TYPE_CHECKING:
    from stream_ad.config import Config

log = logging.getLogger("stream_ad.service.supervisor")

TICK_S = 0.1
RESTART_S = 1.0
LOOK_S = 2.0
STOP_SHARE = 0.9  # of `run.stop`; then the supervisor kills what still runs
TRAINER_NICE = 10  # judging comes first
FINAL = {*range(1, 7), MemoryShort.exit_code}  # a new start would end the same way
CONTEXT = multiprocessing.get_context("forkserver")


def fork_server() -> None:
    """Starts the process that workers are forked from. Returns at once, while that process still imports."""
    CONTEXT.set_forkserver_preload(["stream_ad.service.preload"])
    forkserver.ensure_running()


class Interrupted(Exception):
    """A signal came while a worker was being started. That worker ends by itself when its parent does."""


class Supervisor:
    """Starts workers, restarts dead ones, and stops all on SIGTERM or Ctrl-C."""

    def __init__(
        self,
        config: Config,
        workers: int,
        until: Mapping[int, int] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._until, self._clock = config, until, clock
        self._stop = Stop()
        self._workers: dict[int, BaseProcess | None] = dict.fromkeys(range(workers))
        # one for each worker, in shared memory: who is killed while it writes holds no lock
        self._totals = [RawArray("q", 3) for _ in range(workers)]
        self._due: dict[int, float] = dict.fromkeys(range(workers), 0.0)
        self._trainer: BaseProcess | None = None
        self._untrained = 0
        self._enough = config.train.min_events
        self._asked_s = float("inf")
        self._starting = False

    def totals(self) -> list[int]:
        """What all workers have committed: see `Tally`."""
        return [sum(counts) for counts in zip(*self._totals, strict=True)]

    def run(self) -> int:
        """Returns the exit code: 0, or 130 on Ctrl-C; that of the error that ended a worker; 8 if a worker was
        stopped before all was committed."""
        code = 0

        def interrupted(number: int, _frame: object) -> None:
            nonlocal code
            code = 130 if number == signal.SIGINT else 0
            self._asked_s = min(self._asked_s, self._clock())
            self._stop.ask()
            if self._starting:
                raise Interrupted

        before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
        if self._config.train.auto:
            # in a thread of its own, since servers that are away must not hold up the loop that restarts workers
            threading.Thread(target=self._count_untrained, name="untrained", daemon=True).start()
        try:
            while not self._stop.asked():
                self._start_due()
                ended = self._ended()
                if ended is not None:
                    code = ended
                    break
                self._train_due()
                self._stop.wait(TICK_S)
        except Interrupted:
            pass
        finally:
            unfinished = self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        return Unfinished.exit_code if unfinished and code in (0, 130) else code

    def _start_due(self) -> None:
        for index, process in self._workers.items():
            if process is None and self._clock() >= self._due[index]:
                started = CONTEXT.Process(
                    target=worker.main,
                    args=(self._config, index, self._until, self._totals[index]),
                    name=f"worker-{index}",
                )
                self._starting = True  # the first start waits until the fork server has loaded everything
                try:
                    started.start()
                finally:
                    self._starting = False
                self._workers[index] = started

    def _ended(self) -> int | None:
        """Schedules restarts of dead workers. An exit code when all have finished, or when a restart would not help."""
        for index, process in self._workers.items():
            if process is None or process.exitcode is None:
                continue
            code = process.exitcode
            if code == 0:
                continue
            if code in FINAL:
                return code
            why = " (its watchdog: it was stuck)" if code == STUCK else ""
            log.warning("worker %d ended with %d%s; starts again in %.0f s", index, code, why, RESTART_S)
            self._workers[index] = None
            self._due[index] = self._clock() + RESTART_S
        if all(process is not None and process.exitcode == 0 for process in self._workers.values()):
            return 0
        return None

    def _train_due(self) -> None:
        if self._trainer is not None:
            if self._trainer.exitcode is None:
                return
            self._untrained = 0  # counted anew
            if self._trainer.exitcode:
                self._enough *= 2
                log.warning("the first model could not be trained; the next attempt is at %d events", self._enough)
            self._trainer = None
        if self._untrained >= self._enough:
            self._trainer = CONTEXT.Process(target=train_first, args=(self._config,), name="trainer")
            self._trainer.start()

    def _count_untrained(self) -> None:
        while not self._stop.asked():
            if self._trainer is None:
                try:
                    count = _untrained_events(self._config)
                    self._untrained = count if self._trainer is None else 0
                except StreamAdError as error:
                    log.debug("%s", error)
                except Exception:
                    log.exception("the events to train on could not be counted; they are counted again")
            time.sleep(LOOK_S)

    def _stop_all(self) -> bool:
        """Stops all processes; returns whether a worker left something uncommitted."""
        workers = [process for process in self._workers.values() if process is not None]
        running = [*workers, self._trainer] if self._trainer is not None else workers
        for process in running:
            process.terminate()
        now = self._clock()
        deadline = min(now, self._asked_s) + self._config.run.stop / 1000 * STOP_SHARE
        for process in running:
            process.join(max(0.0, deadline - self._clock()))
            if process.exitcode is None:
                log.error("%s did not stop within %.1f s and is killed", process.name, deadline - now)
                process.kill()
                process.join()
        # a worker that the signal itself killed did not handle it yet, so it had begun nothing
        return any(process.exitcode not in (0, -signal.SIGTERM) for process in workers)


def _untrained_events(config: Config) -> int:
    """The number of events in the topic; 0 if there is or was a model, or if the registry does not answer."""
    from stream_ad import build
    from stream_ad.io.kafka.range import range_of
    from stream_ad.io.redis.stores import RedisModelStore

    try:
        if RedisModelStore(config.redis).list():
            return 0
    except ConnectionFailed:
        return 0
    start, stop = range_of(config.kafka, config.source.topic)
    swaps = build.kafka_log(config).swaps(sorted(stop))
    if any(swap.version != BUILT_IN for of_partition in swaps.values() for swap in of_partition):
        return 0  # the registry was emptied; the workers will restore it
    return sum(stop.values()) - sum(start.values())


def train_first(config: Config) -> None:
    """Trains the first model on the events of the topic and promotes it, if its trial allows it."""
    from stream_ad.io.kafka.range import KafkaRange, range_of
    from stream_ad.io.redis.stores import RedisModelStore
    from stream_ad.jobs.train import fit, promote, register

    worker.setup_logging("trainer")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(TRAINER_NICE)
    try:
        topic = config.source.topic
        bundle, trial = fit(config, KafkaRange(config.kafka, topic, *range_of(config.kafka, topic)), topic)
        if trial is not None:
            log.info("model %s: %s", bundle.version, trial.words)
        store = RedisModelStore(config.redis)
        info = register(store, bundle)
        try:
            promote(store, info, config)
            log.info("model %s is trained and promoted", bundle.version)
        except ModelError as error:
            log.warning("%s; what judges goes on", error)
    except StreamAdError as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from None
