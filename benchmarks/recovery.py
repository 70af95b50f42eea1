"""`make bench ARGS=recovery`: how long a restore takes, and how long a rebalance holds up other partitions.

Memory that the machine gives out for the first time can take many times as long to fill. So the report shows the first
restore apart from the others.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from confluent_kafka import Producer
from redis import StrictRedis
from rich.console import Console
from rich.table import Table

from benchmarks import load
from stream_ad import build
from stream_ad.batch import RawBatch, Scores
from stream_ad.config import Config, Redis, parse
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import TransactionFailed
from stream_ad.fold import state as columns
from stream_ad.io.redis.stores import RedisStateStore
from stream_ad.service.worker import RESTART_S
from stream_ad.state import assemble
from stream_ad.state.shard import Folds, Shard, States

FEW = 20_000  # keys that really fold events; the others are copies of them
EVENTS_PER_KEY = 12
PARTITIONS = 64
PER_S = 4_000  # events, while workers come and go
PHASE_S = 12.0
SESSION_S = 6  # the session timeout of a dead worker, which `tests/support/servers.py` sets
QUIET = "nobody comes or goes"
BESIDE = "a worker of another pipeline starts"
GOAL_S = 2.0  # per million keys, at most


class Restores:
    """A shard of many keys, through a real Redis and back."""

    def __init__(self, redis: str, keys: int) -> None:
        config = load.config("127.0.0.1:1", redis, "t", "bench-recovery", keys)
        self._config = config
        spec = FeatureSpec.of(config)
        self.folds = assemble.folds(config, spec)
        self.shard = many(self.folds, few(config, spec), keys)
        self.millions = keys / 1e6
        self.store = RedisStateStore(Redis(url=redis, prefix="bench-recovery"))
        self._owner = self.store.claim(0)

    def figures(self, rounds: int) -> dict[str, list[float]]:
        """Seconds per million keys, by the wall clock and as CPU time of this process."""
        steps = {"copy": lambda: self.shard.snapshot(copied=True), "save": self._save, "restore": self._restore}
        seconds: dict[str, list[float]] = {f"{name}{clock}": [] for name in steps for clock in ("", ", CPU")}
        for _ in range(rounds + 1):
            for name, step in steps.items():
                began, worked = time.perf_counter(), time.process_time()
                step()
                seconds[name].append((time.perf_counter() - began) / self.millions)
                seconds[f"{name}, CPU"].append((time.process_time() - worked) / self.millions)
        return seconds

    def _save(self) -> None:
        self.shard.next_offset += 1
        parts = self.shard.snapshot().parts()
        assert self.store.save(0, self._owner, self.shard.next_offset, parts)

    def _restore(self) -> None:
        parts = self.store.load(0)
        assert parts is not None
        assert Shard.restore(self.folds, 0, parts)[0].used == self.shard.used

    def sizes(self) -> dict[str, float]:
        snapshot = self.shard.snapshot()
        packed = sum(map(len, snapshot.parts()))
        return {"bytes_per_key": snapshot.nbytes / self.shard.used, "packed": packed / snapshot.nbytes}


def few(config: Config, spec: FeatureSpec) -> Shard:
    shard = Shard(assemble.folds(config, spec, FEW), 0, 0, "v")
    codec, noise = assemble.codec(config), np.random.default_rng(3)
    stream = load.records(FEW * EVENTS_PER_KEY, FEW)
    for first in range(0, FEW * EVENTS_PER_KEY, 8000):
        rows = list(itertools.islice(stream, 8000))
        at = np.arange(first, first + len(rows))
        raw = RawBatch("t", 0, at, at, [key for key, _ in rows], [value for _, value in rows], lambda _: [], at[-1] + 1)
        events, _ = codec.decode(raw)
        batch = shard.submit(events)
        shard.finish(Scores(batch, "v", noise.normal(size=len(batch))))
    return shard


def many(folds: Folds, small: Shard, keys: int) -> Shard:
    """Repeats the rows of the small shard, too far apart for the packing to find that they are equal."""
    shard = Shard(folds, 0, 0, "v")
    for name in fields(States):
        source, target = getattr(small.states, name.name), getattr(shard.states, name.name)
        per_key = columns.per_key_fields(source)
        for field in fields(source):
            rows, into = getattr(source, field.name), getattr(target, field.name)
            if field.name not in per_key:
                into[...] = rows
                continue
            for first in range(0, keys, FEW):
                into[first : first + FEW] = rows[: keys - first]
    shard.states.keys.used[0] = keys
    return shard


class Noting:
    """A sink that notes the time and the partitions of each commit."""

    def __init__(self, sink: Any, file: TextIO) -> None:
        self._sink, self._file = sink, file
        self.send, self.abort, self.close = sink.send, sink.abort, sink.close

    def commit(self, offsets: Mapping[int, int]) -> None:
        self._sink.commit(offsets)
        self._file.write(json.dumps([time.monotonic(), sorted(offsets), sum(offsets.values())]) + "\n")


def work(data: dict[str, Any], index: int, path: Path, stop: Event) -> None:
    """A worker process."""
    config = parse(data)
    spec = FeatureSpec.of(config)
    assemble.warm(config, spec)
    log = build.kafka_log(config)
    models = build.models(config, spec, None, log)
    with path.open("w", buffering=1) as notes:
        while not stop.is_set():
            ports = build.kafka_ports(config, index, None, log)
            sink: Any = Noting(ports.sink, notes)
            parts = build.Ports(ports.source, sink, ports.states, log)
            try:
                build.pipeline(config, spec, assemble.folds(config, spec), parts, models).run(stop.is_set)
            except TransactionFailed:
                time.sleep(RESTART_S)
            finally:
                ports.sink.close()
    models.close()


def feed(brokers: str, topic: str, keys: int, stop: Event) -> None:
    """Sends every key once, as fast as possible; then random keys, `PER_S` events a second."""
    producer = Producer(
        {"bootstrap.servers": brokers, "linger.ms": 5, "partitioner": "murmur2", "enable.idempotence": True}
    )

    def send(rows: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            while True:
                try:
                    producer.produce(topic, value, key)
                    break
                except BufferError:
                    producer.poll(0.1)

    send(load.records(keys, keys))
    producer.flush()
    draw, number, began = random.Random(1), 0, time.monotonic()
    while not stop.wait(0.01):
        due = int((time.monotonic() - began) * PER_S) - number
        send(again(draw.randrange(keys), load.START_MS + keys + number + row) for row in range(due))
        number += due
        producer.poll(0)
    producer.flush()


def again(card: int, ts_ms: int) -> tuple[bytes, bytes]:
    value = f'{{"ts":{ts_ms},"card":"card-{card:07d}","amount":{card % 977}.5,"balance":{card % 7919},"merchant":"m1"}}'
    return b"card-%07d" % card, value.encode()


def rebalances(brokers: str, redis: str, folder: Path, keys: int, console: Console) -> dict[str, float]:
    """The longest times between two commits of a partition that stays with its worker, in seconds, by phase.

    The phases: nobody comes or goes; a worker of another pipeline starts; a second worker takes half of the
    partitions; it gives them back; another one takes them and is killed, and all snapshots are lost, so that its
    partitions are folded again from the start.
    """
    topic = f"rebalance-{time.time_ns()}"
    config = load.config(brokers, redis, topic, topic, int(keys / PARTITIONS * 1.5) + 1000)
    data = config.model_dump(exclude_defaults=True)
    data["redis"] = {"url": redis}
    data["kafka"] = {"brokers": brokers}
    data["sink"] = {"commit_interval": "100ms"}
    load.create(brokers, topic, PARTITIONS)
    from stream_ad.io.kafka.admin import create_outputs

    beside = {**data, "pipeline": f"{topic}-beside", "source": {**data["source"], "start": "latest"}}
    for each in (data, beside):
        create_outputs(parse(each))
    context = multiprocessing.get_context("spawn")
    fed, over, ends = context.Event(), context.Event(), [context.Event() for _ in range(3)]
    notes = [folder / f"worker-{number}.jsonl" for number in range(3)]
    feeder = context.Process(target=feed, args=(brokers, topic, keys, fed))
    workers = [
        context.Process(target=work, args=(data, min(number, 1), notes[number], ends[number])) for number in range(3)
    ]
    other = context.Process(target=work, args=(beside, 0, folder / "beside.jsonl", over))
    marks: dict[str, tuple[float, float]] = {}
    try:
        feeder.start()
        workers[0].start()
        with console.status(f"one worker folds {keys:,} keys"):
            wait(lambda: any(offsets > keys for *_, offsets in commits(notes[0])[-5:]))
            time.sleep(PHASE_S)  # until the first snapshots are made

        def kill() -> None:
            workers[2].kill()
            StrictRedis.from_url(redis).flushall()

        phases: list[tuple[str, Callable[[], object], float]] = [
            (QUIET, lambda: None, PHASE_S),
            (BESIDE, other.start, PHASE_S),
            ("", over.set, PHASE_S),
            ("half of them go", workers[1].start, PHASE_S),
            (f"{QUIET}, again", lambda: None, PHASE_S),
            ("half of them come", ends[1].set, PHASE_S),
            ("", workers[2].start, PHASE_S),
            ("half of them come, to be folded again from the start", kill, SESSION_S + 2 * PHASE_S),
        ]
        for name, begin, spent_s in phases:
            with console.status(name):
                began = time.monotonic()
                begin()
                time.sleep(spent_s)
                marks[name] = began, time.monotonic()
        moved = {part for path in notes[1:] for _, partitions, _ in commits(path) for part in partitions}
    finally:
        for event in (fed, over, *ends):
            event.set()
        for process in (feeder, other, *workers):
            if process.pid is not None:
                process.join(60)
                process.kill()
    stayed = set(range(PARTITIONS)) - moved
    first = commits(notes[0])
    gaps = {name: longest(first, stayed, *when) for name, when in marks.items() if name}
    back = {part for when, partitions, _ in first if when > began for part in partitions} & moved
    return {**gaps, "partitions that moved": len(moved), "of them folded again": len(back)}


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("the workers make no progress")
        time.sleep(0.2)


def commits(path: Path) -> list[tuple[float, set[int], int]]:
    """(time, partitions, sum of their offsets) of each commit; without a line that is only half written."""
    text = path.read_text() if path.exists() else ""
    notes = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [(when, set(partitions), offsets) for when, partitions, offsets in notes]


def longest(noted: list[tuple[float, set[int], int]], partitions: set[int], began: float, ended: float) -> float:
    gaps = []
    for partition in partitions:
        times = [when for when, committed, _ in noted if partition in committed and began < when < ended]
        gaps += [after - before for before, after in itertools.pairwise([began, *times, ended])]
    return max(gaps)


def main(brokers: str, redis: str, folder: Path, console: Console, rounds: int, scale: int) -> dict[str, Any]:
    restores = Restores(redis, 1_000_000 // scale)
    with console.status("restoring a million keys"):
        figures, sizes = restores.figures(rounds), restores.sizes()
    del restores
    gaps = rebalances(brokers, redis, folder, 1_000_000 // scale, console)
    report(console, figures, sizes, gaps)
    return {"seconds_per_million_keys": figures, "sizes": sizes, "longest_gaps_s": gaps}


def report(console: Console, figures: dict[str, list[float]], sizes: dict[str, float], gaps: dict[str, float]) -> None:
    table = Table(
        "seconds per million keys", "first", "least", "median", "most of the others", "goal", title="snapshots"
    )
    for name, values in figures.items():
        later = values[1:]
        goal = f"≤ {GOAL_S:g} {'✓' if statistics.median(later) <= GOAL_S else '✗'}" if name == "restore" else ""
        cells = [f"{value:.2f}" for value in (values[0], min(later), statistics.median(later), max(later))]
        table.add_row(name, *cells, goal)
    console.print(table)
    console.print(f"{sizes['bytes_per_key']:,.0f} bytes per key, of which {sizes['packed']:.0%} are stored")
    table = Table("partitions that stay", "longest time between two commits, s", title="64 partitions, two workers")
    for name, value in gaps.items():
        if "partitions" not in name and "of them folded" not in name:
            table.add_row(name, f"{value:.2f}")
    console.print(table)
