"""One run: a stream, faults while workers judge it, and the verdict."""

from __future__ import annotations

import contextlib
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from stream_ad import config as configuration
from stream_ad.config import Config, Kafka
from stream_ad.errors import StreamAdError
from stream_ad.io.kafka.group import GroupOffsets
from stream_ad.io.memory import MemorySource, Record
from stream_ad.io.redis.stores import RedisModelStore
from stream_ad.jobs import train as training
from stream_ad.score.bundle import Bundle
from tests.chaos.faults import FAULTS
from tests.chaos.feed import Feed
from tests.chaos.fleet import Fleet
from tests.chaos.points import CALLS, KILL, Plan
from tests.chaos.servers import SESSION_S, Servers
from tests.chaos.stream import KEYS, events
from tests.support.reading import read_committed
from tests.support.waiting import WAIT_S

PARTITIONS = 8
WORKERS = 3
LOOK_S = 0.1
PATIENCE_S = 6.0  # with a worker that does not come by its fault point by itself
LEARN = 3_000

TOML = """
pipeline = "{name}"

[kafka]
brokers = "{brokers}"
group_protocol = "{protocol}"
options."topic.metadata.refresh.interval.ms" = 2000
options."reconnect.backoff.max.ms" = 500
{times}
[source]
topic = "{topic}"

[redis]
url = "{redis}"
snapshot_interval = "500ms"
wait = "1s"
rebuild = "{rebuild}"

[record]
key = "k"
timestamp = "t"
timestamp_format = "ms"

[window]
rows = 6
max_keys = {max_keys}

[features]
event = ["gap"]
numeric = {{ a = ["raw", "zscore"], b = ["log1p"] }}
categorical = {{ c = ["frequency"] }}

[threshold]
false_alarm_rate = 0.02

[incidents]
resolve_after = "20s"
cooldown = "2s"

[train]
auto = false
epochs = 2
hidden = [8, 4]
min_events = 256

[server]
port = 0
"""

CLASSIC = f"""
options."session.timeout.ms" = {int(1000 * SESSION_S)}
options."heartbeat.interval.ms" = 500
"""


@dataclass(frozen=True)
class Settings:
    seed: int
    events: int
    rate: float  # events/s while faults are injected
    faults: tuple[str, ...]  # in any order
    points: tuple[str, ...]  # fault points, each as often as it is here
    limit_s: float = math.inf  # faults end here, done or not
    most: int | None = None  # faults and hits at points; then they end
    rule: str = ""  # of the protocol, taken away: for the self-check
    rebuild: str = "all"
    protocol: str = "consumer"  # of the group


@dataclass
class Injected:
    kind: str
    at_s: float  # since the start of the run
    recovered_s: float | None = None  # until all that was there then was committed
    ends: dict[int, int] = field(default_factory=dict)


@dataclass
class Outcome:
    settings: Settings
    injected: list[Injected]
    events: int
    anomalies: int
    alerts: int
    rejects: int
    lost: list[str]
    duplicated: list[str]
    different: list[str]
    odd: list[str]  # workers that ended by themselves, partitions that stood still
    missed: list[str]  # faults and points that were asked for and not reached
    seconds: float

    @property
    def violations(self) -> int:
        return len(self.lost) + len(self.duplicated) + len(self.different) + len(self.odd)


