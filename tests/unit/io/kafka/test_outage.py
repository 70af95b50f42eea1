"""However many lines clients write while brokers are away, the log tells the beginning, each minute, and the end."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError

from stream_ad.io.kafka.outage import EVERY_S, QUIET_S, Outage, extra
from tests.support.clock import Clock

FAIL = "FAIL [stream_ad#consumer-8] [thrd:b:9092/bootstrap]: b:9092/bootstrap: Connect to b:9092 failed: refused"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> logging.Logger:
    made = logging.Logger("outage", logging.DEBUG)
    made.parent = logging.getLogger()
    made.addFilter(Outage(made, clock))
    return made


def outage(log: logging.Logger) -> Outage:
    (found,) = log.filters
    assert isinstance(found, Outage)
    return found


def test_an_outage_has_a_beginning_a_line_a_minute_and_an_end(
    log: logging.Logger, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):  # and so has the next one
        for _ in range(1500):
            log.error(FAIL)
            log.warning("1/1 brokers are down", extra=extra(KafkaError(KafkaError._ALL_BROKERS_DOWN)))
            outage(log).answered()
            clock.pass_by(0.1)
        for _ in range(20):
            outage(log).answered()
            clock.pass_by(1.0)
    said = [record.getMessage() for record in caplog.records]
    begin, minute, two, end = said[:4]
    assert begin == f"no connection to a broker: {FAIL}"
    assert minute.startswith(f"no connection to a broker for {EVERY_S:.0f} s: ")
    assert two.startswith(f"no connection to a broker for {2 * EVERY_S:.0f} s: ")
    assert end == "the brokers answer again; the last connection that failed was 150 s after the first"
    assert len(said) == 8


def test_no_end_is_said_while_a_client_still_complains(
    log: logging.Logger, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    log.error(FAIL)
    clock.pass_by(QUIET_S - 1)
    outage(log).answered()
    assert len(caplog.records) == 1
    clock.pass_by(1)
    outage(log).answered()
    outage(log).answered()
    assert len(caplog.records) == 2


def test_other_lines_pass(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        log.warning("the transaction could not be aborted: b")
        log.warning("offset out of range", extra=extra(KafkaError(KafkaError.OFFSET_OUT_OF_RANGE)))
    assert len(caplog.records) == 6
