"""A broker, a group, a store and workers without sockets or clocks. A schedule decides the order of all steps.

The workers are real `Pipeline`s with a real `Recovery` and real `Models`. A worker can die, or be
overtaken by others, at every call that leaves it. What a worker does in threads of its own, restoring and
saving, is a step as well: at its calls even its own worker may come between.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from stream_ad import config
from stream_ad.batch import Message
from stream_ad.checkpoint.restore import Recovery
from stream_ad.errors import ConnectionFailed, ModelError, StoreRefuses, TransactionFailed
from stream_ad.io.memory import MemoryCluster, MemoryModelLog, MemoryStateStore
from stream_ad.protocols import BUILT_IN, Role, Swap
from stream_ad.runtime.loop import Pipeline
from stream_ad.runtime.models import Models
from tests.simulation.toy import FOLDS, Engine, Outbox, decoded

CONFIG = config.parse({"source": {"topic": "t"}, "redis": {"wait": "0ms"}})
WORKERS = 3
PARTITIONS = 2
VERSIONS = (BUILT_IN, "a", "b")


class Killed(BaseException):
    """kill -9, at a port call."""


class Gone(BaseException):
    """The end of a thread whose worker has died or begun anew meanwhile."""


@dataclass(eq=False)
class Transaction:
    messages: list[tuple[Role, Message]] = field(default_factory=list)
    aborted: bool = False


@dataclass(frozen=True)
class Rules:
    """What the protocol rests on; the self-check takes them away one by one."""

    pipeline: type[Pipeline] = Pipeline
    recovery: type[Recovery] = Recovery
    fenced: bool = True  # by the group, the transaction's owner, and the owner's number of a snapshot
    named: bool = True  # a commit says who makes it
    together: bool = True  # alerts and offsets become visible at once


class States(MemoryStateStore):
    """Numbers of owners never repeat, as those of Redis, which begin at the clock."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def claim(self, partition: int) -> int:
        self._world.reach(write=True)
        self._owner[partition] = next(self._world.numbers)
        return self._owner[partition]

    def offset(self, partition: int) -> int:
        self._world.reach()
        return super().offset(partition)

    def load(self, partition: int) -> Iterator[bytes] | None:
        self._world.reach()
        return super().load(partition)

    def save(self, partition: int, owner: int, next_offset: int, parts: Iterable[bytes]) -> bool:
        self._world.reach(write=True)
        if not self._world.rules.fenced:
            self._owner[partition], self._saved[partition] = owner, (next_offset, tuple(parts))
            saved = True
        else:
            saved = super().save(partition, owner, next_offset, parts)
        self._world.port()
        return saved

    def emptied(self) -> None:
        self._owner, self._saved = {}, {}

    def dump(self) -> tuple[Any, Any]:
        return copy.copy(self._owner), copy.copy(self._saved)

    def restore(self, dump: tuple[Any, Any]) -> None:
        self._owner, self._saved = map(copy.copy, dump)


class ModelLog(MemoryModelLog):
    def __init__(self, world: World) -> None:
        super().__init__(world.cluster)
        self._world = world

    def swaps(self, partitions: Sequence[int]) -> dict[int, list[Swap]]:
        self._world.port()
        return super().swaps(partitions)


class Registry:
    """Holds every bundle until the store is emptied."""

    def __init__(self, world: World) -> None:
        self._world = world

    def get(self, version: str) -> bytes:
        self._world.reach()
        if self._world.bundles:
            return version.encode()
        raise ModelError("emptied")


class Uncounted:
    """A tally of events that have no fields."""

    def judged(self, *_: object) -> None: ...

    def committed(self) -> None: ...


