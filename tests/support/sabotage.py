"""`stream-ad` with a fault in its workers: `python -m tests.support.sabotage FAULT MARKER run ...`.

The program has no such options: this module puts the fault into the worker's process before it begins. The file
MARKER switches the fault on or off, or shows that it has happened.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stream_ad.service import supervisor, worker

PAUSED, STUCK_AT = 1, 1000


def paused(marker: Path) -> None:
    """A source that begins before the file is there gives nothing of one partition, but for the very first batch."""
    from stream_ad.io.kafka.source import KafkaSource

    poll = KafkaSource.poll
    pauses: dict[KafkaSource, bool] = {}
    given: list[Any] = []

    def withheld(self: KafkaSource, timeout_ms: int) -> list[Any]:
        pauses.setdefault(self, not marker.exists())
        kept = []
        for batch in poll(self, timeout_ms):
            if batch.partition == PAUSED and pauses[self]:
                if given:
                    continue
                given.append(batch)
            kept.append(batch)
        return kept

    KafkaSource.poll = withheld  # type: ignore[method-assign]


def stuck(marker: Path) -> None:
    """One call of the pipeline's thread does not return."""
    from stream_ad.runtime.loop import Pipeline

    submit = Pipeline.submit

    def blocked(self: Pipeline, decoded: Any) -> None:
        if decoded.raw.next_offset > STUCK_AT and not marker.exists():
            marker.touch()
            while True:
                time.sleep(3600)
        submit(self, decoded)

    Pipeline.submit = blocked  # type: ignore[method-assign]


def slow(marker: Path) -> None:
    """Few rows at a time, and a while for each of them."""
    from stream_ad.io.kafka import records
    from stream_ad.runtime.loop import Pipeline

    records.ROWS = records.FIRST_ROWS = 20
    submit = Pipeline.submit

    def slowly(self: Pipeline, decoded: Any) -> None:
        if not marker.exists():
            time.sleep(0.1)
        submit(self, decoded)

    Pipeline.submit = slowly  # type: ignore[method-assign]


def short(marker: Path) -> None:
    """Memory runs short once the file is there."""
    from stream_ad.service import health as watch

    watch.spare_bytes = lambda: 1 << 20 if marker.exists() else None  # type: ignore[attr-defined]


FAULTS: dict[str, Callable[[Path], None]] = {"paused": paused, "stuck": stuck, "slow": slow, "short": short}


def work(fault: str, marker: Path, *arguments: Any) -> None:
    FAULTS[fault](marker)
    worker.main(*arguments)


def main() -> None:
    from stream_ad.cli.commands import app
    from tests.support import sabotage

    fault, marker, *arguments = sys.argv[1:]
    faulty = SimpleNamespace(main=partial(sabotage.work, fault, Path(marker)), setup_logging=worker.setup_logging)
    supervisor.worker = faulty  # type: ignore[assignment]
    app(arguments)


if __name__ == "__main__":
    main()
