"""The models that a worker has loaded, by version: those in use, and a few that it used lately."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream_ad.batch import F32, F64, Explanation, Message
from stream_ad.errors import ConnectionFailed, ModelError, StreamAdError
from stream_ad.messages.models import encode_bundle
from stream_ad.protocols import BUILT_IN, ModelInfo, ModelLog, ModelStore
from stream_ad.runtime.shadow import Shadow
from stream_ad.state.shard import Shard

if TYPE_CHECKING:
    from stream_ad.score.engine import Engine, Explaining, Future, Loaded

log = logging.getLogger(__name__)

SPARE = 2  # so many unused models stay loaded: a rollback finds the one before


@dataclass(slots=True)
class Choice:
    """Which versions the registry wants. `RegistryFollower` writes it; without one it stays as it is."""

    default: str = BUILT_IN
    wanted: str | None = None  # to be swapped to; None = whatever judges goes on
    shadow: Shadow | None = None  # scores beside the one that judges
    store_away: bool = False

    @property
    def current(self) -> str:
        """The version that a partition without history starts with."""
        return self.wanted or self.default


@dataclass(slots=True)
class Held:
    loaded: Loaded
    blob: bytes | None  # the bundle's bytes; None for the version without one
    used: int  # the higher, the later


class Models:
    """Loads bundles from the registry, or else from the log of models. Any thread may call it, unless a method says
    otherwise.

    The engine keeps a reference to a model while it scores or explains, so evicting it does no harm.
    """

    def __init__(
        self, engine: Engine, store: ModelStore | None, log: ModelLog, default: str | None = None, spare: int = SPARE
    ) -> None:
        self._engine, self._store, self._log, self._spare = engine, store, log, spare
        self.choice = Choice(default or BUILT_IN)
        self._held: dict[str, Held] = {}
        self._uses = itertools.count()
        self._in_log: set[str] = set()
        self._replaced: set[str] = set()  # versions of the log that cannot be loaded
        self._judging: str | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        self._engine.close()

    @property
    def loaded(self) -> list[str]:
        """The versions that need no loading."""
        return list(self._held)

    def load(self, version: str) -> Loaded:
        """Raises `ModelError` or `ConnectionFailed` where the bundle cannot be read or does not fit."""
        held = self._held.get(version)  # without the lock: another version may be loading
        if held is None:
            with self._lock:
                held = self._held.get(version) or self._fetched(version)
                self._held[version] = held
        held.used = next(self._uses)
        return held.loaded

    def standing(self, version: str) -> str:
        """`version` where it can be loaded, else the built-in scorer, which judges in its place.

        So a pipeline whose owner changed the features starts, though its log names models that no longer fit. Raises
        `ConnectionFailed` where the bundle cannot be reached.
        """
        try:
            self.load(version)
        except ModelError as error:
            if version not in self._replaced:
                log.error("the scorer %s judges in the place of a model until another is promoted: %s", BUILT_IN, error)
            self._replaced.add(version)
            return BUILT_IN
        return version

    def has(self, version: str) -> bool:
        """Whether `version` can be loaded now."""
        try:
            self.load(version)
        except (ConnectionFailed, ModelError):
            return False
        return True

    def evict(self, in_use: Collection[str]) -> None:
        """Forgets models that are neither `in_use`, nor chosen, nor among the `spare` used last. Called by the
        pipeline's thread."""
        shadow = self.choice.shadow
        kept = {*in_use, self.choice.wanted, shadow and shadow.version, self._judging}
        idle = sorted((held.used, version) for version, held in list(self._held.items()) if version not in kept)
        for _, version in idle[: max(0, len(idle) - self._spare)]:
            del self._held[version]

    def _fetched(self, version: str) -> Held:
        """Loads from the registry; where it has no bundle of that name, or a wrong one, from the log of models."""
        if version == BUILT_IN:
            return Held(self._engine.load(None), None, 0)
        wrong: StreamAdError = ModelError(f"model {version}: there is no registry to load it from")
        if self._store is not None:
            try:
                return self._checked(version, self._store.get(version))
            except (ConnectionFailed, ModelError) as error:
                wrong = error
        logged = self._log.bundle(version)
        if logged is None:
            raise wrong
        held = self._checked(version, logged)
        log.warning("model %s is taken from the log of the pipeline: %s", version, wrong)
        return held

    def _checked(self, version: str, blob: bytes) -> Held:
        loaded = self._engine.load(blob)
        if loaded.version != version:
            raise ModelError(f"model {version}: what is stored under this name is {loaded.version}")
        return Held(loaded, blob, 0)

    # ── scores ───────────────────────────────────────────────────────────────────────────

    def submit(self, version: str, xs: Sequence[F32]) -> Future:
        return self._engine.submit(self.load(version), xs)

    def score(self, version: str, xs: Sequence[F32]) -> list[F64]:
        return self.submit(version, xs).result()

    def explaining(self, version: str, x: F32) -> Explaining:
        return self._engine.explain(self.load(version), x)

    def explain(self, version: str, x: F32) -> Explanation:
        return self.explaining(version, x).result()

    def compared(self, shard: Shard, version: str) -> tuple[F64, F64]:
        """Scores [r] of the shard's recent windows by its own model and by `version`, where both have one."""
        x = shard.recent_windows()
        if not len(x):
            return np.zeros(0), np.zeros(0)
        old, new = self.submit(shard.version, [x]).result()[0], self.submit(version, [x]).result()[0]
        usable = np.isfinite(old) & np.isfinite(new)
        return old[usable], new[usable]

    # ── the log and the registry ─────────────────────────────────────────────────────────

    def records(self, version: str) -> list[Message]:
        """The records that bring the bundle to the log of models; none where this process has sent them already."""
        held = self._held.get(version)
        if version in self._in_log or held is None or held.blob is None:
            return []
        return encode_bundle(version, held.blob)

    def committed(self, announced: Iterable[str], judging: Iterable[str]) -> None:
        """Notes which versions the log of models now holds, and which ones judge shards that do not replay."""
        self._in_log.update(announced)
        versions = set(judging)
        self._judging = versions.pop() if len(versions) == 1 else None

    def judging(self) -> tuple[ModelInfo, bytes] | None:
        """The bundle of the one version that judges all partitions; None where several judge, or it has no bundle."""
        held = self._held.get(self._judging) if self._judging is not None else None
        return (self._engine.info(held.blob), held.blob) if held is not None and held.blob is not None else None
