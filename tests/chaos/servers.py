"""A broker and a Redis behind proxies, which can be killed, emptied, filled up and put back to an earlier day."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator

import redis
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.support.proxy import Proxy
from tests.support.servers import BROKER_SETTINGS, KafkaBroker, RedisServer, free_port

SESSION_S = 3.0  # of silence, then the group goes on without a worker


class Servers:
    """Workers reach `brokers` and `redis_url`, through proxies; the harness itself goes straight there."""

    def __init__(self, proxy: type[Proxy] = Proxy) -> None:
        direct, controller, inside = (free_port() for _ in range(3))
        self.kafka = proxy(inside)
        self.brokers = f"127.0.0.1:{self.kafka.port}"
        plain = f"PLAINTEXT://127.0.0.1:{direct}"
        self.broker = KafkaBroker(
            {
                "listeners": f"{plain},PROXIED://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": f"{plain},PROXIED://{self.brokers}",
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                "listener.security.protocol.map": BROKER_SETTINGS["listener.security.protocol.map"]
                + ",PROXIED:PLAINTEXT",
                "inter.broker.listener.name": "PLAINTEXT",
                "group.consumer.session.timeout.ms": str(int(1000 * SESSION_S)),
                "offsets.load.buffer.size": str(1 << 16),  # makes rare what `tests.chaos.early` shows
            }
        )
        self.broker.bootstrap = self.direct = f"127.0.0.1:{direct}"
        self.broker.start()
        self._redis = RedisServer()
        self._redis.start()
        self.redis = Proxy(self._redis.port)
        self.redis_url = f"redis://127.0.0.1:{self.redis.port}/0"
        self.redis_direct = self._redis.url
        self.admin = AdminClient({"bootstrap.servers": self.direct, "log_level": 0})
        self._dump = self._redis.folder / "dump.rdb"
        self._earlier = self._redis.folder / "earlier.rdb"

    def close(self) -> None:
        self.kafka.close()
        self.redis.close()
        self.broker.remove()
        self._redis.remove()

    def create_topic(self, topic: str, partitions: int) -> None:
        self.admin.create_topics([NewTopic(topic, partitions)])[topic].result(30)

    def add_partitions(self, topic: str, partitions: int) -> None:
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self._redis.url, socket_timeout=5)

    def flush(self) -> None:
        self.client().flushall()

    def remember(self) -> None:
        """What a later `fail_over` goes back to."""
        with contextlib.suppress(redis.RedisError):
            self.client().save()
            shutil.copy(self._dump, self._earlier)

    def restart_redis(self, away_s: float, earlier: bool = False) -> None:
        """It comes back empty, or with what it held when it was last remembered."""
        self._redis.kill()
        self._dump.unlink(missing_ok=True)
        if earlier and self._earlier.exists():
            shutil.copy(self._earlier, self._dump)
        time.sleep(away_s)
        self._redis.start()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        client = self.client()
        client.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        client = self.client()
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            yield
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")

    @contextlib.contextmanager
    def frozen_redis(self) -> Iterator[None]:
        self._redis.freeze()
        try:
            yield
        finally:
            self._redis.thaw()
