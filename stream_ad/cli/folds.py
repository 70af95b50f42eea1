"""`stream-ad evaluate --train --folds K`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from stream_ad.cli.app import load
from stream_ad.cli.evaluate import figure, plain, together
from stream_ad.cli.output import answer, literal, progress, say

if TYPE_CHECKING:
    from stream_ad.jobs.cross_validate import Validation
    from stream_ad.jobs.labels import Labels

RANKS = {"ROC-AUC": "roc_auc", "AP": "average_precision", "VUS-PR": "vus_pr", "events": "event_recall"}
FLAGS = {"flags": "flagged", "precision": "precision", "recall": "recall", "F1": "f1", "false": "false_alarm_rate"}


def evaluate_folds(
    paths: Sequence[Path],
    input: str,
    first: str | None,
    last: str | None,
    labels: Labels,
    folds: int,
    jobs: int,
    json: bool,
) -> None:
    found: dict[Path, Validation] = {}
    with progress("evaluate") as bar:
        task = bar.add_task("", total=len(paths) if len(paths) > 1 else None, status="")
        if len(paths) == 1:
            found[paths[0]] = _one(
                paths[0], input, first, last, labels, folds, lambda status: bar.update(task, status=status)
            )
        else:
            for one, validation in together(_one, paths, jobs, input, first, last, labels, folds):
                found[one] = validation
                bar.update(task, advance=1, status=str(one))
    validations = [found[one] for one in paths]
    if json:
        answer({"input": input, "folds": folds, "validations": [_plain(one) for one in validations]}, True, "")
    else:
        say(_words(input, labels, validations))


def _one(
    path: Path,
    input: str,
    first: str | None,
    last: str | None,
    labels: Labels,
    folds: int,
    progress: Callable[[str], None] = lambda status: None,
) -> Validation:
    from stream_ad.cli.inputs import bounded
    from stream_ad.jobs.cross_validate import cross_validated

    config = load(path)
    return cross_validated(config, path.stem, lambda: bounded(config, input, first, last, 1), labels, folds, progress)


def _plain(validation: Validation) -> dict[str, Any]:
    summary = {}
    for at, name in enumerate(validation.rows()):
        columns = validation.summary(at)
        summary[name] = {
            "mean": {column: mean for column, (mean, _) in columns.items()},
            "deviation": {column: deviation for column, (_, deviation) in columns.items()},
        }
    document: dict[str, Any] = plain(asdict(validation) | {"summary": summary})
    return document


def _words(input: str, labels: Labels, validations: Sequence[Validation]) -> Group:
    """Two tables: how scores rank, and what is flagged. The baselines are those of the first configuration."""
    tables = []
    for columns in (RANKS, FLAGS):
        table = Table(box=SIMPLE_HEAD)
        table.add_column("score", no_wrap=True)
        for name in ("fold", *columns):
            table.add_column(name, justify="right")
        for number, one in enumerate(validations):
            _add(table, one, columns, number == 0)
        tables.append(table)
    return Group(literal(_head(input, labels, validations[0])), *tables, literal(_foot(labels, validations)))


def _add(table: Table, validation: Validation, columns: dict[str, str], with_baselines: bool) -> None:
    rows = validation.rows()
    for at, name in enumerate(rows if with_baselines else rows[:2]):
        if at == 0:
            for number, figures in enumerate(validation.figures(at), 1):
                values = [float(getattr(figures, column)) for column in columns.values()]
                table.add_row(name, str(number), *map(_cell, columns, values))
        shown = f"{validation.name}, {name}" if at == 1 and not with_baselines else name
        summary = [validation.summary(at)[column] for column in columns.values()]
        table.add_row(shown, "mean", *map(_cell, columns, [mean for mean, _ in summary]))
        if at == 0:
            table.add_row(shown, "±", *map(_cell, columns, [deviation for _, deviation in summary]))


def _cell(column: str, value: float) -> str:
    if value != value:
        return "–"
    return f"{value:,.0f}" if column == "flags" else f"{value:.0e}" if column == "false" else figure(value)


def _head(input: str, labels: Labels, one: Validation) -> str:
    judged = sum(fold.evaluations[0].figures.rows for fold in one.folds)
    labelled = sum(fold.evaluations[0].figures.labelled for fold in one.folds)
    said = f"{labelled:,} are labelled" if labels.field else "none has a label"
    left_out = f"; the first {labels.warm_up:,} of each key do not count" if labels.warm_up else ""
    return f"{input}: {judged:,} records count in {len(one.folds)} folds, {said}{left_out}"


def _foot(labels: Labels, validations: Sequence[Validation]) -> str:
    lines = [
        "Each fold learns from all records before its stretch of event time, and none is judged twice. "
        "±: standard deviation over the folds, which share what they learn from. untrained: the built-in scorer."
    ]
    for one in validations:
        detectors = [fold.evaluations[0] for fold in one.folds]
        incidents = ", ".join(f"{detector.incidents:,}" for detector in detectors)
        rejects = f", {one.rejects:,} records rejected" if one.rejects else ""
        lines.append(f"{one.name}: stated rate {detectors[0].stated_rate:.1e}, incidents by fold {incidents}{rejects}.")
    best, *others = validations
    for other in others if labels.field else ():
        pairs = list(zip(best.figures(0), other.figures(0), strict=True))
        better = sum(b.average_precision > a.average_precision for a, b in pairs)
        lines.append(f"{other.name} has a higher AP than {best.name} in {better} of {len(pairs)} folds.")
    return "\n".join(lines)
