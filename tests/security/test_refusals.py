"""A wrong identity or a missing right ends with an error that names the key to change. Nothing hangs or leaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_ad.config import Kafka
from stream_ad.errors import ConnectionFailed
from stream_ad.io.kafka.admin import committed_offsets
from tests.support.secure_servers import Grant
from tests.support.secured import ROWS, Identity, Secured, password, redis_rule, wait
from tests.support.waiting import WAIT_S


def test_kafka_does_not_know_us(secured: Secured) -> None:
    me = secured.of("alerts")
    for stranger in (replace(me, kafka_password=password("wrong")), replace(me, kafka_user="ghost")):
        said = secured(stranger, "alerts", code=3)
        assert "error: kafka.options: " in said
        assert "sasl." in said
        assert "invalid credentials" in said


def test_we_do_not_believe_kafka(secured: Secured) -> None:
    me = secured.of("alerts")
    said = secured(replace(me, brokers=secured.servers.kafka.brokers_expired), "alerts", code=3)
    assert "error: kafka.options.ssl.ca.location: " in said
    assert "certificate has expired" in said
    said = secured(replace(me, kafka_authority=secured.servers.stranger.certificate), "alerts", code=3)
    assert "error: kafka.options.ssl.ca.location: " in said
    assert "self-signed certificate" in said
    said = secured(replace(me, kafka_authority=secured.folder / "none.pem"), "alerts", code=2)
    assert "error: kafka.options.ssl.ca.location: " in said


def test_a_topic_that_we_may_not_see_is_not_said_to_be_missing(secured: Secured) -> None:
    secured.create_topic()
    said = secured(secured.identity(), "train", "--input", secured.topic, code=3)
    assert f"error: --input: not allowed to use topic '{secured.topic}'" in said


@pytest.mark.parametrize(
    ("resource", "names", "operation", "said"),
    [
        ("topic", "in-{}", "read", "source.topic: not allowed to use topic 'in-{}'"),
        ("topic", "{}.", "create", "sink.create_topics: topic '{}.alerts' cannot be created"),
        ("topic", "{}.", "write", "sink.alerts: not allowed to write to topic '{}.alerts'"),
        ("topic", "{}.", "read", "pipeline: not allowed to read from topic '{}.models'"),
        ("group", "{}", "read", "pipeline: not allowed to use this consumer group"),
        ("transactional id", "{}-", "write", "sink.delivery: not allowed to write in transactions"),
    ],
)
def test_a_right_is_missing(secured: Secured, resource: str, names: str, operation: str, said: str) -> None:
    secured.create_topic()
    me = secured.without(resource, names.format(secured.pipeline), operation)
    assert said.replace("{}", secured.pipeline) in secured(me, "run", "--until-end", code=3)


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (Grant("topic", "literal", "in-{}", ("read",)), "source.topic"),
        (Grant("topic", "prefixed", "{}.", ("write",)), "sink: not allowed to use every one of in-{}, {}.alerts"),
        (Grant("group", "literal", "{}", ("read",)), "pipeline: not allowed to use this consumer group"),
        (Grant("transactional id", "prefixed", "{}-", ("write",)), "sink.delivery: not allowed to write in transact"),
    ],
    ids=lambda value: value.resource if isinstance(value, Grant) else None,
)
def test_a_right_is_taken_away_while_we_work(secured: Secured, right: Grant, said: str) -> None:
    rows = secured.write_rows(secured.folder / "in.jsonl")
    me, feeder = secured.of("run"), secured.of("produce")
    secured(feeder, "produce", "--input", str(rows))
    run = secured.start(me, "run")
    try:
        wait(lambda: committed(secured) == ROWS, run)
        secured.servers.kafka.withdraw(me.kafka_user, replace(right, name=right.name.format(secured.pipeline)))
        secured(feeder, "produce", "--input", str(rows))
        out, _ = run.communicate(timeout=WAIT_S)
    finally:
        run.kill()
    assert run.returncode == 3, out
    assert said.replace("{}", secured.pipeline) in out
    assert "Traceback" not in out


def committed(secured: Secured) -> int | None:
    """None also while the group has no coordinator yet."""
    kafka = Kafka(brokers=secured.servers.kafka.inner)
    try:
        return committed_offsets(kafka, secured.pipeline, secured.topic)[0]
    except ConnectionFailed:
        return None


def redis_as(secured: Secured, url: str) -> Identity:
    return replace(secured.identity(), redis_url=url)


def test_redis_does_not_know_us(secured: Secured) -> None:
    redis = secured.servers.redis
    for user, word in ((secured.pipeline, "wrong"), ("ghost", "redis")):
        said = secured(redis_as(secured, redis.url(user, password(word))), "models", "list", code=3)
        assert "error: redis.url: rediss://127.0.0.1:" in said
        assert "refuses user or password" in said


def test_redis_does_not_let_us(secured: Secured) -> None:
    other = f"{secured.pipeline}-other"
    for rule in (redis_rule("another"), redis_rule(secured.pipeline).replace(" +lrange", "")):
        secured.servers.redis.allow(other, password("other"), rule)
        said = secured(redis_as(secured, secured.servers.redis.url(other, password("other"))), "models", "list", code=3)
        assert "error: redis.url: rediss://127.0.0.1:" in said
        assert "does not permit this user" in said
        assert "SECURITY.md" in said


def test_we_do_not_believe_redis(secured: Secured) -> None:
    said = secured(
        redis_as(secured, secured.servers.redis_expired.url("admin", "administrator")), "models", "list", code=3
    )
    assert "error: redis.url: rediss://127.0.0.1:" in said
    assert "certificate has expired" in said
    url = secured.servers.redis.url(secured.pipeline, password("redis"))
    stranger = url.replace(str(secured.servers.authority.certificate), str(secured.servers.stranger.certificate))
    said = secured(redis_as(secured, stranger), "models", "list", code=3)
    assert "its certificate is not accepted: self-signed certificate" in said
    assert "ssl_ca_certs" in said


def test_a_run_does_not_begin_where_it_could_save_nothing(secured: Secured) -> None:
    """An absent Redis is waited for while judging goes on; one that refuses us is not."""
    secured.create_topic()
    other = f"{secured.pipeline}-reader"
    secured.servers.redis.allow(other, password("other"), redis_rule(secured.pipeline).replace(" +evalsha", ""))
    url = secured.servers.redis.url(other, password("other"))
    me = replace(secured.of("run"), redis_url=url)
    assert "redis.url: " in secured(me, "run", "--until-end", code=3)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:Pl4nted/x@127.0.0.1/0",
        "redis://:12/Pl4nted@127.0.0.1/0",
        "redis://:Pl4nted#x@127.0.0.1/0",
        "redis://:Pl4nted?x@127.0.0.1/0",
        "redis://:Pl4nted[@127.0.0.1/0",
        "redis://user:Pl4nted@127.0.0.1:port/0",
        "http://user:Pl4nted@127.0.0.1/0",
        "redis://user:Pl4nted@127.0.0.1/0?ssl_ca_certs=ca.pem",
        "redis://127.0.0.1/0?password=Pl4nted&socket_timeout=soon",
    ],
)
def test_a_url_that_is_wrong_is_not_repeated(secured: Secured, url: str) -> None:
    from stream_ad.config import Redis
    from stream_ad.errors import ConfigError
    from stream_ad.io.redis.client import connect

    with pytest.raises(ConfigError, match=r"redis\.url: not understood") as caught:
        connect(Redis(url=url, allow_plaintext=True))
    assert "Pl4nted" not in str(caught.value)
    assert caught.value.__suppress_context__
