"""A backtest: the pipeline over a bounded source, with memory ports for offsets and state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from stream_ad import build
from stream_ad.batch import Verdicts
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ConfigError, ConnectionFailed
from stream_ad.io.atomic_file import replaced
from stream_ad.io.files import JsonLinesSink
from stream_ad.io.memory import MemoryModelLog, MemoryStateStore
from stream_ad.protocols import BUILT_IN, ModelStore, Source
from stream_ad.state import assemble

SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("key", pa.string()),
        ("timestamp", pa.timestamp("ms")),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("p_value", pa.float64()),
        ("flag", pa.bool_()),
        ("model", pa.string()),
    ]
)


class ScoreFile:
    """One row per event, in the order in which they are judged; events that the hop skips have no score."""

    def __init__(self, path: Path) -> None:
        try:
            self._writer = pa_csv.CSVWriter(str(path), SCHEMA)
        except OSError as error:
            raise ConfigError(f"--scores: {path}: cannot be written: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, verdicts: Verdicts) -> None:
        batch = verdicts.scores.features
        events = batch.windows.keyed.events
        n = len(events)

        def spread(values: Any, kind: pa.DataType) -> pa.Array:
            full = np.zeros(n, values.dtype)
            full[batch.row] = values
            absent = np.ones(n, bool)
            absent[batch.row] = False
            return pa.array(full, kind, mask=absent)

        keys = [key.decode(errors="backslashreplace") for key in events.key.tolist()]
        columns = [
            pa.array(np.full(n, events.raw.partition, np.int32)),
            pa.array(events.offset),
            pa.array(keys, pa.string()),
            pa.array(events.ts_ms, pa.timestamp("ms")),
            spread(verdicts.scores.score, pa.float64()),
            spread(verdicts.threshold, pa.float64()),
            spread(verdicts.p_value, pa.float64()),
            spread(verdicts.flag, pa.bool_()),
            pa.array([verdicts.scores.version] * n, pa.string()),
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=SCHEMA))


@dataclass(slots=True)
class Result:
    events: int = 0
    flags: int = 0
    alerts: int = 0
    rejects: int = 0
    versions: list[str] = field(default_factory=list)


def replayed(
    config: Config,
    source: Source,
    alerts: Path | None,
    rejects: Path | None,
    scores: Path | None,
    model: str | None,
    swaps: bool,
    told: Callable[[int], None],
) -> Result:
    """`model` = None means what the registry wants, or with `swaps` what the run used. Raises `StreamAdError`."""
    spec = FeatureSpec.of(config)
    store, wanted = _registry(config, needed=model not in (None, BUILT_IN))
    log = build.kafka_log(config) if swaps else MemoryModelLog()
    held = build.models(config, spec, store, log, model or wanted or BUILT_IN)
    result = Result()
    with ExitStack() as stack:
        stack.callback(held.close)

        def new(path: Path | None) -> Path | None:
            return stack.enter_context(replaced(path)) if path is not None else None

        alerts, rejects, scores = new(alerts), new(rejects), new(scores)
        sink = stack.enter_context(JsonLinesSink(alerts, rejects))
        written = stack.enter_context(ScoreFile(scores)) if scores is not None else None

        def observe(verdicts: Verdicts) -> None:
            result.events += len(verdicts.scores.features.windows)
            result.flags += int(verdicts.flag.sum())
            if verdicts.scores.version not in result.versions:
                result.versions.append(verdicts.scores.version)
            if written is not None:
                written.write(verdicts)
            told(result.events)

        ports = build.Ports(source, sink, MemoryStateStore(), log)
        build.pipeline(config, spec, assemble.folds(config, spec), ports, held, observe).run(lambda: False)
    result.alerts, result.rejects = sink.sent("alerts"), sink.sent("rejects")
    return result


def _registry(config: Config, needed: bool) -> tuple[ModelStore | None, str | None]:
    from stream_ad.io.redis.stores import RedisModelStore

    try:
        store = RedisModelStore(config.redis)
        return store, store.wish().wanted
    except ConnectionFailed:
        if needed:
            raise
        return None, None
