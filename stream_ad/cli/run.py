"""`stream-ad run`."""

from __future__ import annotations

from typing import Annotated

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, load


def run(
    config: ConfigOption = DEFAULT_CONFIG,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes in the consumer group")] = 1,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="end once everything that is in the topic now is judged and committed")
    ] = False,
) -> None:
    """Judges the topic: the pipeline, until it is stopped.

    Ctrl-C or SIGTERM stops in order: what is read is judged, committed and saved. Dead
    workers are started again. Metrics and health are served per worker (`[server]`).
    """
    from stream_ad.supervisor import Supervisor, fork_server
    from stream_ad.worker import setup_logging

    found = load(config)
    fork_server()  # loads what workers need while we see to the topics

    from stream_ad.io import kafka_admin
    from stream_ad.spec import FeatureSpec

    FeatureSpec.of(found)
    setup_logging("run")
    kafka_admin.create_outputs(found)
    until = kafka_admin.end_offsets(found.kafka, found.source.topic) if until_end else None
    raise typer.Exit(Supervisor(found, workers, until).run())
