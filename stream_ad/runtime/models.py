"""The models a worker holds: those its shards use, and the one the registry wants."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stream_ad import metrics
from stream_ad.batch import F32, F64, Explanation, Message
from stream_ad.errors import ConnectionFailed, ModelError, StreamAdError
from stream_ad.messages.models import encode_bundle
from stream_ad.protocols import BUILT_IN, ModelLog, ModelStore
from stream_ad.runtime.shadow import Shadow
from stream_ad.state.shard import Shard

if TYPE_CHECKING:
    from stream_ad.checkpoint.restore import Recovery
    from stream_ad.score.engine import Engine, Explaining, Future, Loaded

log = logging.getLogger(__name__)

WATCH_S = 0.25
REFUSED_S = 10.0  # a version that was refused may have been mended since


class Models:
    """Loads bundles by version, from the registry or else from the log, and keeps them ready.

    With a `follow`ed store a thread asks every quarter of a second which version is wanted and
    loads it, so that a swap itself only exchanges a reference. A store that was emptied gets back
    what judges.
    """

    def __init__(self, engine: Engine, store: ModelStore | None, log: ModelLog, default: str | None = None) -> None:
        self._engine, self._store, self._log = engine, store, log
        self._loaded: dict[str, Loaded] = {}
        self._blobs: dict[str, bytes] = {}
        self._in_log: set[str] = set()
        self._judging: str | None = None
        self._wanted: str | None = default
        self._refused: tuple[str | None, float] = (None, 0.0)
        self._shadow: Shadow | None = None
        self.store_away = False
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
        return self._wanted or BUILT_IN

    def shadow(self) -> Shadow | None:
        """The version to score beside the one that judges."""
        return self._shadow

    def version(self, version: str) -> str:
        """`version`, loaded. Raises `ModelError` where it cannot be had."""
        if version in self._loaded:
            return version  # without the lock: another version may be loading
        with self._lock:
            if version == BUILT_IN:
                self._loaded[version] = self._engine.load(None)
            else:
                self._loaded[version], self._blobs[version] = self._fetched(version)
        return version

    def has(self, version: str) -> bool:
        """Whether `version` can be loaded now."""
        try:
            self.version(version)
        except (ConnectionFailed, ModelError):
            return False
        return True

    def _fetched(self, version: str) -> tuple[Loaded, bytes]:
        """A registry that holds something else under the name is no reason to stop what the log still has."""
        wrong: StreamAdError = ModelError(f"model {version}: there is no registry to load it from")
        if self._store is not None:
            try:
                blob = self._store.get(version)
                return self._checked(version, blob), blob
            except (ConnectionFailed, ModelError) as error:
                wrong = error
        logged = self._log.bundle(version)
        if logged is None:
            raise wrong
        loaded = self._checked(version, logged)
        log.warning("model %s is taken from the log of the pipeline: %s", version, wrong)
        return loaded, logged

    def _checked(self, version: str, blob: bytes) -> Loaded:
        loaded = self._engine.load(blob)
        if loaded.version != version:
            raise ModelError(f"model {version}: what is stored under this name is {loaded.version}")
        return loaded

    def records(self, version: str) -> list[Message]:
        """The bundle for the log of models, if this process has not brought it there yet."""
        if version in self._in_log or version not in self._blobs:
            return []
        return encode_bundle(version, self._blobs[version])

    def committed(self, announced: Iterable[str], judging: Iterable[str]) -> None:
        """What the log now knows, and which versions judge the shards that do not replay."""
        self._in_log.update(announced)
        found = set(judging)
        self._judging = found.pop() if len(found) == 1 else None

    def submit(self, version: str, xs: Sequence[F32]) -> Future:
        return self._engine.submit(self._loaded[self.version(version)], xs)

    def score(self, version: str, xs: Sequence[F32]) -> list[F64]:
        return self.submit(version, xs).result()

    def explaining(self, version: str, x: F32) -> Explaining:
        return self._engine.explain(self._loaded[self.version(version)], x)

    def explain(self, version: str, x: F32) -> Explanation:
        return self.explaining(version, x).result()

    def compared(self, shard: Shard, version: str) -> tuple[F64, F64]:
        """Scores [r] of the shard's recent windows by its own model and by `version`."""
        x = shard.recent_windows()
        if not len(x):
            return np.zeros(0), np.zeros(0)
        return self.score(shard.version, [x])[0], self.score(version, [x])[0]

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
            if self.store_away:
                log.info("Redis answers again")
            self.store_away = False
            if wish.wanted is None:
                self._put_back(self._store)
            version = wish.shadow
            if version is None or version == self._wanted:
                self._shadow = None
            elif not self._is_refused(version) and (self._shadow is None or self._shadow.version != version):
                self._shadow = Shadow(self.compared, self.version(version))
            version = wish.wanted
            if version not in (None, self._wanted) and not self._is_refused(version):
                self._wanted = self.version(version)
        except ConnectionFailed as error:
            metrics.STORE_UP.set(0)
            if not self.store_away:
                log.warning("snapshots and new models wait, scoring goes on: %s", error)
            self.store_away = True
        except ModelError as error:
            self._refused = (version, time.monotonic())
            log.error("model %s is refused, %s goes on: %s", version, self.current(), error)

    def _is_refused(self, version: str) -> bool:
        refused, since_s = self._refused
        return version == refused and time.monotonic() - since_s < REFUSED_S

    def _put_back(self, store: ModelStore) -> None:
        """An emptied registry would have the trainer begin anew, and restarts fall back to the built-in scorer."""
        version = self._judging
        if version in self._blobs:
            store.put(self._engine.info(self._blobs[version]), self._blobs[version])
            store.adopt(version)
            log.warning("the registry was emptied: model %s, which judges, is put back", version)
