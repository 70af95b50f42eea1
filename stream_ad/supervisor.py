"""`stream-ad run`: keeps N workers alive, and trains the first model when there is enough to learn from."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from stream_ad import worker
from stream_ad.errors import ConnectionFailed, StreamAdError
from stream_ad.protocols import BUILT_IN
from stream_ad.stop import Stop

if TYPE_CHECKING:
    from stream_ad.config import Config

log = logging.getLogger("stream_ad.supervisor")

TICK_S = 0.1
RESTART_S = 1.0
LOOK_S = 2.0
STOP_S = 30.0
TRAINER_NICE = 10  # judging comes first
USER_ERRORS = range(1, 7)
CONTEXT = multiprocessing.get_context("forkserver")


def fork_server() -> None:
    """Starts the process that workers are forked from; returns at once, while it still loads what they need."""
    CONTEXT.set_forkserver_preload(["stream_ad.preload"])
    forkserver.ensure_running()


class Supervisor:
    """Starts workers, starts dead ones again, and stops them all on SIGTERM or ctrl-C."""

    def __init__(self, config: Config, workers: int, until: Mapping[int, int] | None) -> None:
        self._config, self._until = config, until
        self._stop = Stop()
        self._workers: dict[int, BaseProcess | None] = dict.fromkeys(range(workers))
        self._due: dict[int, float] = dict.fromkeys(range(workers), 0.0)
        self._trainer: BaseProcess | None = None
        self._looked_at = 0.0
        self._enough = config.train.min_events

    def run(self) -> int:
        """Answers the exit code: 0, or that of the user error that stopped a worker, or 130 on ctrl-C."""
        code = 0

        def interrupted(number: int, _frame: object) -> None:
            nonlocal code
            code = 130 if number == signal.SIGINT else 0
            self._stop.ask()

        before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not self._stop.asked():
                self._start_due()
                ended = self._ended()
                if ended is not None:
                    return ended
                self._train_due()
                self._stop.wait(TICK_S)
            return code
        finally:
            self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start_due(self) -> None:
        for index, process in self._workers.items():
            if process is None and time.monotonic() >= self._due[index]:
                started = CONTEXT.Process(
                    target=worker.main, args=(self._config, index, self._until), name=f"worker-{index}"
                )
                started.start()
                self._workers[index] = started

    def _ended(self) -> int | None:
        """Looks after the dead. An exit code when all is done, or when starting again would not help."""
        for index, process in self._workers.items():
            if process is None or process.exitcode is None:
                continue
            code = process.exitcode
            if code == 0:
                continue
            if code in USER_ERRORS:
                return code
            log.warning("worker %d ended with %d; starts again in %.0f s", index, code, RESTART_S)
            self._workers[index] = None
            self._due[index] = time.monotonic() + RESTART_S
        if all(process is not None and process.exitcode == 0 for process in self._workers.values()):
            return 0
        return None

    def _train_due(self) -> None:
        if not self._config.train.auto:
            return
        if self._trainer is not None:
            if self._trainer.exitcode is None:
                return
            if self._trainer.exitcode:
                self._enough *= 2
                log.warning("the first model could not be trained; tried again at %d events", self._enough)
            self._trainer = None
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        try:
            if _untrained_events(self._config) < self._enough:
                return
        except StreamAdError as error:
            log.debug("%s", error)
            return
        self._trainer = CONTEXT.Process(target=train_first, args=(self._config,), name="trainer")
        self._trainer.start()

    def _stop_all(self) -> None:
        running = [process for process in (*self._workers.values(), self._trainer) if process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                log.error("%s did not stop within %.0f s and is killed", process.name, STOP_S)
                process.kill()


def _untrained_events(config: Config) -> int:
    """Events in the topic; 0 when there is or was a model already, or no registry to put one into."""
    from stream_ad import build
    from stream_ad.io.kafka_range import range_of
    from stream_ad.io.redis import RedisModelStore

    try:
        if RedisModelStore(config.redis).list():
            return 0
    except ConnectionFailed:
        return 0
    start, stop = range_of(config.kafka, config.source.topic)
    swaps = build.kafka_log(config).swaps(sorted(stop))
    if any(swap.version != BUILT_IN for found in swaps.values() for swap in found):
        return 0  # the registry was emptied, and the workers put it back
    return sum(stop.values()) - sum(start.values())


def train_first(config: Config) -> None:
    """Trains on what the topic holds and promotes the result."""
    from stream_ad import training
    from stream_ad.io.kafka_range import KafkaRange, range_of
    from stream_ad.io.redis import RedisModelStore

    worker.setup_logging("trainer")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(TRAINER_NICE)
    try:
        topic = config.source.topic
        bundle = training.fit(config, KafkaRange(config.kafka, topic, *range_of(config.kafka, topic)), topic)
        training.register(RedisModelStore(config.redis), bundle, promote=True)
        log.info("model %s is trained and promoted", bundle.version)
    except StreamAdError as error:
        log.error("%s", error)
        raise SystemExit(error.exit_code) from None
