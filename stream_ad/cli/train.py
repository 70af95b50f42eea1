"""`stream-ad train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, load
from stream_ad.cli.output import answer, check_writable, progress, rejects_and_late
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.config import Config
    from stream_ad.jobs.train import Collector
    from stream_ad.jobs.trial import Trial
    from stream_ad.protocols import Source
    from stream_ad.score.bundle import Bundle


def train(
    path: ConfigOption = DEFAULT_CONFIG,
    input: Annotated[
        str | None,
        typer.Option("--input", "-i", help="a CSV, JSONL or Parquet file, or a topic; default source.topic"),
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="begin at this record time (topics only)")] = None,
    last: Annotated[str | None, typer.Option("--to", help="end at this record time (topics only)")] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="let running workers judge with it at once, if its trial allows it")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="with --promote: whatever its trial says")] = False,
    report: Annotated[Path | None, typer.Option(help="write a report with plots here (HTML)")] = None,
    output: Annotated[Path | None, typer.Option(help="also write the bundle here (safetensors)")] = None,
    json: JsonOption = False,
) -> None:
    """Builds a model from a log and registers it.

    The training holds back the last part of the time range, which decides when to stop and calibrates the scores.
    The new model is then tried on the latest events, beside the version that judges: how much it flags, and how many
    spikes it finds that are put into copies of rows. It never reads labels.
    """
    from stream_ad.cli.inputs import bounded
    from stream_ad.io.atomic_file import replaced
    from stream_ad.io.redis.stores import RedisModelStore
    from stream_ad.jobs.train import next_step, register
    from stream_ad.jobs.train import promote as let_judge
    from stream_ad.protocols import BUILT_IN
    from stream_ad.score.report import write_report

    if force and not promote:
        raise ConfigError("--force: promotes whatever the trial says, so it needs --promote")
    check_writable(report, "--report")
    check_writable(output, "--output")
    config = load(path)
    name = input or config.source.topic
    store = RedisModelStore(config.redis)
    # asked now, and not after an hour of training, if Redis does not answer
    wanted = store.wish().wanted
    judge = None if wanted in (None, BUILT_IN) else store.get(wanted)
    bundle, trial, collected = _fitted(config, bounded(config, name, first, last, 1), name, judge)
    if report is not None:
        with replaced(report) as file:
            write_report(bundle, file)
    if output is not None:
        with replaced(output) as file:
            file.write_bytes(bundle.to_bytes())
    info = register(store, bundle)
    if promote:
        let_judge(store, info, config, force)
    figures = ", ".join(f"{key} {value:.4g}" for key, value in info.metrics.items() if not key.startswith("trial_"))
    tried = f"{trial.words}\n" if trial is not None else ""
    state = "wanted now" if promote else next_step(info, config)
    learnt = f"learnt from {collected.events:,} events, {rejects_and_late(collected.rejects, collected.late)}\n"
    answer(
        {
            "version": info.version,
            "kind": info.kind,
            "metrics": dict(info.metrics),
            "promoted": promote,
            "events": collected.events,
            "rejects": collected.rejects,
            "late": collected.late,
            "report": str(report) if report else None,
        },
        json,
        f"{info.version} ({info.kind}): {figures}\n{learnt}{tried}{state}",
    )


def _fitted(config: Config, source: Source, name: str, judge: bytes | None) -> tuple[Bundle, Trial | None, Collector]:
    from stream_ad.jobs.train import fit

    read: list[Collector] = []

    with progress("train") as bar:
        task = bar.add_task("", total=None, status="")
        epochs = dict(config.train).get("epochs")  # of scorers that have this option

        def reading(collected: Collector) -> None:
            read[:] = [collected]
            bar.update(task, status=f"{collected.events:,} events read")

        def learning(epoch: int, train_loss: float, held_loss: float) -> None:
            of = f"/{epochs}" if epochs else ""
            status = f"epoch {epoch + 1}{of}, loss {train_loss:.4f}, held back {held_loss:.4f}"
            bar.update(task, total=epochs, completed=epoch + 1, status=status)

        return *fit(config, source, name, judge, reading, learning), read[0]
