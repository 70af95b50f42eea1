"""Asks the registry which versions are to be used, and loads them, so that a swap only exchanges a reference."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from stream_ad import metrics
from stream_ad.errors import ConnectionFailed, ModelError
from stream_ad.protocols import ModelStore
from stream_ad.runtime.models import Models
from stream_ad.runtime.shadow import Shadow

log = logging.getLogger(__name__)

LOOK_S = 0.25
REFUSED_S = 10.0  # after so long a refused version is tried again: it may have been mended


class RegistryFollower:
    """A thread that writes `models.choice`. No exception ends it: one that was not foreseen is logged and counted, and
    the registry is asked again.
    """

    def __init__(self, store: ModelStore, models: Models, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts the thread, and waits for the registry's first answer or first failure."""
        self._store, self._models, self._choice, self._clock = store, models, models.choice, clock
        self._refused: dict[str, tuple[float, str]] = {}  # version -> when, and why
        self._logged = ""  # the latest error that was not foreseen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)
        self.look()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Asks the registry once. Raises nothing."""
        try:
            self._obey()
            self._logged = ""
        except ConnectionFailed as error:
            metrics.STORE_UP.set(0)
            if not self._choice.store_away:
                log.warning("snapshots and new models wait, scoring goes on: %s", error)
            self._choice.store_away = True
        except Exception as error:
            metrics.REGISTRY_ERRORS.inc()
            if self._logged != repr(error):
                log.exception("an error that was not foreseen; the registry is asked again")
            self._logged = repr(error)

    def _obey(self) -> None:
        choice, wish = self._choice, self._store.wish()
        metrics.STORE_UP.set(1)
        if choice.store_away:
            log.info("Redis answers again")
        choice.store_away = False
        if wish.wanted is None:
            self._put_back()
        if wish.shadow is None or wish.shadow == choice.wanted:
            choice.shadow = None
        elif (choice.shadow is None or choice.shadow.version != wish.shadow) and self._loads(wish.shadow):
            choice.shadow = Shadow(self._models.compared, wish.shadow)
        if wish.wanted not in (None, choice.wanted) and self._loads(wish.wanted):
            choice.wanted = wish.wanted

    def _loads(self, version: str) -> bool:
        """Whether `version` can be used. A refused one is tried again after `REFUSED_S`."""
        refused_s, why = self._refused.get(version, (float("-inf"), ""))
        if self._clock() - refused_s < REFUSED_S:
            return False
        try:
            self._models.load(version)
        except ConnectionFailed:
            raise
        except Exception as error:
            self._refused[version] = self._clock(), str(error)
            if not isinstance(error, ModelError):
                raise
            if str(error) != why:  # it may stay so for days, as after a change of features
                log.error("model %s is refused, %s goes on: %s", version, self._choice.current, error)
            return False
        self._refused.pop(version, None)
        return True

    def _put_back(self) -> None:
        """Gives an emptied registry the version that judges: else a restart would fall back to the built-in scorer."""
        bundle = self._models.judging()
        if bundle is not None:
            info, blob = bundle
            self._store.put(info, blob)
            self._store.adopt(info.version)
            log.warning("the registry was emptied: model %s, which judges, is put back", info.version)
