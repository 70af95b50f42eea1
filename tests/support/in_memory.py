"""A pipeline from its first record to its last, with all servers in memory."""

from __future__ import annotations

from collections.abc import Sequence

from stream_ad import build
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.io.memory import MemoryCluster, MemoryModelLog, MemorySink, MemorySource, MemoryStateStore, Record
from stream_ad.runtime.tally import Totals
from stream_ad.state import assemble


def life(
    config: Config,
    records: Sequence[Record],
    poll_rows: int = 1000,
    source: type[MemorySource] = MemorySource,
    totals: Totals | None = None,
) -> MemoryCluster:
    """Judges the records of one partition with the built-in scorer; answers what was published."""
    spec, kafka = FeatureSpec.of(config), MemoryCluster()
    log = MemoryModelLog(kafka)
    held = build.models(config, spec, None, log)
    topic = config.source.topic
    ports = build.Ports(source(topic, {0: list(records)}, kafka, poll_rows), MemorySink(kafka), MemoryStateStore(), log)
    try:
        build.pipeline(config, spec, assemble.folds(config, spec), ports, held, totals=totals).run(lambda: False)
    finally:
        held.close()
    return kafka
