"""Lost connections in the log: one line when the first is lost, one a minute, and one when the brokers answer again."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaError

EVERY_S = 60.0
QUIET_S = 15.0  # without a line; clients that look for a broker in vain log at least every ten seconds
LOST = {"lost": True}  # the `extra` of our own lines on lost connections
_CONNECTION = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}
_OF_CLIENT = re.compile(r"(FAIL|REQTMOUT|ERROR) \[")  # librdkafka's own lines on a connection


def extra(error: KafkaError) -> dict[str, bool] | None:
    """The `extra` of a line on the error."""
    return LOST if error.code() in _CONNECTION else None


class Outage(logging.Filter):
    """A filter of the log that all Kafka clients of the process share; clients write thousands of lines a minute."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._log, self._clock, self._lock = log, clock, threading.Lock()
        self._begun_s: float | None = None
        self._said_s = self._latest_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if not (getattr(record, "lost", False) or _OF_CLIENT.match(text)):
            return True
        if record.levelno < logging.WARNING:
            return False  # a connection that was closed, and that the client opens again
        with self._lock:
            now = self._latest_s = self._clock()
            since = ""
            if self._begun_s is None:
                self._begun_s = now
            elif now - self._said_s < EVERY_S:
                return False
            else:
                since = f" for {now - self._begun_s:.0f} s"
            self._said_s = now
        record.msg, record.args = f"no connection to a broker{since}: {text}", ()
        return True

    def answered(self) -> None:
        """The brokers answer: says so once no client has complained for `QUIET_S`."""
        with self._lock:
            if self._begun_s is None or self._clock() - self._latest_s < QUIET_S:
                return
            lasted, self._begun_s = self._latest_s - self._begun_s, None
        self._log.info("the brokers answer again; the last connection that failed was %.0f s after the first", lasted)