class Run:
    """What faults need to do their harm."""

    def __init__(self, settings: Settings, servers: Servers, folder: Path, tell: Callable[[str], None]) -> None:
        self.settings, self.servers, self.folder, self._tell = settings, servers, folder, tell
        self.draw = random.Random(settings.seed)
        self.topic = f"chaos-{settings.seed}-{folder.name}"
        self.name = f"{self.topic}-p"
        self.config_file = folder / "chaos.toml"
        self.config = self._config()
        self.fleet = Fleet(self.config, settings.rule, folder)
        self.feed: Feed = None  # type: ignore[assignment]
        self._store = RedisModelStore(self.config.redis.model_copy(update={"url": servers.redis_direct}))
        self._bundle = self._trained()
        self._versions = 0
        self._wanted: set[int] = set()
        self._plans: dict[int, tuple[Plan, float]] = {}
        self._points = list(settings.points)
        self._planned = 0
        self._hits = folder / "hits"
        self._hits.touch()
        self._seen_hits = 0
        self._meant = -1
        self._injected: list[Injected] = []
        self._committed: dict[int, int] = {}
        self._reached: dict[int, int] = {}  # the most that was committed at any time
        self._begun_s = time.monotonic()
        self._lock = threading.RLock()
        self._over = threading.Event()

    def _config(self) -> Config:
        settings = self.settings
        self.config_file.write_text(
            TOML.format(
                name=self.name,
                topic=self.topic,
                brokers=self.servers.brokers,
                protocol=settings.protocol,
                times=CLASSIC if settings.protocol == "classic" else "",
                redis=self.servers.redis_url,
                rebuild=settings.rebuild,
                max_keys=KEYS // PARTITIONS - 100,  # some are forgotten on the way
            )
        )
        return configuration.load(self.config_file, {})

    def _trained(self) -> Bundle:
        rows = [Record(event.key, event.value) for event in events(self.settings.seed, LEARN)]
        return training.fit(self.config, MemorySource(self.topic, {0: rows}), "chaos")[0]

    # ── what faults use ──────────────────────────────────────────────────────────────────

    def any_worker(self) -> int:
        """One that runs, and is meant if one is meant; waits for it."""
        while True:
            with self._lock:
                able = [index for index in self.fleet.alive() if index not in self.fleet.frozen]
                if self._meant in able:
                    return self._meant
            if able:
                return self.draw.choice(able)
            time.sleep(LOOK_S)

    def scale(self, workers: int) -> None:
        with self._lock:
            self._wanted = set(range(workers))
            for index in self.fleet.alive():
                if index not in self._wanted:
                    self.fleet.stop(index)
                    self._unplan(index)

    def restart(self, index: int) -> None:
        with self._lock:
            if index in self.fleet.alive():
                self.fleet.stop(index)
                self._unplan(index)

    def _unplan(self, index: int) -> None:
        """Of a worker that is gone: a fault point that it did not come by is one to come."""
        plan, _ = self._plans.pop(index, (None, 0.0))
        if plan is not None and f" {plan.number} " not in self._hits.read_text():
            self._points.insert(0, plan.point)

    def new_version(self, store: Any) -> str:
        self._versions += 1
        manifest = replace(self._bundle.manifest, source=f"chaos {self._versions}")
        return training.register(store, Bundle.of(manifest, self._bundle.tensors)).version

    def registry(self, deed: Callable[[RedisModelStore], Any]) -> None:
        """Nothing comes of it while Redis is away, or holds nothing."""
        with contextlib.suppress(StreamAdError):
            deed(self._store)

    def wait_recovered(self, limit_s: float) -> None:
        """Until all that is in the topic now is committed."""
        ends, deadline = dict(self.feed.ends), time.monotonic() + limit_s
        while time.monotonic() < deadline and not past(self._committed, ends):
            time.sleep(LOOK_S)

    # ── the run ──────────────────────────────────────────────────────────────────────────

    def go(self) -> Outcome:
        settings = self.settings
        self.servers.create_topic(self.topic, PARTITIONS)
        from stream_ad.io.kafka.admin import create_outputs

        create_outputs(self.config)
        self.servers.remember()
        self.feed = Feed(self.servers.direct, self.topic, PARTITIONS, settings.seed, settings.events, settings.rate)
        self._begun_s = time.monotonic()
        self._wanted = set(range(WORKERS))
        watchers = [threading.Thread(target=each, daemon=True) for each in (self._keep, self._look)]
        for watcher in watchers:
            watcher.start()
        missed = self._batter()
        self.feed.rush()
        self.feed.join()
        odd = self._settled()
        self._over.set()
        for watcher in watchers:
            watcher.join()
        self.fleet.stop_all()
        odd += self.fleet.odd
        return self._verdict(odd, missed)

    def _batter(self) -> list[str]:
        queue = list(self.settings.faults)
        self.draw.shuffle(queue)
        self.draw.shuffle(self._points)
        while not self._begun() and self._now() < WAIT_S:
            time.sleep(LOOK_S)
        while (queue or self._points or self._plans) and self._goes_on():
            self._meant, trigger = self._trigger()
            if trigger is not None and (not queue or self.draw.random() < 0.4):
                self._inject(trigger)
            elif queue:
                self._meant = -1
                self._inject(queue.pop())
            elif self._points and not self._plans:
                self._inject(KILL)  # whoever is started next gets one
            else:
                time.sleep(LOOK_S)
                continue
            # the next one comes when this one is over, or while it is still felt
            self.wait_recovered(self.draw.choice((0.0, 1.0, 3.0, 10.0)))
        return queue + self._points + [plan.point for plan, _ in self._plans.values()]

    def _begun(self) -> bool:
        """Something is committed of every partition: harm to one of which nothing is might not show."""
        return len(self._reached) >= PARTITIONS and all(self._reached.values())

    def _goes_on(self) -> bool:
        """Whether faults are left to inject. Once everything is judged, no worker reaches a fault point any more."""
        most, over = self.settings.most, self.feed.done and past(self._committed, self.feed.ends)
        return not over and self._now() < self.settings.limit_s and (most is None or len(self._injected) < most)

    def _trigger(self) -> tuple[int, str | None]:
        """A worker that waits to come by its fault point, and the fault that brings it there."""
        with self._lock:
            late = [
                (index, plan) for index, (plan, since) in self._plans.items() if time.monotonic() - since > PATIENCE_S
            ]
            others = [index for index in self.fleet.alive() if index not in dict(late)]
        for index, plan in late:
            trigger = CALLS[plan.point.split(" ", 1)[1]]
            if trigger == KILL:
                return (others or [-1])[0], trigger
            if trigger:
                return index, trigger
        return -1, None

    def _inject(self, kind: str) -> None:
        self._note(kind)
        try:
            FAULTS[kind](self)
        except (StreamAdError, KafkaException, OSError, RuntimeError) as error:
            self._tell(f"{kind}: {error}")
        if self.draw.random() < 0.2:
            self.servers.remember()

    def _note(self, kind: str) -> None:
        self._injected.append(Injected(kind, self._now(), ends=dict(self.feed.ends)))
        done, hits = len(self._injected), self._seen_hits
        self._tell(f"{self._now():6.1f} s  {self.feed.written:>9,} events  {done} faults, {hits} at points: {kind}")

    def _keep(self) -> None:
        """Starts what has died, mostly with the next fault point in its way."""
        while not self._over.is_set():
            with self._lock:
                for index in self.fleet.dead():
                    self._unplan(index)
                for index in self._wanted - set(self.fleet.alive()):
                    plan = None
                    if self._points and self._begun() and self._goes_on():
                        self._planned += 1
                        point = self._points.pop()
                        # the first time, where somebody has to bring it there
                        count = 1 if CALLS[point.split(" ", 1)[1]] else self.draw.choice((1, 1, 2, 5))
                        plan = Plan(self._planned, point, count, self._hits)
                        self._plans[index] = plan, time.monotonic()
                    self.fleet.start(index, plan)
                hits = self._hits.read_text().splitlines()
                for line in hits[self._seen_hits :]:
                    self._injected.append(
                        Injected(f"killed {line.split(' ', 2)[2]}", self._now(), ends=dict(self.feed.ends))
                    )
                self._seen_hits = len(hits)
            time.sleep(0.05)

    def _look(self) -> None:
        """Follows what is committed, and notes when each fault is overcome."""
        offsets = GroupOffsets(Kafka(brokers=self.servers.direct), self.name, self.topic, stable=False)
        while not self._over.is_set():
            try:
                found = offsets.ask(list(self.feed.ends), 3)
                self._committed = {part: offset or 0 for part, offset in found.items()}
                self._reached = {
                    part: max(offset, self._reached.get(part, 0)) for part, offset in self._committed.items()
                }
            except StreamAdError:
                pass  # the broker is away
            for each in self._injected:
                if each.recovered_s is None and past(self._committed, each.ends):
                    each.recovered_s = self._now() - each.at_s
            time.sleep(LOOK_S)

    def _settled(self) -> list[str]:
        """Waits until all is committed; or was, where offsets may go back for want of a rule, and stay there."""
        deadline = time.monotonic() + WAIT_S
        while not past(self._reached if self.settings.rule else self._committed, self.feed.ends):
            if time.monotonic() > deadline:
                behind = {p: (self._committed.get(p), end) for p, end in self.feed.ends.items()}
                return [f"not all is committed {WAIT_S:.0f} s after the last fault: {behind}"]
            time.sleep(LOOK_S)
        time.sleep(2 * LOOK_S)
        return []

    def _now(self) -> float:
        return time.monotonic() - self._begun_s

    # ── the verdict ──────────────────────────────────────────────────────────────────────

    def _verdict(self, odd: list[str], missed: list[str]) -> Outcome:
        """What was published against a fold of the whole log, swapping models where the log says so."""
        golden = self.folder / "golden.jsonl"
        command = [sys.executable, "-m", "stream_ad", "replay", "--input", self.topic, "--alerts", str(golden)]
        done = subprocess.run(
            [*command, "--config", str(self.config_file)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            odd.append(f"the replay failed: {done.stderr[-500:]}")
        due = golden.read_bytes().splitlines() if golden.exists() else []
        told = [row.value() or b"" for row in read_committed(self.servers.direct, f"{self.name}.alerts")]
        (self.folder / "told.jsonl").write_bytes(b"\n".join(told) + b"\n")
        lost, duplicated, different = compared(due, told)
        rejects = read_committed(self.servers.direct, f"{self.name}.rejects")
        places = [_place(row) for row in rejects]
        lost += [f"reject {place}" for place in self.feed.poison if place not in places]
        different += [f"reject {place} was none" for place in places if place not in self.feed.poison]
        duplicated += [f"reject {place}" for place in set(places) if places.count(place) > 1]
        return Outcome(
            self.settings,
            self._injected,
            self.feed.written,
            self.feed.anomalies,
            len(told),
            len(rejects),
            lost,
            duplicated,
            different,
            odd,
            missed,
            self._now(),
        )


def past(offsets: dict[int, int], ends: dict[int, int]) -> bool:
    return all(offsets.get(part, 0) >= end for part, end in ends.items())


def compared(due: list[bytes], told: list[bytes]) -> tuple[list[str], list[str], list[str]]:
    """Lost, duplicated and different alerts, by their ids."""
    import orjson

    def named(lines: list[bytes]) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for line in lines:
            found.setdefault(orjson.loads(line)["id"], []).append(line)
        return found

    wanted, there = named(due), named(told)
    lost = [name for name in wanted if name not in there]
    duplicated = [name for name, lines in there.items() if len(lines) > len(wanted.get(name, [b""]))]
    different = [name for name, lines in there.items() if lines[0] not in wanted.get(name, [])]
    return lost, duplicated, different


def _place(row: Any) -> tuple[int, int]:
    headers = dict(row.headers() or [])
    return int(headers["reject_partition"]), int(headers["reject_offset"])
