"""What may go wrong in a run. Each fault does its harm, and ends it again where that is not up to the program."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.chaos.servers import SESSION_S

if TYPE_CHECKING:
    from tests.chaos.run import Run

FAULTS: dict[str, Callable[[Run], None]] = {}
ONCE = {"partitions added"}  # in a run; the others as often as is asked


def fault(name: str) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    def register(deed: Callable[[Run], None]) -> Callable[[Run], None]:
        FAULTS[name] = deed
        return deed

    return register


@fault("kill -9 of a worker")
def kill_worker(run: Run) -> None:
    run.fleet.kill(run.any_worker())


@fault("zombie: a worker frozen past its session")
def zombie(run: Run) -> None:
    index = run.any_worker()
    run.fleet.freeze(index)
    time.sleep(SESSION_S)
    run.wait_recovered(run.draw.choice((2.0, 60.0)))  # others restore its partitions, and may have judged
    run.fleet.thaw(index)


@fault("kill -9 of the broker")
def kill_broker(run: Run) -> None:
    """A lone broker may lose what it has just acknowledged: nothing is to be under way at its end."""
    frozen = [index for index in run.fleet.alive() if index not in run.fleet.frozen]
    for index in frozen:
        run.fleet.freeze(index)
    time.sleep(0.3)
    run.servers.broker.kill()
    for index in frozen:
        run.fleet.thaw(index)
    time.sleep(run.draw.uniform(0, 2))
    run.servers.broker.start()


@fault("kill -9 of Redis, empty when it is back")
def kill_redis(run: Run) -> None:
    run.servers.restart_redis(run.draw.uniform(0, 2))


@fault("Redis emptied")
def flush(run: Run) -> None:
    run.servers.flush()


@fault("Redis emptied while a worker is dead")
def flush_dead(run: Run) -> None:
    run.fleet.kill(run.any_worker())
    run.servers.flush()


@fault("Redis failed over, the latest writes lost")
def fail_over(run: Run) -> None:
    run.servers.restart_redis(0.1, earlier=True)


@fault("Redis out of memory")
def out_of_memory(run: Run) -> None:
    with run.servers.full():
        run.fleet.kill(run.any_worker())
        time.sleep(run.draw.uniform(0.5, 2))


@fault("Redis read-only")
def read_only(run: Run) -> None:
    with run.servers.read_only():
        run.fleet.kill(run.any_worker())
        time.sleep(run.draw.uniform(0.5, 2))


@fault("Redis hangs")
def hang(run: Run) -> None:
    with run.servers.frozen_redis():
        time.sleep(run.draw.uniform(1, 3))


@fault("connections to the broker cut")
def cut_kafka(run: Run) -> None:
    run.servers.kafka.cut()


@fault("connections to the broker half closed")
def half_close_kafka(run: Run) -> None:
    run.servers.kafka.half_close()


@fault("slow network to the broker")
def delay_kafka(run: Run) -> None:
    run.servers.kafka.delay_s = run.draw.uniform(0.02, 0.2)
    time.sleep(2)
    run.servers.kafka.flow()


@fault("network to the broker swallows everything")
def swallow_kafka(run: Run) -> None:
    run.servers.kafka.swallow()
    time.sleep(run.draw.uniform(0.5, SESSION_S + 2))
    run.servers.kafka.flow()


@fault("connections to Redis cut")
def cut_redis(run: Run) -> None:
    run.servers.redis.cut()


@fault("connections to Redis half closed")
def half_close_redis(run: Run) -> None:
    run.servers.redis.half_close()


@fault("slow network to Redis")
def delay_redis(run: Run) -> None:
    run.servers.redis.delay_s = run.draw.uniform(0.05, 0.5)
    time.sleep(2)
    run.servers.redis.flow()


@fault("network to Redis swallows everything")
def swallow_redis(run: Run) -> None:
    run.servers.redis.swallow()
    time.sleep(run.draw.uniform(1, 4))
    run.servers.redis.flow()


@fault("scaled 1, 4, 2, 3")
def scale(run: Run) -> None:
    for workers in (1, 4, 2, 3):
        run.scale(workers)
        run.wait_recovered(3)


@fault("rolling restart")
def rolling_restart(run: Run) -> None:
    for index in sorted(run.fleet.alive()):
        run.restart(index)


@fault("partitions added")
def add_partitions(run: Run) -> None:
    run.servers.add_partitions(run.topic, run.feed.partitions + 2)
    run.feed.partitions += 2


@fault("promotion")
def promote(run: Run) -> None:
    run.registry(lambda store: store.promote(run.new_version(store)))


@fault("rollback")
def rollback(run: Run) -> None:
    run.registry(lambda store: store.rollback())


@fault("corrupt bundle promoted")
def corrupt(run: Run) -> None:
    def harm(store: object) -> None:
        version = run.new_version(store)
        client = run.servers.client()
        key = f"{run.config.redis.prefix}:models:bundle:{version}"
        blob = bytearray(client.get(key) or b"")
        blob[len(blob) // 2] ^= 0xFF
        client.set(key, bytes(blob))
        store.promote(version)  # type: ignore[attr-defined]
        time.sleep(1)
        store.rollback()  # type: ignore[attr-defined]

    run.registry(harm)


@fault("bundle removed")
def remove(run: Run) -> None:
    """Of the version that judges, and a worker that needs it is started anew."""

    def harm(store: object) -> None:
        wanted = store.wish().wanted  # type: ignore[attr-defined]
        run.servers.client().delete(f"{run.config.redis.prefix}:models:bundle:{wanted}")

    run.registry(harm)
    run.fleet.kill(run.any_worker())