class Sink:
    """A transactional producer of one life of a worker."""

    def __init__(self, world: World, worker: Worker) -> None:
        self._world, self._worker = world, worker
        world.abort(worker.number)
        self._epoch = world.epochs[worker.number] = world.epochs[worker.number] + 1
        self._open: Transaction | None = None

    def _transaction(self) -> Transaction:
        if self._open is None:
            self._world.port()
            self._open = self._world.transactions[self._worker.number] = Transaction()
        return self._open

    def send(self, role: Role, messages: Sequence[Message]) -> None:
        if messages:
            self._transaction().messages += [(role, message) for message in messages]
            self._world.port()

    def commit(self, offsets: Mapping[int, int]) -> None:
        world, generation = self._world, self._worker.generation
        mine = self._transaction()
        world.port()
        if world.rules.fenced:
            if mine.aborted or world.epochs[self._worker.number] != self._epoch:
                raise TransactionFailed("fenced")
            if world.rules.named and not self._member(offsets):
                raise TransactionFailed("expelled")
            if world.classic and generation != self._worker.generation:
                raise TransactionFailed("of an old generation")
        if world.rules.fenced:
            world.undecided.update(dict.fromkeys(offsets, mine))
        if not world.rules.together:
            world.cluster.offsets.update(offsets)
        world.port()
        if mine.aborted and world.rules.fenced:
            raise TransactionFailed("timed out")
        for role, message in mine.messages:
            world.cluster.published[role].append(message)
        world.cluster.offsets.update(offsets)
        world.decided(mine)
        self._open = None
        world.port()

    def _member(self, partitions: Iterable[int]) -> bool:
        world, worker = self._world, self._worker
        return worker.generation == world.generation and all(world.owner.get(part) is worker for part in partitions)

    def abort(self) -> None:
        if self._open is not None:
            self._open.aborted = True
            self._world.decided(self._open)
            self._open = None


class Job(Future[Any]):
    """Runs when the schedule says so, or when somebody waits for it."""

    def __init__(self, jobs: list[Job], deed: Callable[[], Any]) -> None:
        super().__init__()
        self._jobs, self._deed = jobs, deed

    def run(self) -> None:
        self._jobs.remove(self)
        self.set_running_or_notify_cancel()
        try:
            found = self._deed()
        except Exception as error:
            self.set_exception(error)
        else:
            self.set_result(found)

    def cancel(self) -> bool:
        if self in self._jobs:
            self._jobs.remove(self)
        return super().cancel()

    def result(self, timeout: float | None = None) -> Any:
        if self in self._jobs:
            self._jobs[0].run() if self._jobs[0] is not self else self.run()
            return self.result(timeout)
        if not self.done():
            raise Killed  # its thread was interrupted for good
        return super().result(timeout)


class Jobs(Executor):
    """A thread of a worker: one thing after the other."""

    def __init__(self) -> None:
        self.waiting: list[Job] = []

    def submit(self, deed: Callable[..., Any], /, *arguments: Any, **named: Any) -> Job:
        job = Job(self.waiting, lambda: deed(*arguments, **named))
        self.waiting.append(job)
        return job


@dataclass(eq=False)
class Worker:
    number: int
    pipeline: Any = None  # None = dead
    generation: int = 0
    owned: set[int] = field(default_factory=set)  # or so it believes
    position: dict[int, int] = field(default_factory=dict)  # of those that are started
    threads: dict[str, Jobs] = field(default_factory=dict)
    frozen: bool = False
    busy: bool = False
    working: set[str] = field(default_factory=set)  # names of the threads that were overtaken

    def die(self) -> None:
        self.pipeline, self.frozen = None, False
        self.rest()

    def rest(self) -> None:
        self.owned, self.position, self.threads, self.working = set(), {}, {}, set()

    def thread(self, name: str) -> Jobs:
        return self.threads.setdefault(name, Jobs())

    def idle(self) -> list[str]:
        """Threads that have something to do and are not in the middle of it."""
        return sorted(name for name, jobs in self.threads.items() if jobs.waiting and name not in self.working)

    @property
    def answers(self) -> bool:
        return self.pipeline is not None and not self.frozen and not self.busy


