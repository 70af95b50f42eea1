"""Settings, their checks, and error texts that all Kafka clients of the project share."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message

from stream_ad.config import Kafka
from stream_ad.config.environment import is_secret
from stream_ad.errors import ConfigError, ConnectionFailed, InputError, StreamAdError, Unreachable
from stream_ad.io.kafka.outage import Outage, extra

T = TypeVar("T")

LOG = logging.getLogger("stream_ad.kafka")
LOG.addHandler(logging.NullHandler())  # without it, a program that sets up no log gets librdkafka's lines on stderr
# consumers and producers share [kafka.options]; each warns of the options that only the other one knows
LOG.addFilter(lambda record: " property and will be ignored by this " not in record.getMessage())

OUTAGE = Outage(LOG)
LOG.addFilter(OUTAGE)

# The client unpacks a zstd batch whose length is not stated into one buffer after the other, each three times as large,
# and gives up where the next would be larger than this: so it reads what unpacks to a third of it. A buffer takes
# memory only as far as it is filled. This is the highest; the default, 100 MB, stopped a partition for ever at 34 MB.
RECEIVED_BYTES = "receive.message.max.bytes"
READING = {RECEIVED_BYTES: 2**31 - 1}

ANSWER_S = 10.0  # a broker that has not answered by then counts as away

# options that the commit protocol sets itself, each with what the user can do instead
RESERVED = {
    "bootstrap.servers": "set kafka.brokers",
    "metadata.broker.list": "set kafka.brokers",
    "group.id": "it is the name under `pipeline`",
    "group.instance.id": "set kafka.static_membership",
    "group.protocol": "set kafka.group_protocol",
    "partition.assignment.strategy": "partitions are assigned cooperatively",
    "auto.offset.reset": "set source.start",
    "enable.auto.commit": "offsets are committed with the alerts",
    "enable.auto.offset.store": "offsets are committed with the alerts",
    "enable.partition.eof": "it is always on",
    "isolation.level": "only committed records are read",
    "transactional.id": "it is derived from `pipeline` and the worker",
    "enable.idempotence": "it is always on",
}
_PATHS = "sasl.oauthbearer.assertion."  # librdkafka's own options that end in .file

# no broker answers, or the one that answers is not ready yet: waiting helps
AWAY = {
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError._NOENT,  # the leader of a partition is unknown, as when the connection is lost during that request
}
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_UNREADABLE = {KafkaError._BAD_COMPRESSION, KafkaError.MSG_SIZE_TOO_LARGE}
_MISSING = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_EXCEPTION,
}


def settings(kafka: Kafka, defaults: Mapping[str, Any], required: Mapping[str, Any]) -> dict[str, Any]:
    """librdkafka settings: the user's override `defaults`, and `required` overrides both. Raises `ConfigError`."""
    merged: dict[str, Any] = {"client.id": "stream_ad", **defaults}
    for name, value in kafka.options.items():
        if name in RESERVED:
            raise ConfigError(f"kafka.options.{name}: cannot be set here; {RESERVED[name]}")
        if name.endswith(".file") and not name.startswith(_PATHS):
            merged[name.removesuffix(".file")] = _content(name, str(value))
        else:
            merged[name] = value
    return {**merged, "bootstrap.servers": kafka.brokers, **required}


def _content(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"kafka.options.{name}: {path} cannot be read: {error}") from None


