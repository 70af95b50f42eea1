"""`stream-ad run`."""

from __future__ import annotations

import logging
import signal
from typing import Annotated

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, load
from stream_ad.cli.output import answer
from stream_ad.errors import ConnectionFailed, NotAllowed


def run(
    config: ConfigOption = DEFAULT_CONFIG,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes in the consumer group")] = 1,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="end once everything that is in the topic now is judged and committed")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Judges the topic: the pipeline, until it is stopped.

    Ctrl-C or SIGTERM stops in order, within `run.stop`: what is read is judged, committed and saved.
    Dead workers are started again. Metrics and health are served per worker (`[server]`). What happens
    is told on standard error; how it ended, on standard output.
    """
    from stream_ad.service.supervisor import Supervisor, fork_server
    from stream_ad.service.worker import setup_logging

    found = load(config)
    signal.signal(signal.SIGTERM, _at_once)
    fork_server()  # loads what workers need while we see to the topics

    from stream_ad.config.features import FeatureSpec
    from stream_ad.io.kafka import admin as kafka_admin
    from stream_ad.io.redis import stores as redis

    FeatureSpec.of(found)
    setup_logging("run")
    for unused in found.unused:
        logging.getLogger(__name__).warning("%s", unused)
    kafka_admin.create_outputs(found)
    try:
        redis.reach(found.redis)
    except NotAllowed:
        raise
    except ConnectionFailed as error:
        logging.getLogger(__name__).warning("goes on without its snapshots and models for now: %s", error)
    until = kafka_admin.end_offsets(found.kafka, found.source.topic) if until_end else None
    code = Supervisor(found, workers, until).run()
    committed = {}
    words = {0: "stopped", 130: "stopped", 8: "stopped before all was committed; the next start judges it again"}.get(
        code, f"ended with exit code {code}"
    )
    if until is not None and code == 0:
        committed = kafka_admin.committed_offsets(found.kafka, found.pipeline, found.source.topic)
        words = f"all {sum(until.values()):,} offsets of {found.source.topic} that were there are judged and committed"
    offsets = {str(partition): offset for partition, offset in committed.items()}
    answer(
        {"pipeline": found.pipeline, "workers": workers, "exit_code": code, "committed": offsets},
        json,
        words,
    )
    raise typer.Exit(code)


def _at_once(*_: object) -> None:
    """Before there is a worker nothing is left undone."""
    raise typer.Exit(0)
