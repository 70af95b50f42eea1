"""The models a worker holds: those its shards use, and the one the registry wants."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

from stream_ad import metrics
from stream_ad.batch import F32, F64
from stream_ad.errors import ConnectionFailed, ModelError
from stream_ad.protocols import ModelStore
from stream_ad.shadow import Shadow
from stream_ad.shard import Shard

if TYPE_CHECKING:
    from stream_ad.recovery import Recovery
    from stream_ad.score.engine import Engine, Explaining, Future, Loaded

log = logging.getLogger(__name__)

STATISTICAL = "statistical"
WATCH_S = 0.25


class Models:
    """Loads bundles by version and keeps them ready.

    With a `follow`ed store a thread asks every quarter of a second which version is
    wanted and loads it, so that a swap itself only exchanges a reference.
    """

    def __init__(self, engine: Engine, store: ModelStore | None, default: str | None = None) -> None:
        self._engine, self._store = engine, store
        self._loaded: dict[str, Loaded] = {}
        self._wanted: str | None = default
        self._refused: str | None = None
        self._shadow: Shadow | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Starts obeying the registry. Waits for its first answer, but not for its return."""
        self._look()
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._engine.close()

    def wanted(self) -> str | None:
        """The version to swap to; None when there is no wish or it is not followed."""
        return self._wanted if self._thread is not None else None

    def current(self) -> str:
        """The version a partition without history starts with."""
        return self._wanted or STATISTICAL

    def shadow(self) -> Shadow | None:
        """The version to score beside the one that judges."""
        return self._shadow

    def version(self, version: str) -> str:
        """`version`, loaded. Raises `ModelError` where it cannot be had."""
        if version in self._loaded:
            return version  # without the lock: another version may be loading
        with self._lock:
            blob = None
            if version != STATISTICAL:
                if self._store is None:
                    raise ModelError(f"model {version}: there is no registry to load it from")
                blob = self._store.get(version)
            self._loaded[version] = self._engine.load(blob)
        return version

    def submit(self, version: str, x: list[F32]) -> Future:
        return self._engine.submit(self._loaded[self.version(version)], x)

    def explain(self, version: str, x: F32) -> Explaining:
        return self._engine.explain(self._loaded[self.version(version)], x)

    def compared(self, shard: Shard, version: str) -> tuple[F64, F64]:
        """Scores [r] of the shard's recent windows by its own model and by `version`."""
        x = shard.recent_windows()
        if not len(x):
            return np.zeros(0), np.zeros(0)
        return self.submit(shard.version, [x]).result()[0], self.submit(version, [x]).result()[0]

    def swap(self, shard: Shard, version: str) -> None:
        """`version` judges from `shard.next_offset` on; thresholds are carried over by the recent windows."""
        metrics.model(shard.partition, shard.version, version)
        shard.swap(version, *self.compared(shard, version))

    def swap_saved(self, shard: Shard, version: str, recovery: Recovery) -> None:
        """A swap is a checkpoint: nothing is judged by the new version before that is saved."""
        before, old_version = shard.thresholds(), shard.version
        self.swap(shard, self.version(version))
        if recovery.save_swap(shard):
            log.info("partition %d: model %s from offset %d on", shard.partition, version, shard.next_offset)
            return
        shard.states.threshold, shard.version = before, old_version
        metrics.model(shard.partition, version, old_version)
        log.debug("partition %d: stays with model %s until the swap can be saved", shard.partition, old_version)

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            self._look()

    def _look(self) -> None:
        if self._store is None:
            return
        version = None
        try:
            wish = self._store.wish()
            metrics.STORE_UP.set(1)
            version = wish.shadow
            if version is None or version == self._wanted:
                self._shadow = None
            elif version != self._refused and (self._shadow is None or self._shadow.version != version):
                self._shadow = Shadow(self.compared, self.version(version))
            version = wish.wanted or STATISTICAL
            if version not in (self._wanted, self._refused):
                self._wanted = self.version(version)
        except ConnectionFailed as error:
            metrics.STORE_UP.set(0)
            log.debug("%s", error)
        except ModelError as error:
            self._refused = version
            log.error("model %s is refused, %s goes on: %s", version, self.current(), error)
