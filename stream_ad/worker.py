"""One worker process: a pipeline that is started anew whenever a commit fails."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stream_ad.errors import StreamAdError, TransactionFailed
from stream_ad.stop import Stop

if TYPE_CHECKING:
    from stream_ad.config import Config

log = logging.getLogger("stream_ad.worker")

RESTART_S = 0.5


def setup_logging(name: str, level: int = logging.INFO) -> None:
    """One line per record on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {name}: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def main(config: Config, index: int, until: Mapping[int, int] | None) -> None:
    """Runs worker `index` until SIGTERM, or until `until` (partition -> offset) is committed by the group.

    Exits with the code of the `StreamAdError` that ended it.
    """
    setup_logging(f"worker {index}")
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches the whole group; the supervisor passes it on
    _follow_parent(stop)
    try:
        run(config, index, until, stop)
    except StreamAdError as error:
        for line in str(error).splitlines():
            log.error("%s", line)
        sys.exit(error.exit_code)


def run(config: Config, index: int, until: Mapping[int, int] | None, stop: Stop) -> None:
    """Raises `StreamAdError`."""
    from stream_ad import build
    from stream_ad.io.redis import RedisModelStore
    from stream_ad.server import Server
    from stream_ad.spec import FeatureSpec

    spec = FeatureSpec.of(config)
    parts = build.folds(config, spec)
    build.warm(config, spec)
    log_of_models = build.kafka_log(config)
    held = build.models(config, spec, RedisModelStore(config.redis), log_of_models)
    held.follow()
    spare_the_collector()
    current: dict[str, object] = {}

    def status() -> Mapping[str, object]:
        running = current.get("pipeline")
        return running.status() if running is not None else {"ready": False}  # type: ignore[attr-defined]

    server = Server(config.server.host, config.server.port + index, status) if config.server.port else None
    try:
        while not stop.asked():
            ports = build.kafka_ports(config, index, until, log_of_models)
            current["pipeline"] = judging = build.pipeline(config, spec, parts, ports, held)
            try:
                judging.run(stop.asked)
                return
            except TransactionFailed as error:
                from stream_ad import metrics

                metrics.TRANSACTION_FAILURES.inc()
                log.warning("starts anew from the last commit: %s", error)
                stop.wait(RESTART_S)
            finally:
                ports.sink.close()
    finally:
        held.close()
        if server is not None:
            server.close()


def spare_the_collector() -> None:
    """Messages are a million allocations a second and none of them a cycle: looking for some costs a third."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)


def _follow_parent(stop: Stop) -> None:
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            stop.ask()

    threading.Thread(target=watch, name="parent", daemon=True).start()
