"""One worker process: runs a pipeline, and starts it anew when a commit fails or a partition stands still."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from stream_ad.errors import (
    ConnectionFailed,
    Fenced,
    MemoryShort,
    Stalled,
    StreamAdError,
    TransactionFailed,
    Unfinished,
    Unreachable,
    printable,
)
from stream_ad.service.stop import Stop

if TYPE_CHECKING:
    from stream_ad.build import Ports
    from stream_ad.config import Config
    from stream_ad.runtime.loop import Pipeline
    from stream_ad.runtime.tally import Totals
    from stream_ad.service.health import Watch

log = logging.getLogger("stream_ad.service.worker")

RESTART_S = 0.5
REACH_S = 2.0
FENCED_S = 60.0  # a worker that is fenced twice within it has a rival
STOP_SHARE = 0.8  # of `run.stop`; then a worker ends by force, before its supervisor kills it


def setup_logging(name: str, level: int = logging.INFO) -> None:
    """Logs to standard error, one line per message, and nothing that a terminal would act on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain(f"%(asctime)s %(levelname)-7s {name}: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class _Plain(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


class Ending:
    """The end of a worker: asks it to stop, and ends it by force if it does not in time.

    A thread of its own waits for the signal. A signal handler would have to wait for the main thread, which may be
    in a call of a client that does not return.
    """

    def __init__(self, limit_s: float) -> None:
        self.stop = Stop()
        self.begun = False  # whether a pipeline has begun; before that, the process may exit at once
        self.code = 0  # the exit code of an end by force
        self._limit_s = limit_s

    def follow(self) -> None:
        """Stops on SIGTERM and when the parent process ends. Call it before any other thread starts."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor passes it on
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = multiprocessing.parent_process()
        waits: list[Callable[[], object]] = [lambda: signal.sigwait({signal.SIGTERM})]
        if parent is not None:
            waits.append(parent.join)
        for wait in waits:
            threading.Thread(target=self._ask_after, args=(wait,), name="ending", daemon=True).start()

    def _ask_after(self, wait: Callable[[], object]) -> None:
        wait()
        if not self.begun:
            os._exit(0)
        self.ask()

    def ask(self) -> None:
        """Asks the worker to stop; returns at once."""
        self.stop.ask()
        threading.Thread(target=self._force, name="force", daemon=True).start()

    def _force(self) -> None:
        time.sleep(self._limit_s)
        log.error(
            "not stopped within %.1f s, and ended by force; the next start judges again what is not committed",
            self._limit_s,
        )
        os._exit(self.code)


def main(config: Config, index: int, until: Mapping[int, int] | None, totals: Totals | None = None) -> None:
    """Runs worker `index` until SIGTERM, or until `until` (partition -> offset) is committed by the group.

    `totals` take up what it commits: see `Tally`.

    Exits with the code of the `StreamAdError` that ended it.
    """
    setup_logging(f"worker {index}")
    ending = Ending(config.run.stop / 1000 * STOP_SHARE)
    ending.follow()
    try:
        run(config, index, until, ending, totals)
    except StreamAdError as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        sys.exit(error.exit_code)


def run(
    config: Config, index: int, until: Mapping[int, int] | None, ending: Ending, totals: Totals | None = None
) -> None:
    """Runs the worker in this process. Raises `StreamAdError`."""
    from stream_ad import build, metrics
    from stream_ad.config.features import FeatureSpec
    from stream_ad.io.kafka.admin import identity, partitions, reach
    from stream_ad.io.kafka.client import LOG
    from stream_ad.io.kafka.outage import LOST
    from stream_ad.io.kafka.progress import GroupProgress
    from stream_ad.io.redis.stores import RedisModelStore
    from stream_ad.runtime.registry_follower import RegistryFollower
    from stream_ad.service.health import Watch
    from stream_ad.service.http import Server
    from stream_ad.state import assemble
    from stream_ad.state.size import state_bytes

    stop = ending.stop
    spec = FeatureSpec.of(config)
    parts = assemble.folds(config, spec)
    assemble.warm(config, spec)
    model_log = build.kafka_log(config)
    store = RedisModelStore(config.redis)
    models = build.models(config, spec, store, model_log)
    follower = RegistryFollower(store, models)
    spare_the_collector()
    fixed, per_key = state_bytes(lambda capacity: assemble.folds(config, spec, capacity))
    progress = GroupProgress(config.kafka, config.pipeline, config.source.topic)
    watch = Watch(config.run, progress.ask, per_key, ending.ask)
    server = Server(config.server.host, config.server.port + index, watch.status) if config.server.port else None
    unfinished: StreamAdError | None = None
    fenced_s = float("-inf")

    try:
        while not stop.asked():
            try:
                admin = reach(config.kafka, REACH_S)
                if not ending.begun:
                    count = len(partitions(config.kafka, config.source.topic, admin=admin))
                    parts = parts.among(count).of_topic(*identity(config.kafka, config.source.topic, admin))
                    if index == 0:
                        _warn_of_memory(count * (fixed + per_key * config.window.max_keys))
                ports = build.kafka_ports(config, index, until, model_log, stop.asked)
                ending.begun, ending.code = True, Unfinished.exit_code
                pipeline = build.pipeline(config, spec, parts, ports, models, totals=totals)
                _judge(pipeline, ports, watch, stop)
                unfinished, ending.code = None, 0
                break
            except TransactionFailed as error:
                unfinished = error
                if isinstance(error, Fenced):
                    fenced_s = _fenced(error, fenced_s)
                if not isinstance(error, Stalled):
                    metrics.TRANSACTION_FAILURES.inc()
                log.warning("starts anew from the last commit: %s", error)
            except Unreachable as error:
                LOG.warning("waits for the brokers: %s", error, extra=LOST)
                if ending.code:
                    unfinished = error
            stop.wait(RESTART_S)
    finally:
        watch.close()
        follower.close()
        models.close()
        if server is not None:
            server.close()
    if watch.short is not None:
        raise MemoryShort(watch.short)
    if unfinished is not None:
        raise Unfinished(f"stopped before all was committed; the next start judges the rest again: {unfinished}")


def _judge(pipeline: Pipeline, ports: Ports, watch: Watch, stop: Stop) -> None:
    """Runs a pipeline to its end, in sight of the watch."""

    def stopping() -> bool:
        watch.check()
        return stop.asked()

    watch.begin(pipeline)
    try:
        pipeline.run(stopping)
    finally:
        watch.end()
        ports.sink.close()


def _fenced(error: Fenced, last_s: float) -> float:
    """When the worker was fenced; `last_s` is when it was before. Raises `ConnectionFailed` if that is no accident."""
    now = time.monotonic()
    if now - last_s < FENCED_S:
        raise ConnectionFailed(
            f"pipeline: {error}; is it run twice? Stop one, and give the other more --workers"
        ) from None
    return now


def _warn_of_memory(needed_bytes: float) -> None:
    from stream_ad.service.memory_limit import spare_bytes
    from stream_ad.state.size import too_much

    warning = too_much(needed_bytes, spare_bytes())
    if warning is not None:
        log.warning("%s", warning)


def spare_the_collector() -> None:
    """Makes the garbage collector run seldom. Messages are a million allocations a second, and no cycle is among them:
    looking for cycles took a third of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