class Source:
    """What a pipeline asks of it; the records come from `World.poll`."""

    topic = "t"

    def __init__(self, world: World, worker: Worker) -> None:
        self._world, self._worker = world, worker

    def start(self, offsets: Mapping[int, int]) -> None:
        assert offsets.keys() <= self._worker.owned, "started what it does not own"
        self._worker.position.update({part: max(0, offset) for part, offset in offsets.items()})

    def committed(self, partitions: Sequence[int]) -> dict[int, int | None]:
        world, worker = self._world, self._worker
        world.port()
        if worker.generation == world.generation:
            for part in partitions:
                waits = world.undecided.get(part)
                if waits is not None and world.owner.get(part) is worker:
                    waits.aborted = True  # times out before its offsets are told to anybody
                    world.decided(waits)
        found = {part: world.cluster.offsets.get(part) for part in partitions}
        world.port()
        return found


class World:
    """`overtake` runs further steps of the schedule at a port call of a step that is under way."""

    def __init__(self, rules: Rules, overtake: Callable[[int], None]) -> None:
        self.rules, self._overtake = rules, overtake
        self.cluster = MemoryCluster()
        self.numbers = itertools.count(1)
        self.states, self.log = States(self), ModelLog(self)
        self.dumped: tuple[Any, Any] = ({}, {})
        self.store = "up"
        self.bundles = True
        self.classic = False  # the group's protocol: a commit has to name its latest generation
        self.wanted = BUILT_IN
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        self.generation = 0
        self.owner: dict[int, Worker] = {}
        self.epochs = dict.fromkeys(range(WORKERS), 0)
        self.transactions: dict[int, Transaction] = {}
        self.undecided: dict[int, Transaction] = {}  # offsets that wait for the end of a transaction
        self.workers = [Worker(number) for number in range(WORKERS)]
        self._calls, self._at, self._effect = 0, 0, 0
        self._life: tuple[Worker, Any] | None = None  # whose thread is at work

    # ── what a port may do to its caller ─────────────────────────────────────────────────

    def port(self) -> None:
        self._calls += 1
        if self._calls == self._at:
            if self._effect == 0:
                raise Killed
            saved = self._calls, self._at, self._effect, self._life
            self._overtake(self._effect)
            self._calls, self._at, self._effect, self._life = saved
            if self._life is not None and self._life[0].pipeline is not self._life[1]:
                raise Gone

    def reach(self, write: bool = False) -> None:
        """The store, which may be away, or full."""
        self.port()
        if self.store == "away":
            raise ConnectionFailed("away")
        if write and self.store == "full":
            raise StoreRefuses("full")

    def abort(self, number: int) -> None:
        """Whatever the worker's earlier life has left open."""
        found = self.transactions.pop(number, None)
        if found is not None:
            found.aborted = True
            self.decided(found)

    def decided(self, transaction: Transaction) -> None:
        for partition in [part for part, waits in self.undecided.items() if waits is transaction]:
            del self.undecided[partition]

    # ── workers ──────────────────────────────────────────────────────────────────────────

    def act(self, worker: Worker, deed: Callable[[], Any], at: int = 0, effect: int = 0) -> Any:
        """Lets a worker do something; at its port call number `at` it dies (effect 0) or so many steps overtake it."""
        self._calls, self._at, self._effect, self._life = 0, at, effect, None
        worker.busy = True
        try:
            return deed()
        except Killed:
            worker.die()
        except TransactionFailed:
            worker.pipeline.sink.abort()
            self.leave(worker)
            self.start(worker)
        finally:
            worker.busy = False
            self._at = 0
        return None

    def work(self, worker: Worker, name: str, at: int = 0, effect: int = 0) -> None:
        """A thread of the worker does the next that it has to do. Meanwhile the worker itself is free."""
        self._calls, self._at, self._effect = 0, at, effect
        self._life = worker, worker.pipeline
        worker.working.add(name)
        try:
            worker.threads[name].waiting[0].run()
        except Killed:
            worker.die()
        except Gone:
            pass
        finally:
            worker.working.discard(name)
            self._at, self._life = 0, None

    def settle(self, at: int = 0, effect: int = 0) -> None:
        """All threads get done what they have to do, and what is restored is gone on with."""
        for worker in self.workers:
            while worker.answers and worker.idle():
                self.work(worker, worker.idle()[0], at, effect)
            if worker.answers:
                self.act(worker, worker.pipeline.begin_restored, at, effect)

    def start(self, worker: Worker) -> None:
        at, self._at = self._at, 0
        sink = Sink(self, worker)
        models = Models(Engine(), Registry(self), self.log, spare=0)  # type: ignore[arg-type]
        if models.has(self.wanted):
            models.choice.default = self.wanted
        worker.rest()
        recovery = self.rules.recovery(FOLDS, self.states, self.log, CONFIG.redis, worker.thread)
        worker.pipeline = self.rules.pipeline(
            CONFIG,
            Source(self, worker),  # type: ignore[arg-type]
            None,
            sink,
            models,
            recovery,
            Outbox(sink),  # type: ignore[arg-type]
            Uncounted(),  # type: ignore[arg-type]
        )
        worker.frozen = False
        self._at = at

    def leave(self, worker: Worker) -> None:
        self.owner = {part: owner for part, owner in self.owner.items() if owner is not worker}
        worker.rest()

    def poll(self, worker: Worker, partition: int, rows: int) -> None:
        if worker.generation != self.generation:  # a zombie wakes up
            worker.pipeline.lost(sorted(worker.owned))
        first = worker.position.get(partition, self.ends[partition])
        last = min(first + rows, self.ends[partition])
        if last > first:
            worker.position[partition] = last
            worker.pipeline.submit(decoded(partition, first, last))

    def swap(self, worker: Worker) -> None:
        """A version that cannot be loaded is not obeyed."""
        if worker.pipeline.models.has(self.wanted):
            worker.pipeline.swap(self.wanted)

    def regroup(self) -> None:
        """A generation in which all members keep what they have."""
        members = [worker for worker in self.workers if worker.generation == self.generation and not worker.frozen]
        self.generation += 1
        for worker in members:
            if worker.pipeline is not None:
                worker.generation = self.generation

    def rebalance(self, choice: int, at: int, effect: int) -> None:
        """Of all that answer. Those that are in the middle of something, where the choice allows it, stay members and
        keep what they have; the others are expelled without being asked."""
        members, before = [worker for worker in self.workers if worker.answers], self.generation
        if not members:
            return
        target = {part: members[choice // WORKERS**part % len(members)] for part in self.ends}
        staying = [worker for worker in self.workers if worker.busy and worker.generation == before]
        if choice // WORKERS**PARTITIONS % 2:
            staying = []
        target.update({part: worker for worker in staying for part in worker.owned})
        for worker in members:
            gone = [part for part in sorted(worker.owned) if target[part] is not worker]
            if gone and worker.generation == self.generation:
                self.act(worker, lambda worker=worker, gone=gone: worker.pipeline.revoked(gone), at, effect)  # type: ignore[misc]
                for part in gone:
                    worker.owned.discard(part)
                    worker.position.pop(part, None)
        if self.generation != before or not all(worker.answers for worker in members):
            return  # another rebalance came between, or a member died: the next one sees to it
        self.generation += 1
        for worker in staying:
            if worker.pipeline is not None:
                worker.generation = self.generation
        for worker in members:
            if worker.owned and worker.generation != self.generation - 1:
                self.act(worker, lambda worker=worker: worker.pipeline.lost(sorted(worker.owned)))  # type: ignore[misc]
            worker.generation = self.generation
        for worker in members:
            new = [part for part, to in target.items() if to is worker and part not in worker.owned]
            if worker.answers and self.generation == before + 1:
                self.take(worker, new, at, effect)

    def take(self, worker: Worker, partitions: list[int], at: int, effect: int) -> None:
        for part in partitions:
            self.owner[part] = worker
        if partitions:
            worker.owned.update(partitions)
            self.act(worker, lambda: worker.pipeline.assigned(partitions), at, effect)
