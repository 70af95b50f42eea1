"""A backtest: judges a bounded source as the pipeline would, and writes alerts, rejects and scores to files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from stream_ad import build
from stream_ad.batch import Verdicts
from stream_ad.codec.decoded import Decoded
from stream_ad.config import Config
from stream_ad.errors import ConfigError, ConnectionFailed
from stream_ad.io.atomic_file import replaced
from stream_ad.io.bounded import read_decoded
from stream_ad.io.files import JsonLines
from stream_ad.io.memory import MemoryModelLog
from stream_ad.protocols import BUILT_IN, ModelLog, ModelStore, Source, Swap
from stream_ad.runtime.models import Models
from stream_ad.runtime.reject_log import RejectLog
from stream_ad.runtime.tally import EVENTS, LATE, Tally
from stream_ad.state.assemble import Assembly, Judged, judge_decoded
from stream_ad.state.shard import UNKNOWN, Shard

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


_FORMULA = re.compile(r"[=+@\t\r-](?!\d+(\.\d+)?$)")


def no_formula(key: str) -> str:
    """The key as a cell that a spreadsheet does not carry out: an apostrophe comes before what it would take for a
    formula. Signed numbers are none."""
    return f"'{key}" if _FORMULA.match(key) else key


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

    def write(self, judged: Sequence[Verdicts]) -> None:
        for verdicts in judged:
            self._write(verdicts)

    def _write(self, verdicts: Verdicts) -> None:
        batch = verdicts.scores.features
        events = batch.windows.keyed.events
        n = len(events)

        def spread(values: Any, kind: pa.DataType) -> pa.Array:
            full = np.zeros(n, values.dtype)
            full[batch.row] = values
            absent = np.ones(n, bool)
            absent[batch.row] = False
            return pa.array(full, kind, mask=absent)

        keys = [no_formula(key.decode(errors="backslashreplace")) for key in events.key.tolist()]
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
    tally: Tally
    flags: int = 0
    alerts: int = 0
    codes: Counter[str] = field(default_factory=Counter)  # of the rejects
    reason: str = ""  # of the first reject
    versions: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        return self.tally.totals[EVENTS]

    @property
    def late(self) -> int:
        """Events that were dropped because they came late."""
        return self.tally.totals[LATE]

    def add(self, judged: Judged) -> None:
        self.alerts += len(judged.alerts)
        for reject in judged.rejects:
            said = dict(reject.headers)
            self.codes[(said["reject_code"] or b"").decode()] += 1
            self.reason = self.reason or (said["reject_reason"] or b"").decode()
        self.tally.judged(None, len(judged.rejects))
        for verdicts in judged.verdicts:
            self.tally.judged(verdicts.scores.features, 0)
            self.flags += int(verdicts.flag.sum())
            if verdicts.scores.version not in self.versions:
                self.versions.append(verdicts.scores.version)
        self.tally.committed()


class Backtest:
    """The shards of a bounded source. Each shard swaps its version at the offsets in the log of models."""

    def __init__(self, parts: Assembly, source: Source, models: Models, log: ModelLog) -> None:
        self._parts, self._source, self._models, self._log = parts, source, models, log
        self._shards: dict[int, Shard] = {}
        self._swaps: dict[int, list[Swap]] = {}  # those ahead

    def judged(self, batches: Sequence[Decoded]) -> Iterator[Judged]:
        """The outcome of one poll's batches, in several pieces where a swap lies within a batch."""
        rest = []
        for decoded in batches:
            shard, swaps = self._shards[decoded.raw.partition], self._swaps[decoded.raw.partition]
            while swaps and swaps[0].offset < decoded.next_offset:
                swap = swaps.pop(0)
                head, decoded = decoded.split(swap.offset)
                yield judge_decoded(self._parts, self._shards, [head], self._models)
                version = self._models.standing(swap.version)
                if version != shard.version:
                    shard.swap(version, *self._models.compared(shard, version))
                    self._models.evict({one.version for one in self._shards.values()})
            rest.append(decoded)
        yield judge_decoded(self._parts, self._shards, rest, self._models)

    def assigned(self, partitions: Sequence[int]) -> None:
        for partition, swaps in self._log.swaps(partitions).items():
            version = self._models.standing(swaps[0].version) if swaps else self._models.choice.current
            self._swaps[partition], self._shards[partition] = (
                swaps,
                self._parts.shard(partition, version, len(partitions)),
            )
        self._source.start(dict.fromkeys(partitions, UNKNOWN))

    def revoked(self, partitions: Sequence[int]) -> None: ...

    def lost(self, partitions: Sequence[int]) -> None: ...


def replayed(
    config: Config,
    source: Source,
    alerts: Path | None,
    rejects: Path | None,
    scores: Path | None,
    model: str | None,
    swaps: bool,
    progress: Callable[[int], None],
) -> Result:
    """`model` = None means what the registry wants, or with `swaps` what the run used. Raises `StreamAdError`."""
    parts = Assembly.of(config)
    store, wanted = _registry(config, needed=model not in (None, BUILT_IN))
    log = build.kafka_log(config) if swaps else MemoryModelLog()
    held = build.models(config, parts.spec, store, log, model or wanted or BUILT_IN)
    result, reject_log = Result(Tally(parts.spec)), RejectLog()
    with ExitStack() as stack:
        stack.callback(held.close)

        def new(path: Path | None) -> Path | None:
            return stack.enter_context(replaced(path)) if path is not None else None

        alerts, rejects, scores = new(alerts), new(rejects), new(scores)
        lines = stack.enter_context(JsonLines(alerts, rejects))
        table = stack.enter_context(ScoreFile(scores)) if scores is not None else None
        backtest = Backtest(parts, source, held, log)
        for batches in stack.enter_context(closing(read_decoded(source, parts.codec, backtest))):
            for judged in backtest.judged(batches):
                lines.write(judged.alerts, judged.rejects)
                reject_log.note(judged.rejects)
                if table is not None:
                    table.write(judged.verdicts)
                result.add(judged)
                progress(result.events)
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
