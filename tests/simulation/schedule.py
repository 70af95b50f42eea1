"""Schedules: lists of steps, made from a seed, run in a world, and cut down to the few that matter when one fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stream_ad.io.memory import MemoryModelLog
from stream_ad.protocols import BUILT_IN
from tests.simulation.toy import golden
from tests.simulation.world import PARTITIONS, VERSIONS, WORKERS, Rules, Worker, World

WEIGHTS = {
    "append": 8,
    "poll": 36,
    "finish": 4,
    "commit": 12,
    "checkpoint": 12,
    "work": 14,
    "take_over": 4,
    "settle": 12,
    "wish": 5,
    "swap": 9,
    "kill": 4,
    "start": 7,
    "freeze": 4,
    "thaw": 4,
    "rebalance": 8,
    "empty": 2,
    "dump": 4,
    "restore": 4,
    "away": 1,
    "full": 1,
    "back": 3,
}
LEAST, MOST = 15, 60
BEGINS = ("rebalance", "checkpoint")  # something that goes on beside
SETTLES = 0.7  # of the times it is done before anything else
CLASSIC = 0.3  # of the schedules, in which the group has the older protocol
REGROUPS = 0.5  # of the overtakings that begin with a new generation of the group


@dataclass(frozen=True, slots=True)
class Step:
    """`at` = the port call at which the worker dies (`effect` 0), or the next `effect` steps come between."""

    deed: str
    worker: int = 0
    argument: int = 0
    at: int = 0
    effect: int = 0


def schedule(seed: int) -> list[Step]:
    draw = random.Random(seed)
    count = draw.randint(LEAST, MOST)
    number = draw.random
    deeds = ["append", "append"]
    for deed in ("rebalance", *draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)):
        deeds.append(deed)
        if deed in BEGINS and number() < SETTLES:
            deeds.append("settle")
    steps = [Step("classic")] if number() < CLASSIC else []
    for deed in deeds:
        at = int(number() * 12) if number() < 0.35 else 0
        effect = int(number() * 5) if at and number() < 0.6 else 0
        steps.append(Step(deed, int(number() * WORKERS), int(number() * 64), at, effect))
        if effect and number() < REGROUPS:
            steps.append(Step("regroup"))
    return steps


def run(steps: Sequence[Step], rules: Rules) -> str | None:
    """What is wrong at the end, if anything is."""
    left = list(reversed(steps))

    def overtake(count: int) -> None:
        for _ in range(count):
            if left:  # a step may be overtaken itself
                take(world, left.pop())

    world = World(rules, overtake)
    for worker in world.workers[:2]:
        world.start(worker)
    while left:
        take(world, left.pop())
    heal(world)
    return verdict(world)


def take(world: World, step: Step) -> None:
    """A deed is done by one of those that can do it."""
    deed, argument = step.deed, step.argument
    if deed == "append":
        world.ends[argument % PARTITIONS] += 1 + argument // PARTITIONS % 4
    elif deed == "wish":
        world.wanted = VERSIONS[argument % len(VERSIONS)]
    elif deed == "rebalance":
        world.rebalance(argument, step.at, step.effect)
    elif deed == "regroup":
        world.regroup()
    elif deed == "classic":
        world.classic = True
    elif deed == "empty":
        world.states.emptied()
        world.bundles = bool(argument % 2)
    elif deed == "dump":
        world.dumped = world.states.dump()
    elif deed == "restore":
        world.states.restore(world.dumped)
    elif deed == "settle":
        world.settle(step.at, step.effect)
    elif deed in ("away", "full"):
        world.store = deed
    elif deed == "back":
        world.store, world.bundles = "up", True
    else:
        able = [worker for worker in world.workers if _able(world, worker, deed)]
        if able:
            _do(world, able[step.worker % len(able)], step)


def _able(world: World, worker: Worker, deed: str) -> bool:
    if worker.pipeline is None:
        return deed == "start" and not worker.busy
    if deed != "work" and worker.busy:
        return False
    if deed == "poll":
        return worker.answers and any(at < world.ends[part] for part, at in worker.position.items())
    if deed == "work":
        return not worker.frozen and bool(worker.idle())
    if deed == "take_over":
        return worker.answers and any(job.done() for job in worker.pipeline.recovery._restoring.values())
    if deed in ("kill", "freeze"):
        return not (deed == "freeze" and worker.frozen)
    return worker.frozen if deed == "thaw" else worker.answers and bool(worker.position)


def _do(world: World, worker: Worker, step: Step) -> None:
    deed, argument = step.deed, step.argument
    if deed == "start":
        world.start(worker)
    elif deed == "kill":
        worker.die()
    elif deed in ("freeze", "thaw"):
        worker.frozen = deed == "freeze"
    elif deed == "poll":
        behind = [part for part, at in worker.position.items() if at < world.ends[part]]
        part, rows = behind[argument % len(behind)], 1 + argument // PARTITIONS % 4
        world.act(worker, lambda: world.poll(worker, part, rows), step.at, step.effect)
    elif deed == "work":
        names = worker.idle()
        world.work(worker, names[argument % len(names)], step.at, step.effect)
    elif deed == "take_over":
        world.act(worker, worker.pipeline.begin_restored, step.at, step.effect)
    elif deed == "swap":
        world.act(worker, lambda: world.swap(worker), step.at, step.effect)
    elif deed == "commit":
        world.act(worker, lambda: commit(worker), step.at, step.effect)
    else:
        world.act(worker, getattr(worker.pipeline, deed), step.at, step.effect)


def commit(worker: Worker) -> None:
    worker.pipeline.finish()
    worker.pipeline.commit()
    worker.pipeline.evict()


def heal(world: World) -> None:
    """All is well again, and one worker does what is left."""
    world.store, world.bundles = "up", True
    for worker in world.workers:
        if worker.pipeline is not None and worker.generation != world.generation:
            world.leave(worker)
            worker.pipeline = None
        if worker.pipeline is None:
            world.start(worker)
        worker.frozen = False
    while True:
        for part in world.ends:
            world.ends[part] = max(world.ends[part], 1)
        world.rebalance(0, 0, 0)
        if all(owner is world.workers[0] for owner in world.owner.values()) and len(world.owner) == PARTITIONS:
            break
    last = world.workers[0]
    while set(last.position) != set(world.ends):
        world.settle()
        for part in list(last.position):
            world.act(last, lambda part=part: world.poll(last, part, 1 << 20))  # type: ignore[misc]
            world.act(last, last.pipeline.finish)
    world.act(last, last.pipeline.checkpoint)
    for part in world.ends:
        world.act(last, lambda part=part: world.poll(last, part, 1 << 20))  # type: ignore[misc]
    world.act(last, last.pipeline.checkpoint)


def verdict(world: World) -> str | None:
    if world.cluster.offsets != world.ends:
        return f"offsets are {world.cluster.offsets} where {world.ends} are due"
    log = MemoryModelLog(world.cluster)
    swaps = log.swaps(list(world.ends))
    for partition, found in swaps.items():
        if not found or found[0].offset:
            return f"partition {partition}: the log does not say who judges from the start"
        for swap in found:
            if swap.version != BUILT_IN and log.bundle(swap.version) is None:
                return f"the log lacks the bundle of {swap.version}"
    for role, wanted in zip(("alerts", "rejects"), golden(swaps, world.ends), strict=True):
        told = [message.value or b"" for message in world.cluster.published[role]]  # type: ignore[index]
        for text in {*told, *wanted}:
            if told.count(text) != wanted[text]:
                return f"{role} {text!r} {told.count(text)} times where {wanted[text]} are due"
    return None


def shrunk(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Fewer and plainer steps that still fail: stretches are left out, ever shorter ones (ddmin, Zeller 2002)."""
    found = list(steps)
    size = len(found) // 2
    while size:
        first = 0
        while first < len(found):
            shorter = found[:first] + found[first + size :]
            if fails(shorter):
                found = shorter
            else:
                first += size
        size //= 2
    for number, step in enumerate(found):
        plainer = [Step(step.deed), Step(step.deed, step.worker), Step(step.deed, step.worker, step.argument)]
        for other in plainer:
            changed = [*found[:number], other, *found[number + 1 :]]
            if fails(changed):
                found = changed
                break
    return found
