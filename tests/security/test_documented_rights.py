"""Every command does its work over TLS with the rights that SECURITY.md lists, and leaves no secret anywhere."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import orjson

from stream_ad.config import Kafka, Redis
from stream_ad.errors import ConnectionFailed
from stream_ad.io.kafka.admin import reach
from stream_ad.io.redis.stores import RedisModelStore
from stream_ad.protocols import BUILT_IN
from stream_ad.score.bundle import Bundle
from tests.support.reading import read_committed
from tests.support.secure_servers import Servers
from tests.support.secured import PEAK, PLANTED, ROWS, Secured, password, wait
from tests.support.servers import free_port
from tests.support.waiting import WAIT_S


def test_from_the_first_record_to_models_and_alerts(secured: Secured) -> None:
    port = free_port()
    secured.listen(port)
    rows = secured.write_rows(secured.folder / "in.jsonl")
    secured(secured.of("produce"), "produce", "--input", str(rows))
    assert "✗" not in secured(secured.of("check"), "check")
    report, bundle = secured.folder / "report.html", secured.folder / "model.safetensors"
    secured(secured.of("train"), "train", "--promote", "--report", str(report), "--output", str(bundle))
    version = judged(secured, port)
    told = secured(secured.of("alerts"), "alerts", "--json", "--key", f"{PLANTED}-card-{(ROWS - 3) % 5}")
    shown = [json.loads(line) for line in told.splitlines()]
    assert {alert["model"] for alert in shown} == {version}
    assert {alert["key"][:7] for alert in shown} == {"sha256:"}
    assert shown[0]["payload"] == {"shop": "corner", "amount": "***", "card": "***"}
    assert version in secured(secured.of("replay"), "replay", "--input", secured.topic)
    nobody = secured.of("models")
    assert version in secured(nobody, "models", "list")
    store = RedisModelStore(Redis(url=nobody.redis_url, prefix=f"stream_ad:{secured.pipeline}"))
    store.put(Bundle.from_bytes(bundle.read_bytes(), None).info(), bundle.read_bytes())
    store.shadow(version)
    assert store.rollback() == BUILT_IN
    store.promote(version)
    assert [action for _, action, _ in store.history()] == ["promote", "shadow", "rollback", "promote"]
    for topic in ("alerts", "rejects", "models"):
        records = read_committed(secured.servers.kafka.inner, f"{secured.pipeline}.{topic}")
        assert records
        for row in records:
            everything = (row.key() or b"") + (row.value() or b"") + repr(row.headers()).encode()
            assert PLANTED.encode() not in everything
            assert str(PEAK).encode() not in everything
    for path in (report, bundle, secured.config):
        assert PLANTED.encode() not in path.read_bytes()


def judged(secured: Secured, port: int) -> str:
    """Runs until all is judged, looks at the process from outside while it lives, and answers the model's version."""
    run = secured.start(secured.of("run"), "run")
    try:
        wait(lambda: f"stream_ad_events_total {ROWS - 1}.0" in fetched(port, "/metrics"), run)
        status = orjson.loads(fetched(port, "/readyz"))
        assert status["ready"]
        assert status["store"]
        (version,) = status["models"]
        assert listening(port) == {"127.0.0.1"}
        titles = [title for title in group_titles(run.pid) if title]
        assert len(titles) >= 3, "the supervisor, the server that forks, a worker"
        for seen in (fetched(port, "/metrics"), fetched(port, "/healthz"), repr(status), *titles):
            assert PLANTED not in seen
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=WAIT_S)
        assert run.returncode == 0, said
        assert PLANTED not in said
        return str(version)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            print(run.communicate()[0])


def fetched(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:  # not there yet, or not ready
        return ""


def listening(port: int) -> set[str]:
    """The addresses on which somebody waits for connections to this port."""
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            address, number = line.split()[1].split(":")
            if int(number, 16) == port and line.split()[3] == "0A":
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


def group_titles(group: int) -> list[str]:
    """Command lines of all processes of the group, as anybody on the machine may see them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


def test_librdkafkas_own_log_is_kept_from_secrets(servers: Servers, caplog, secured: Secured) -> None:
    # at its most talkative, which users are asked for when they report a bug
    me = secured.of("produce")
    options = {
        "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": me.kafka_user,
        "ssl.ca.location": str(me.kafka_authority), "debug": "all", "log_level": 7,
    }  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        for word in (me.kafka_password, password("wrong")):
            kafka = Kafka(brokers=me.brokers, options={**options, "sasl.password": word})
            with contextlib.suppress(ConnectionFailed):
                reach(kafka).poll(0.2)
    assert "SCRAM" in caplog.text
    assert PLANTED not in caplog.text
