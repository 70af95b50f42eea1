"""`stream-ad run`."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, load
from stream_ad.cli.output import answer, rejects_and_late
from stream_ad.errors import ConnectionFailed, InputError, NotAllowed, Unfinished


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
    and prints to standard output how it ended, and what it has judged.
    """
    from stream_ad.service.supervisor import Supervisor, fork_server
    from stream_ad.service.worker import setup_logging

    config = load(path)
    signal.signal(signal.SIGTERM, _unfinished if until_end else _at_once)
    fork_server()  # loads what workers need while this process prepares the topics

    from stream_ad.config.features import FeatureSpec
    from stream_ad.io.kafka import admin
    from stream_ad.io.kafka.range import range_of
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
    start, until = range_of(config.kafka, config.source.topic) if until_end else ({}, None)
    supervisor = Supervisor(config, workers, until)
    code = supervisor.run()
    words = {0: "stopped", 130: "stopped", 8: "stopped before all was committed; the next start judges it again"}.get(
        code, f"ended with exit code {code}"
    )
    events, rejects, late = supervisor.totals()
    facts: dict[str, Any] = {"events": events, "rejects": rejects, "late": late}
    if until is not None and code in (0, 130):
        committed = admin.committed_offsets(config.kafka, config.pipeline, config.source.topic)
        facts["committed"] = {str(partition): offset for partition, offset in committed.items()}
        facts["left"] = _left(start, until, committed)
        code, words = _bounded(config.source.topic, sum(until.values()) - sum(start.values()), facts, code)
    words += f"; {events:,} events judged, {rejects_and_late(rejects, late)}"
    if code == InputError.exit_code:
        words += f"; nothing could be judged: topic {config.sink.rejects} holds the reasons, see record.*"
    answer({"pipeline": config.pipeline, "workers": workers, "exit_code": code, **facts}, json, words)
    raise typer.Exit(code)


def _left(start: Mapping[int, int], until: Mapping[int, int], committed: Mapping[int, int | None]) -> int:
    """Offsets below `until` that the group has not committed."""
    return sum(max(0, end - max(committed.get(part) or 0, start.get(part, 0))) for part, end in until.items())


def _bounded(topic: str, offsets: int, facts: Mapping[str, Any], code: int) -> tuple[int, str]:
    """The exit code and the words of a run that was to end with the `offsets` that the topic had at its start."""
    if facts["left"]:
        return code or Unfinished.exit_code, (
            f"stopped before the end: {facts['left']:,} of the {offsets:,} offsets that {topic} had at the start are "
            "not judged and committed yet; the next start goes on from there"
        )
    words = f"all {offsets:,} offsets that {topic} had at the start are judged and committed"
    return InputError.exit_code if facts["rejects"] and not facts["events"] and not code else code, words


def _at_once(*_: object) -> None:
    """Ends the program: before the first worker starts, there is nothing to finish."""
    raise typer.Exit(0)


def _unfinished(*_: object) -> None:
    """The same where the end of the topic was asked for."""
    raise Unfinished("stopped before the end of the topic: nothing was judged")
