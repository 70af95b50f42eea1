"""`stream-ad replay`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, load
from stream_ad.cli.output import answer, progress, rejects_and_late
from stream_ad.errors import InputError

if TYPE_CHECKING:
    from stream_ad.jobs.backtest import Result


def replay(
    input: Annotated[str, typer.Option("--input", "-i", help="a CSV, JSONL or Parquet file, or a topic")],
    path: ConfigOption = DEFAULT_CONFIG,
    first: Annotated[str | None, typer.Option("--from", help="begin at this record time (topics only)")] = None,
    last: Annotated[str | None, typer.Option("--to", help="end at this record time (topics only)")] = None,
    alerts: Annotated[Path | None, typer.Option(help="write alerts here, one JSON object per line")] = None,
    rejects: Annotated[Path | None, typer.Option(help="write rejects here, one JSON object per line")] = None,
    scores: Annotated[Path | None, typer.Option(help="write one row per event here (CSV)")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="a version, or `statistical`; default: the models that the run used, else the wanted one"),
    ] = None,
    as_run: Annotated[
        bool,
        typer.Option(
            "--as-run", help="swap models where the run did, from `<pipeline>.models`; always so for source.topic"
        ),
    ] = False,
    partitions: Annotated[
        int, typer.Option(min=1, help="number of partitions over which `produce` would spread the file's keys")
    ] = 1,
    json: JsonOption = False,
) -> None:
    """Judges a file or a range of a topic again, without touching offsets or state.

    The same input, configuration and models give the same alerts, bit for bit on the CPU.
    """
    from stream_ad.cli.inputs import bounded
    from stream_ad.jobs.backtest import replayed

    config = load(path)
    source = bounded(config, input, first, last, partitions)
    begun = time.monotonic()
    with progress("replay") as bar:
        task = bar.add_task("", total=None, status="")
        result = replayed(
            config,
            source,
            alerts,
            rejects,
            scores,
            model,
            swaps=model is None and (as_run or input == config.source.topic),
            progress=lambda events: bar.update(task, status=f"{events:,} events"),
        )
    seconds = time.monotonic() - begun
    answer({**_facts(result), "seconds": seconds}, json, _words(result, seconds))
    rejected = result.codes.total()
    if not result.events and rejected:
        raise InputError(
            f"{input}: nothing was judged: all {rejected:,} records were rejected, the first for {result.reason!r}; "
            "see record.*"
        )


def _facts(result: Result) -> dict[str, Any]:
    return {
        "events": result.events,
        "flags": result.flags,
        "alerts": result.alerts,
        "rejects": result.codes.total(),
        "reject_codes": dict(result.codes),
        "late": result.late,
        "absent": result.tally.fields.never(),
        "models": result.versions,
    }


def _words(result: Result, seconds: float) -> str:
    first = (
        f"{result.events:,} events in {seconds:.1f} s, {result.flags:,} anomalous, {result.alerts:,} alerts, "
        f"{rejects_and_late(result.codes.total(), result.late, result.codes)}, "
        f"model {', '.join(result.versions) or 'none'}"
    )
    absent = (f"{key}: in none of {result.events:,} events; is the name right?" for key in result.tally.fields.never())
    return "\n".join((first, *absent))
