"""`stream-ad train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, load
from stream_ad.cli.output import answer, progress


def train(
    config: ConfigOption = DEFAULT_CONFIG,
    input: Annotated[
        str | None,
        typer.Option("--input", "-i", help="a CSV, JSONL or Parquet file, or a topic (source.topic)"),
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="record time at which to begin (topics)")] = None,
    last: Annotated[str | None, typer.Option("--to", help="record time at which to end (topics)")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="let running workers use it at once")] = False,
    report: Annotated[Path | None, typer.Option(help="write a page with plots here (HTML)")] = None,
    output: Annotated[Path | None, typer.Option(help="write the bundle here, too (safetensors)")] = None,
    json: JsonOption = False,
) -> None:
    """Builds a model from a log and registers it.

    The last part of the time range is held back: it decides when to stop and calibrates
    the scores. Labels are never read.
    """
    from stream_ad.cli.inputs import bounded
    from stream_ad.io.atomic_file import whole
    from stream_ad.io.redis.stores import RedisModelStore
    from stream_ad.jobs import train as training
    from stream_ad.score.report import write_report

    found = load(config)
    name = input or found.source.topic
    store = RedisModelStore(found.redis)
    store.wish()  # a registry that is away is better known before an hour of training than after
    source = bounded(found, name, first, last, 1)
    with progress("train") as bar:
        task = bar.add_task("", total=None, said="")

        def learning(epoch: int, train_loss: float, held_loss: float) -> None:
            said = f"epoch {epoch + 1}, loss {train_loss:.4f}, held back {held_loss:.4f}"
            bar.update(task, said=said)

        bundle = training.fit(
            found, source, name, lambda events: bar.update(task, said=f"{events:,} events read"), learning
        )
    if report is not None:
        with whole(report) as file:
            write_report(bundle, file)
    if output is not None:
        with whole(output) as file:
            file.write_bytes(bundle.to_bytes())
    info = training.register(store, bundle, promote)
    figures = ", ".join(f"{key} {value:.4g}" for key, value in info.metrics.items())
    state = "wanted now" if promote else f"`stream-ad models promote {info.version}` lets it judge"
    answer(
        {
            "version": info.version,
            "kind": info.kind,
            "metrics": dict(info.metrics),
            "promoted": promote,
            "report": str(report) if report else None,
        },
        json,
        f"{info.version} ({info.kind}): {figures}\n{state}",
    )
