"""`stream-ad evaluate`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from stream_ad.cli.app import DEFAULT_CONFIG, JsonOption, load
from stream_ad.cli.output import answer, check_writable, literal, progress, rejects_and_late, say
from stream_ad.errors import ConfigError
from stream_ad.io.atomic_file import replaced

Answer = TypeVar("Answer")

if TYPE_CHECKING:
    from stream_ad.jobs.evaluate import Evaluation, Outcome
    from stream_ad.jobs.labels import Labels


def evaluate(
    input: Annotated[str, typer.Option("--input", "-i", help="a labelled CSV, JSONL or Parquet file, or a topic")],
    path: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="a pipeline's configuration file; several are compared"),
    ] = None,
    label: Annotated[str, typer.Option(help="the field that holds 1 or true where a record is anomalous")] = "label",
    only: Annotated[str | None, typer.Option(help="count only records with this value, as in split=test")] = None,
    warm_up: Annotated[int, typer.Option(min=0, help="do not count the first records of each key")] = 0,
    train: Annotated[
        bool, typer.Option("--train", help="train train.scorer on the records before those that count")
    ] = False,
    folds: Annotated[
        int | None, typer.Option(min=2, help="with --train: learn and judge on so many stretches, each after the last")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="begin at this record time (topics only)")] = None,
    last: Annotated[str | None, typer.Option("--to", help="end at this record time (topics only)")] = None,
    report: Annotated[Path | None, typer.Option(help="write a report with plots here (HTML)")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="configurations that are evaluated at a time")] = 2,
    json: JsonOption = False,
) -> None:
    """Measures detection on a labelled stream, beside chance and trivial detectors.

    Each record is scored before anything learns from it, as in `run`. Labels choose no threshold and reach no detector.
    """
    from stream_ad.jobs.labels import Labels

    check_writable(report, "--report")
    paths = path or [DEFAULT_CONFIG]
    labels = Labels(label, _pair(only), warm_up)
    if folds is not None:
        if not train:
            raise ConfigError("--folds: compares what is trained; give --train too")
        if only is not None or report is not None:
            unused = "--only" if only is not None else "--report"
            raise ConfigError(f"{unused}: does not go with --folds, which judges every record after the first stretch")
        from stream_ad.cli.folds import evaluate_folds

        evaluate_folds(paths, input, first, last, labels, folds, jobs, json)
        return
    outcomes: dict[Path, Outcome] = {}
    drawn = report is not None
    with progress("evaluate") as bar:
        task = bar.add_task("", total=len(paths) if len(paths) > 1 else None, status="")
        if len(paths) == 1:
            one = paths[0]

            def show(events: int) -> None:
                bar.update(task, status=f"{events:,} events")

            outcomes[one] = _one(one, input, first, last, labels, train, drawn, show)
        else:
            for one, outcome in together(_one, paths, jobs, input, first, last, labels, train, drawn):
                outcomes[one] = outcome
                bar.update(task, advance=1, status=str(one))
    rows = [outcomes[one].evaluations[0] for one in paths] + outcomes[paths[0]].evaluations[1:]
    if report is not None:
        with replaced(report) as file:
            file.write_text(_page(input, rows, [outcomes[one].section for one in paths]), encoding="utf-8")
    if json:
        answer({"input": input, "evaluations": [plain(asdict(row)) for row in rows]}, True, "")
    else:
        say(_words(input, rows))


def together(
    task: Callable[..., Answer], paths: Sequence[Path], jobs: int, *arguments: Any
) -> Iterator[tuple[Path, Answer]]:
    """Each in a process of its own, `jobs` at a time; all of these end with the first error, and with Ctrl-C."""
    with ProcessPoolExecutor(min(jobs, len(paths)), get_context("spawn")) as pool:
        try:
            # Ctrl-C reaches the whole group. The processes inherit that they do not see it: this one ends them.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                tasks = {pool.submit(task, one, *arguments): one for one in paths}
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            for done in as_completed(tasks):
                yield tasks[done], done.result()
        except BaseException:
            for process in active_children():
                process.terminate()
            raise


def _one(
    path: Path,
    input: str,
    first: str | None,
    last: str | None,
    labels: Labels,
    train: bool,
    drawn: bool,
    progress: Callable[[int], None] = lambda events: None,
) -> Outcome:
    from stream_ad.cli.inputs import bounded
    from stream_ad.jobs.evaluate import evaluated

    config = load(path)
    return evaluated(config, path.stem, lambda: bounded(config, input, first, last, 1), labels, train, drawn, progress)


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    field, equals, value = text.partition("=")
    if not (field and equals):
        raise ConfigError(f"--only: give FIELD=VALUE, as in split=test (got {text!r})")
    return field, value


def plain(value: Any) -> Any:
    """JSON has no NaN: a figure that does not exist is null."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


