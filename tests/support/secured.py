"""The real program against servers that authenticate. All passwords are known texts, and no output may hold one."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from confluent_kafka.admin import NewTopic

from tests.support.secure_servers import MECHANISM, Grant, Servers
from tests.support.waiting import WAIT_S, until

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "SECURITY.md"
PLANTED = "Pl4nted"
ROWS = 600
PEAK = 90_817
_number = itertools.count()

CONFIG = """
pipeline = "{pipeline}"

[kafka.options]
"security.protocol" = "SASL_SSL"
"sasl.mechanism" = "{mechanism}"

[source]
topic = "{topic}"

[sink]
payload_fields = ["shop", "amount", "card"]
redact = ["amount", "$key"]
rejects_payload = false

[record]
key = "card"
timestamp = "ts"
timestamp_format = "ms"

[window]
rows = 4

[features]
event = []

[features.numeric]
amount = ["log1p", "zscore"]

[train]
auto = false
epochs = 1
min_events = 256

[server]
port = {port}
"""


def password(user: str) -> str:
    """With all that has to be encoded in a URL."""
    return f"{PLANTED}-{user}/:@%?#&"


def wait(seen: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    """Until it is seen, while `run` lives."""

    def done() -> bool:
        assert run.poll() is None, run.communicate()[0]
        return seen()

    until(done)


def grants(command: str, pipeline: str, topic: str) -> list[Grant]:
    """The rights that the manual lists for a command."""
    found = []
    for line in MANUAL.read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"\| `(\w+)` \| ([\w ]+) \| (literal|prefixed) \| `(.+?)` \| ([\w, ]+) \|", line)
        if row and row[1] == command:
            name = row[4].replace("<pipeline>", pipeline).replace("<source.topic>", topic)
            found.append(Grant(row[2], row[3], name, tuple(row[5].split(", "))))
    return found


def redis_rule(pipeline: str) -> str:
    """What the manual says after the password."""
    text = re.search(r"^ACL SETUSER payments on >PASSWORD (.+?)^```", MANUAL.read_text(encoding="utf-8"), re.M | re.S)
    assert text is not None
    return " ".join(text[1].split()).replace("<pipeline>", pipeline)


@dataclass(frozen=True)
class Identity:
    """Who the program says it is, and whom it believes."""

    brokers: str
    kafka_user: str
    kafka_password: str
    kafka_authority: Path
    redis_url: str

    @property
    def environ(self) -> dict[str, str]:
        options = "STREAM_AD__KAFKA__OPTIONS__"
        return {
            "STREAM_AD__KAFKA__BROKERS": self.brokers,
            f"{options}SASL_USERNAME": self.kafka_user,
            f"{options}SASL_PASSWORD": self.kafka_password,
            f"{options}SSL_CA_LOCATION": str(self.kafka_authority),
            "STREAM_AD__REDIS__URL": self.redis_url,
        }


class Secured:
    """`stream-ad` with the configuration of one pipeline, as whoever is asked for."""

    def __init__(self, servers: Servers, pipeline: str, folder: Path, port: int = 0) -> None:
        self.servers, self.pipeline, self.folder = servers, pipeline, folder
        self.topic = f"in-{pipeline}"
        self.config = folder / "stream_ad.toml"
        self.listen(port)
        self.servers.redis.allow(pipeline, password("redis"), redis_rule(pipeline))

    def listen(self, port: int) -> None:
        text = CONFIG.format(pipeline=self.pipeline, topic=self.topic, mechanism=MECHANISM, port=port)
        self.config.write_text(text)

    def create_topic(self) -> None:
        admin = self.servers.kafka.admin
        admin.create_topics([NewTopic(self.topic, 1)])[self.topic].result(30)

    def identity(self, rights: Iterable[Grant] = ()) -> Identity:
        """A new user of Kafka with these rights, and the pipeline's user of Redis."""
        user = f"{self.pipeline}-{next(_number)}"
        self.servers.kafka.allow(user, password(user), rights)
        url = self.servers.redis.url(self.pipeline, password("redis"))
        return Identity(self.servers.kafka.brokers, user, password(user), self.servers.authority.certificate, url)

    def of(self, command: str) -> Identity:
        """With the rights of the manual."""
        return self.identity(grants(command, self.pipeline, self.topic))

    def without(self, resource: str, name: str, operation: str) -> Identity:
        """With those of `run`, less one."""
        rights = [
            replace(grant, operations=tuple(kind for kind in grant.operations if kind != operation))
            if (grant.resource, grant.name) == (resource, name)
            else grant
            for grant in grants("run", self.pipeline, self.topic)
        ]
        assert rights != grants("run", self.pipeline, self.topic), "there is no such right to be taken away"
        return self.identity(rights)

    def start(self, identity: Identity, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "stream_ad", *arguments, "--config", str(self.config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **identity.environ},
            start_new_session=True,
        )

    def __call__(self, identity: Identity, *arguments: str, code: int = 0) -> str:
        """What the program says; it must end with `code`, without a stack trace and without a secret."""
        process = self.start(identity, *arguments)
        try:
            said, _ = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
        assert process.returncode == code, f"{arguments} ended with {process.returncode}:\n{said}"
        assert PLANTED not in said
        assert "Traceback" not in said
        return said

    def write_rows(self, path: Path) -> Path:
        """An ordinary stream with a peak at its end, and one record that cannot be read. Only `shop` may be seen."""
        rows: list[dict[str, object]] = [
            {
                "card": f"{PLANTED}-card-{i % 5}",
                "ts": 1_700_000_000_000 + i * 1000,
                "amount": 20 + i % 7,
                "shop": "corner",
                "note": f"{PLANTED} note",
            }
            for i in range(ROWS)
        ]
        rows[-3]["amount"] = PEAK
        rows[7]["amount"] = f"{PLANTED} amount"
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        return path
