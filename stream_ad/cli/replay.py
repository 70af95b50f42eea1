"""`stream-ad replay`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, load
from stream_ad.cli.output import answer, progress


def replay(
    input: Annotated[str, typer.Option("--input", "-i", help="a CSV, JSONL or Parquet file, or a topic")],
    config: ConfigOption = DEFAULT_CONFIG,
    first: Annotated[str | None, typer.Option("--from", help="record time at which to begin (topics)")] = None,
    last: Annotated[str | None, typer.Option("--to", help="record time at which to end (topics)")] = None,
    alerts: Annotated[Path | None, typer.Option(help="write alerts here, one JSON per line")] = None,
    rejects: Annotated[Path | None, typer.Option(help="write rejects here, one JSON per line")] = None,
    scores: Annotated[Path | None, typer.Option(help="write a row per event here (CSV)")] = None,
    model: Annotated[
        str | None, typer.Option(help="a version, or `statistical`; default: what the run used, else what is wanted")
    ] = None,
    as_run: Annotated[
        bool,
        typer.Option(
            "--as-run", help="swap models where the run did (reads `<pipeline>.models`); source.topic does so"
        ),
    ] = False,
    partitions: Annotated[int, typer.Option(min=1, help="place a file's keys as `produce` does")] = 1,
    json: JsonOption = False,
) -> None:
    """Judges a file or a range of a topic again, without touching offsets or state.

    Same input, same configuration, same models: the same alerts, bit for bit on CPU.
    """
    from stream_ad.cli.inputs import bounded
    from stream_ad.jobs.backtest import replayed

    found = load(config)
    source = bounded(found, input, first, last, partitions)
    begun = time.monotonic()
    with progress("replay") as bar:
        task = bar.add_task("", total=None, said="")
        result = replayed(
            found,
            source,
            alerts,
            rejects,
            scores,
            model,
            swaps=model is None and (as_run or input == found.source.topic),
            told=lambda events: bar.update(task, said=f"{events:,} events"),
        )
    seconds = time.monotonic() - begun
    words = (
        f"{result.events:,} events in {seconds:.1f} s, {result.flags:,} anomalous, "
        f"{result.alerts:,} alerts, {result.rejects:,} rejects, model {', '.join(result.versions) or 'none'}"
    )
    answer(
        {
            "events": result.events,
            "flags": result.flags,
            "alerts": result.alerts,
            "rejects": result.rejects,
            "models": result.versions,
            "seconds": seconds,
        },
        json,
        words,
    )
