"""`make quality`: evaluates what `stream-ad init` writes on labelled streams, and writes docs/quality.md.

`DATA` is a folder with the streams; its README says where they come from. Each is evaluated in its true order, and
thresholds see no labels. A stream that is not there is left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from stream_ad.cli.sample import of_file
from stream_ad.config import parse
from stream_ad.io.files import FileSource
from stream_ad.jobs.evaluate import Evaluation, evaluated
from stream_ad.jobs.labels import Labels
from stream_ad.propose.infer import infer
from stream_ad.propose.presets import PRESETS
from stream_ad.propose.toml import toml_of

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, str]
COLUMNS = (
    "ROC-AUC",
    "AP",
    "AP 95 %",
    "key ROC",
    "key AP",
    "VUS-PR",
    "NAB",
    "precision",
    "recall",
    "F1",
    "events",
    "false",
)
HEAD = """# Detection

`make quality DATA=FOLDER` evaluates, on labelled streams in their true order, the configuration that `stream-ad init`
writes with the preset of the domain (`stream-ad evaluate` does the same for one stream). A record is scored before
anything learns from it. Labels choose no threshold and reach no detector. The stated rate of false alarms is 1e-4 for
transactions and networks, and 1e-3 for sensors and servers.

- *statistical* is the built-in scorer, which needs no training. The others learnt from the records before those that
  count, where a stream has such (srv_smd8: 40,000 of them); *ensemble* is what `train` builds by default.
- *random* scores by chance and flags as many rows as are labelled; *always* flags every row; *differences* is the
  squared step of a field from the key's value before, over its mean in the long run; *variances* the same with the
  variance of the last 10 values. A detector that does not beat these four finds nothing.
- *AP* is average precision, with a 95 % interval (bootstrap over 100 blocks of neighbouring rows). *key ROC* and
  *key AP* are means over the series, each ranked by itself. *VUS-PR*: Paparrizos et al., VLDB 2022, buffers up to 100
  rows. *NAB*: the benchmark's score, standard profile. *events* is the share of labelled stretches with a flag, *false*
  the share of normal rows that are flagged.
- No figure is point-adjusted: a random score would look good.
"""
TAIL = """
## Published figures for comparison

