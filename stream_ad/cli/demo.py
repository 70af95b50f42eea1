"""`stream-ad demo`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stream_ad.cli.app import JsonOption
from stream_ad.errors import ConfigError


class ScenarioName(StrEnum):
    transactions = "transactions"
    network = "network"
    sensors = "sensors"


def demo(
    scenario: Annotated[
        ScenarioName, typer.Option(help="the stream to simulate: card payments, network flows or machine sensors")
    ] = ScenarioName.transactions,
    seconds: Annotated[
        float | None,
        typer.Option(min=1, help="seconds of live stream; default: until a minute after the trained model took over"),
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="go on until Ctrl-C")] = False,
    report: Annotated[Path, typer.Option(help="where to write the HTML report")] = Path("stream_ad_demo.html"),
    plain: Annotated[bool, typer.Option("--plain", help="print lines instead of a live screen")] = False,
    seed: Annotated[int, typer.Option(help="the same seed simulates the same stream")] = 0,
    json: JsonOption = False,
) -> None:
    """Watch it work on a simulated, labelled stream: nothing to install, nothing to set up.

    Starts an embedded store (a real Valkey) and an embedded broker (librdkafka's mock cluster: the Kafka
    protocol over TCP, without transactions), simulates a stream with injected anomalies, and runs the real
    pipeline on it, configured by `stream-ad init --preset`: a statistical scorer from the first event, then the default
    ensemble, trained from the stream itself and swapped in while events flow.

    At the end, and on Ctrl-C, it prints precision, recall and latency against the injected anomalies, and writes a
    report with plots.
    """
    if forever and seconds is not None:
        raise ConfigError("--forever and --seconds exclude each other; give one of them")
    if not report.resolve().parent.is_dir():
        raise ConfigError(f"--report: {report.resolve().parent} is not a directory; create it or name another")
    from stream_ad.demo.demo import Options, run

    raise typer.Exit(run(Options(scenario.value, seconds, forever, report, plain, json, seed)))