RANKS = ("score", "ROC-AUC", "AP", "95 %", "AP of p", "VUS-PR", "NAB")
FLAGS = ("flags", "rows", "precision", "recall", "F1", "events", "delay", "false")


def _words(input: str, rows: Sequence[Evaluation]) -> Group:
    tables = []
    for names, cells in ((RANKS, _ranks), (FLAGS, _flags)):
        table = Table(box=SIMPLE_HEAD)
        table.add_column(names[0], no_wrap=True)
        for name in names[1:]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*cells(row))
        tables.append(table)
    return Group(literal(_head(input, rows)), *tables, literal(_foot(rows)))


def _page(input: str, rows: Sequence[Evaluation], sections: Sequence[str]) -> str:
    from html import escape

    from stream_ad.evaluation.report import report
    from stream_ad.score.report import table

    tables = "".join(table(names, [cells(row) for row in rows]) for names, cells in ((RANKS, _ranks), (FLAGS, _flags)))
    return report(input, f"<p>{escape(_head(input, rows))}</p>{tables}<p>{escape(_foot(rows))}</p>", sections)


def _head(input: str, rows: Sequence[Evaluation]) -> str:
    one = rows[0].figures
    left_out = "".join(
        f"; {rejects_and_late(row.rejects, row.late)} ({row.name})" for row in rows if row.rejects or row.late
    )
    return f"{input}: {one.rows:,} records count, {one.labelled:,} are labelled, in {one.events:,} events{left_out}"


def _foot(rows: Sequence[Evaluation]) -> str:
    one = rows[0].figures
    stated = ", ".join(f"{row.stated_rate:.1e} ({row.name})" for row in rows if row.stated_rate is not None)
    incidents = ", ".join(
        f"{row.incidents:,} incidents, {row.incidents_without_label:,} of them without a label{_spent(row)} "
        f"({row.name})"
        for row in rows
        if row.stated_rate is not None
    )
    return (
        f"AP of p: ranked by p-value; events: share with a flag; delay: rows until it, median; false: share of "
        f"normal rows flagged, stated {stated}. {incidents}. Ranked by chance, AP is {one.labelled / one.rows:.4f}."
    )


def _spent(row: Evaluation) -> str:
    if row.budget is None and not row.held:
        return ""
    stated = f", at most {row.most_in_period:,} in any period of the budget of {row.budget}" if row.budget else ""
    return f"{stated}, {row.held:,} more held back"


def _ranks(row: Evaluation) -> tuple[str, ...]:
    f, by_p_value = row.figures, row.by_p_value
    low, high = f.average_precision_interval
    return (
        row.name,
        figure(f.roc_auc),
        figure(f.average_precision),
        f"{figure(low)} – {figure(high)}",
        figure(by_p_value.average_precision) if by_p_value else "",
        figure(f.vus_pr),
        f"{f.nab:.1f}" if f.nab == f.nab else "–",
    )


def _flags(row: Evaluation) -> tuple[str, ...]:
    f = row.figures
    return (
        row.name,
        f"{f.flagged:,}",
        *map(figure, (f.precision, f.recall, f.f1, f.event_recall)),
        f"{f.delay_rows:,.0f}" if f.delay_rows == f.delay_rows else "–",
        f"{f.false_alarm_rate:.0e}",
    )


def figure(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"