NAB, standard profile (the benchmark's repository, `results/final_results.json`): ARTime 74.9, Numenta HTM 70.1,
relative entropy 54.6, windowed Gaussian 39.6, random 16.8. `tests/unit/evaluation/test_nab.py` reproduces the scores of
the relative entropy and of the windowed Gaussian from the data.
"""


@dataclass(frozen=True, slots=True)
class Stream:
    """A file, and how its rows count: `split` becomes a field of them, and those with "test" count."""

    file: str
    about: str
    preset: str
    label: Callable[[Row], bool] = lambda row: row["label"] == "1"
    split: Callable[[Row], str] = lambda row: "test"
    kept: Callable[[int, Row], bool] = lambda number, row: True
    warm_up: int = 0
    learns: bool = False  # whether records come before those that count
    max_rows: int = 200_000  # of windows that are learnt from


TRAINED = ("ensemble", "autoencoder", "vae", "half_space_trees", "mahalanobis", "pca", "nearest_neighbours")
SA = np.random.RandomState(0).rand(494_021) < 0.01
WEEKS = (("2018-07-25", "2018-08-01"), ("2018-08-08", "2018-08-15"))


def _fdh(row: Row) -> str:
    week = any(first <= row["timestamp"] < last for first, last in WEEKS)
    return "test" if week and row["scenario"] != "2" else "train"


STREAMS = {
    "net_http": Stream("net_http.csv.gz", "KDD99 http, one key", "network"),
    "net_smtp": Stream("net_smtp.csv.gz", "KDD99 smtp, one key, 30 positives", "network"),
    "net_kdd99": Stream(
        "net_kdd99_10pct.csv.gz",
        "KDD99 10 %, keyed by service, all normal rows and 1 % of the attacks",
        "network",
        kept=lambda number, row: row["label"] == "0" or bool(SA[number]),
    ),
    "tx_fdh": Stream(
        "tx_fdh.csv.gz",
        "card transactions, scenarios 1 and 3, two weeks",
        "transactions",
        label=lambda row: row["scenario"] in {"1", "3"},
        split=_fdh,
        learns=True,
    ),
    "iot_skab": Stream(
        "iot_skab.csv.gz",
        "valve testbed, 35 series; the first 400 rows of each do not count",
        "sensors",
        warm_up=400,
        learns=True,
    ),
    "iot_gecco": Stream("iot_gecco2018_firsthalf.csv.gz", "drinking water, one series", "sensors"),
    "srv_smd8": Stream(
        "srv_smd8.csv.gz",
        "8 servers, 38 metrics",
        "servers",
        split=lambda row: row["split"],
        learns=True,
        max_rows=40_000,  # 2 GB
    ),
    "ts_nab": Stream(
        "ts_nab.csv.gz",
        "58 univariate series",
        "servers",
        split=lambda row: "train" if row["probation"] == "1" else "test",
        learns=True,
    ),
}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="make quality", description=__doc__)
    arguments.add_argument("data", type=Path, help="the folder with the streams")
    arguments.add_argument("--only", choices=sorted(STREAMS), nargs="*", default=sorted(STREAMS))
    arguments.add_argument("--output", type=Path, default=ROOT / "out" / "quality")
    chosen = arguments.parse_args()
    console = Console()
    chosen.output.mkdir(parents=True, exist_ok=True)
    streams = [name for name in STREAMS if name in chosen.only and (chosen.data / STREAMS[name].file).exists()]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for _ in pool.map(prepare, streams, repeat(chosen.data), repeat(chosen.output)):
            pass
        tasks = {
            name: [
                pool.submit(measure, name, chosen.output, scorer)
                for scorer in (None, *(TRAINED if STREAMS[name].learns else ()))
            ]
            for name in streams
        }
        for name, (untrained, *trained) in tasks.items():
            detector, *baselines = untrained.result()
            rows = [detector, *(task.result()[0] for task in trained), *baselines]
            (chosen.output / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=2))
            console.print(f"{name}: AP {rows[0].figures.average_precision:.3f}")
    results = {name: json.loads((chosen.output / f"{name}.json").read_text()) for name in streams}
    if streams == list(STREAMS):
        (ROOT / "docs" / "quality.md").write_text(page(results), encoding="utf-8")


def page(results: dict[str, list[dict[str, Any]]]) -> str:
    return HEAD + "".join(_section(name, rows) for name, rows in results.items()) + TAIL


def _section(name: str, rows: list[dict[str, Any]]) -> str:
    one = rows[0]["figures"]
    lines = [
        f"\n## {name}: {STREAMS[name].about}\n\nPreset {STREAMS[name].preset}. {one['rows']:,} records count, "
        f"{one['labelled']:,} are labelled, in {one['events']:,} events.\n\n",
        f"| detector | {' | '.join(COLUMNS)} |\n| --- |{' --- |' * len(COLUMNS)}\n",
    ]
    for row in rows:
        f = row["figures"]
        low, high = f["average_precision_interval"]
        cells = [f[key] for key in ("roc_auc", "average_precision")] + [f"{low:.3f} – {high:.3f}"]
        cells += [f[key] for key in ("key_roc_auc", "key_average_precision", "vus_pr")]
        cells += [f"{f['nab']:.1f}" if f["nab"] == f["nab"] else "–"]
        cells += [f[key] for key in ("precision", "recall", "f1", "event_recall")]
        cells += [f"{f['false_alarm_rate']:.1e}"]
        written = [cell if isinstance(cell, str) else "–" if cell != cell else f"{cell:.3f}" for cell in cells]
        lines.append(f"| {row['name']} | {' | '.join(written)} |\n")
    return "".join(lines)


def prepare(name: str, data: Path, output: Path) -> None:
    """Writes the stream as a file with its labels, and what `init` proposes for it."""
    stream = STREAMS[name]
    file = output / f"{name}.csv"
    if not file.exists():
        _write(stream, data / stream.file, file)
    proposal = infer(of_file(file), PRESETS[stream.preset])
    (output / f"{name}.toml").write_text(toml_of(proposal, name, name, "127.0.0.1:9092", str(file)))


def measure(name: str, output: Path, scorer: str | None) -> list[Evaluation]:
    """The built-in scorer (None), or one that learns from the records before those that count; then the baselines."""
    document = tomllib.loads((output / f"{name}.toml").read_text())
    if scorer is not None:
        document["train"] = {**document.get("train", {}), "scorer": scorer, "max_rows": STREAMS[name].max_rows}
    config, file = parse(document), output / f"{name}.csv"
    labels = Labels("label", ("split", "test"), STREAMS[name].warm_up)
    return evaluated(
        config, scorer or "statistical", partial(FileSource, file, config), labels, train=scorer is not None
    ).evaluations


def _write(stream: Stream, source: Path, target: Path) -> None:
    with gzip.open(source, "rt", newline="") as file, target.open("w", newline="") as out:
        rows = csv.DictReader(file)
        names = [name for name in rows.fieldnames or [] if name != "split"] + ["split"]
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(_rows(stream, rows))


def _rows(stream: Stream, rows: Any) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if stream.kept(number, row):
            yield row | {"label": str(int(stream.label(row))), "split": stream.split(row)}


if __name__ == "__main__":
    main()