class Losses(logging.Logger):
    """The log of one client. `lost` says whether the client has lost a connection, which no callback reports.

    Of equal lines in its log the client leaves some out, but never lines on the state of a connection
    (`debug = broker`). The first connection, to a bootstrap address, does not count: the client itself closes it as
    soon as it knows the brokers by name.
    """

    def __init__(self) -> None:
        super().__init__(LOG.name, logging.DEBUG)
        self.lost = False

    def handle(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "changed state UP -> " in text and "/bootstrap: " not in text:
            self.lost = True
        if LOG.isEnabledFor(record.levelno):
            LOG.handle(record)


def client(factory: Callable[..., T], values: Mapping[str, Any], log: logging.Logger = LOG) -> T:
    """A Consumer, Producer or AdminClient that logs to `log`. Raises `ConfigError` naming the option."""
    try:
        return factory(dict(values), logger=log)
    except (KafkaException, TypeError, ValueError) as error:
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        named = next((name for name in re.findall(r"[a-z][\w.]+\w", text) if name in values), None)
        for name, value in values.items():
            if is_secret(name):
                text = text.replace(str(value), "***")
        key = f"kafka.options.{named}" if named else "kafka.options"
        raise ConfigError(f"{key}: {text}") from None


def failure(error: KafkaError, kafka: Kafka, topic_key: str = "source.topic", topic: str = "") -> StreamAdError:
    """Translates the error for the user: what is wrong, which key to change, what to do."""
    code, text = error.code(), error.str()
    if code in _MISSING:
        return InputError(f"{topic_key}: no topic {topic!r} at {kafka.brokers} ({text}); create it or name another")
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return ConnectionFailed(f"{topic_key}: not allowed to use topic {topic!r}; grant it to this user ({text})")
    # a fatal error has the code _FATAL, and names its cause in its text only
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED or (code == KafkaError._FATAL and "Group authorization" in text):
        return ConnectionFailed(f"pipeline: not allowed to use this consumer group; grant it to this user ({text})")
    if code == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return ConnectionFailed(
            "sink.delivery: not allowed to write in transactions; grant the user the transactional ids that start "
            f'with the pipeline\'s name, or set delivery = "at_least_once" ({text})'
        )
    if code in _REFUSED:
        return ConnectionFailed(f"kafka.options: {kafka.brokers} refuses us; check security.protocol, sasl.*: {text}")
    if code == KafkaError._FATAL and "not supported" in text:
        return unknown_protocol(kafka, text)
    if code == KafkaError._FATAL and "instance ID is still used" in text:
        return Unreachable(
            "kafka.static_membership: an earlier process is still a member under this worker's name; wait "
            f"until it leaves or its session ends ({text})"
        )
    if code == KafkaError.FENCED_INSTANCE_ID or (code == KafkaError._FATAL and "group.instance.id" in text):
        return ConnectionFailed(f"kafka.static_membership: another process works under this worker's name ({text})")
    error_type = Unreachable if error.retriable() or code in AWAY else ConnectionFailed
    return error_type(f"kafka.brokers: {kafka.brokers}: {text}")


def require_passing(message: Message, kafka: Kafka, topic_key: str, topic: str) -> KafkaError:
    """The error that a poll gave in the place of a record, where waiting helps. Raises `InputError` for a batch that
    cannot be read, and as `failure` for an error that stays."""
    error = message.error()
    assert error is not None
    if error.code() in _UNREADABLE:
        most = kafka.options.get(RECEIVED_BYTES, READING[RECEIVED_BYTES])
        raise InputError(
            f"{topic_key}: the batch at {topic}/{message.partition()}/{message.offset()} cannot be read: it is damaged "
            f'or unpacks to more than the {most} bytes of kafka.options."{RECEIVED_BYTES}" allow (zstd: a third of '
            f"them). Raise that, up to {READING[RECEIVED_BYTES]}, or go on without this batch: set the group's offset "
            f"behind it ({error.str()})"
        )
    if is_final(error):
        raise failure(error, kafka, topic_key, topic)
    return error


def unknown_protocol(kafka: Kafka, text: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"kafka.group_protocol: {kafka.brokers} does not know {kafka.group_protocol!r}, which came with Kafka 4.0; "
        f'set "classic" ({text})'
    )


def warn(error: KafkaError) -> None:
    """What a client reports beside its work."""
    LOG.warning("%s", error.str(), extra=extra(error))


def is_refused(error: KafkaError) -> bool:
    return error.code() in _REFUSED


def is_final(error: KafkaError) -> bool:
    """Whether the error stays however long one waits."""
    return bool(error.fatal()) or error.code() in _REFUSED or error.code() in _MISSING
