"""A worker's watch over its partitions, the brokers, Redis and the memory.

On a stall (see `watchdog`) it logs an error and makes the pipeline start anew. If the pipeline's thread is stuck and
cannot, it ends the worker. When memory runs short it asks the worker to stop.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from stream_ad import metrics
from stream_ad.config import Run
from stream_ad.errors import STUCK, Stalled, StreamAdError
from stream_ad.runtime.loop import Pipeline
from stream_ad.runtime.progress import Progress
from stream_ad.service.memory_limit import spare_bytes
from stream_ad.service.watchdog import Stall, Watchdog

log = logging.getLogger(__name__)

LOOK_S = 1.0
Ask = Callable[[Iterable[int]], tuple[Mapping[int, int], Mapping[int, int]]]
_GAUGES = (
    metrics.PROGRESS,
    metrics.LAG,
    metrics.EVENT_TIME_LAG,
    metrics.LAST_COMMIT,
    metrics.SNAPSHOT_LAG,
    metrics.STALLED,
)


class Watch:
    """A thread that looks about once a second.

    `ask` returns the ends of the given partitions, and all offsets that the group has committed; `key_bytes` is
    the size of a key's state. When memory runs short the thread calls `stop`, once, and `short` says why.
    """

    def __init__(self, config: Run, ask: Ask, key_bytes: float, stop: Callable[[], None]) -> None:
        self._config, self._ask, self._key_bytes, self._stop = config, ask, key_bytes, stop
        self._watchdog = Watchdog(config.stalled / 1000)
        self._pipeline: Pipeline | None = None
        self._restart: str | None = None
        self._stalls: dict[int, Stall] = {}
        self._seen: dict[int, dict[str, float | int | None]] = {}
        self._since_s: dict[str, float] = {}  # "brokers" or "store", while away -> since when
        self.short: str | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def begin(self, pipeline: Pipeline) -> None:
        with self._lock:
            self._pipeline = pipeline

    def end(self) -> None:
        """The pipeline has ended and holds no partition any more."""
        with self._lock:
            self._pipeline, self._restart = None, None
            self._watchdog.restarted()

    def check(self) -> None:
        """For the pipeline's thread. Raises `Stalled` when the pipeline has to start anew."""
        if self._restart is not None:
            raise Stalled(self._restart)

    def close(self) -> None:
        self._closed.set()

    def status(self) -> dict[str, object]:
        """For `/readyz`."""
        pipeline = self._pipeline
        known: dict[str, object] = pipeline.status() if pipeline is not None else {"ready": False}
        stalls = dict(self._stalls)
        return {
            **known,
            "ready": bool(known["ready"]) and not stalls,
            "stalled": sorted(stalls),
            "brokers_away_since": _moment(self._since_s.get("brokers")),
            "store_away_since": _moment(self._since_s.get("store")),
            "progress": {str(partition): seen for partition, seen in sorted(self._seen.items())},
        }

    def _run(self) -> None:
        while not self._closed.wait(min(LOOK_S, self._config.stalled / 10_000)):
            try:
                self._look()
            except Exception:
                log.exception("the watch failed, and goes on")  # a bug here must not end a worker that works

    def _look(self) -> None:
        pipeline = self._pipeline
        progress = pipeline.progress() if pipeline is not None else {}
        self._look_at_memory(progress)
        self._note("store", pipeline is not None and not pipeline.status()["store"])
        ends: Mapping[int, int] = {}
        others: Mapping[int, int] = {}
        try:
            ends, committed = self._ask(progress)
            others = {partition: offset for partition, offset in committed.items() if partition not in progress}
            self._note("brokers", False)
        except StreamAdError as error:
            log.debug("%s", error)
            self._note("brokers", True)
        with self._lock:
            if pipeline is self._pipeline:
                self._judge(progress, ends, others)
        self._publish(progress, ends)

    def _judge(self, progress: Mapping[int, Progress], ends: Mapping[int, int], others: Mapping[int, int]) -> None:
        now = time.monotonic()
        if "brokers" in self._since_s:
            self._watchdog.blind(now)
            return
        positions = {partition: seen.position for partition, seen in progress.items()}
        verdict = self._watchdog.look(now, positions, ends, others)
        before, self._stalls = self._stalls, {stall.partition: stall for stall in verdict.stalls}
        for stall in verdict.stalls:
            if stall.partition not in before:
                log.error("%s", _words(stall))
        for partition in before.keys() & positions.keys() - self._stalls.keys():
            log.info("partition %d moves again", partition)
        if verdict.stuck:
            log.critical("the pipeline does not obey: this worker ends, to be started again")
            os._exit(STUCK)
        if verdict.restart:
            metrics.RESTARTS.inc()
            self._restart = "; ".join(_words(stall) for stall in verdict.stalls)

    def _publish(self, progress: Mapping[int, Progress], ends: Mapping[int, int]) -> None:
        now = time.time()
        seen: dict[int, dict[str, float | int | None]] = {}
        for partition, known in progress.items():
            lag = max(0, ends[partition] - max(known.position, 0)) if partition in ends else None
            stall = self._stalls.get(partition)
            seen[partition] = {
                "offset": known.position,
                "lag": lag,
                "event_time_lag_s": round(now - known.latest_ms / 1000, 3) if known.latest_ms >= 0 else None,
                "last_commit_s": round(now - known.committed_s, 3) if known.committed_s is not None else None,
                "snapshot_lag": max(0, known.position) - max(0, known.saved),
                "stalled_s": round(stall.standing_s, 1) if stall is not None else 0,
            }
            figures = [*seen[partition].values()][:-1]
            for gauge, figure in zip(_GAUGES, [*figures, int(stall is not None)], strict=True):
                if figure is not None:
                    gauge.labels(partition).set(figure)
        for partition in self._seen.keys() - seen.keys():
            for gauge in _GAUGES:
                gauge.remove(partition)
        self._seen = seen

    def _look_at_memory(self, progress: Mapping[int, Progress]) -> None:
        spare, kept_free = spare_bytes(), self._config.spare_memory << 20
        if spare is None:
            return
        metrics.SPARE_MEMORY.set(spare)
        snapshot = 2 * self._key_bytes * max((known.keys for known in progress.values()), default=0)
        if kept_free and self.short is None and spare < kept_free + snapshot:
            self.short = (
                f"{spare >> 20:,} MiB of memory are left, but run.spare_memory = {self._config.spare_memory} MiB and "
                f"{round(snapshot) >> 20:,} MiB for a snapshot must stay free: lower window.max_keys, run fewer "
                "workers here, or give more memory"
            )
            self._stop()

    def _note(self, server: str, away: bool) -> None:
        if away:
            self._since_s.setdefault(server, time.time())
        else:
            self._since_s.pop(server, None)


def _words(stall: Stall) -> str:
    since = _moment(time.time() - stall.standing_s)
    return f"partition {stall.partition} stands still at offset {stall.position} since {since}, {stall.lag} behind"


def _moment(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds is not None else None
