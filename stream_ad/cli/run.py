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
    path: ConfigOption = DEFAULT_CONFIG,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes in the consumer group")] = 1,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="end once all events that are in the topic now are judged and committed")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Runs the pipeline: judges the topic until it is stopped.

    Ctrl-C or SIGTERM stops it in order, within `run.stop`: it judges, commits and saves all that it has read.
    It restarts workers that die. Each worker serves metrics and health (`[server]`). It logs to standard error,
    and prints to standard output how it ended.
    """
    from stream_ad.service.supervisor import Supervisor, fork_server
    from stream_ad.service.worker import setup_logging

    config = load(path)
    signal.signal(signal.SIGTERM, _at_once)
    fork_server()  # loads what workers need while this process prepares the topics

    from stream_ad.config.features import FeatureSpec
    from stream_ad.io.kafka import admin
    from stream_ad.io.redis import stores

    FeatureSpec.of(config)
    setup_logging("run")
    for unused in config.unused:
        logging.getLogger(__name__).warning("%s", unused)
    admin.create_outputs(config)
    try:
        stores.reach(config.redis)
    except NotAllowed:
        raise
    except ConnectionFailed as error:
        logging.getLogger(__name__).warning("starts without its snapshots and models for now: %s", error)
    until = admin.end_offsets(config.kafka, config.source.topic) if until_end else None
    code = Supervisor(config, workers, until).run()
    committed = {}
    words = {0: "stopped", 130: "stopped", 8: "stopped before all was committed; the next start judges it again"}.get(
        code, f"ended with exit code {code}"
    )
    if until is not None and code == 0:
        committed = admin.committed_offsets(config.kafka, config.pipeline, config.source.topic)
        words = (
            f"all {sum(until.values()):,} offsets that {config.source.topic} had at the start are judged and committed"
        )
    offsets = {str(partition): offset for partition, offset in committed.items()}
    answer(
        {"pipeline": config.pipeline, "workers": workers, "exit_code": code, "committed": offsets},
        json,
        words,
    )
    raise typer.Exit(code)


def _at_once(*_: object) -> None:
    """Ends the program: before the first worker starts, there is nothing to finish."""
    raise typer.Exit(0)
