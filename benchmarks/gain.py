"""`python -m benchmarks.gain DATA`: whether faults planted in a sample tell which feature kinds find the real ones.

For each labelled stream it takes what `init --preset` writes, adds or drops one kind on all fields, and measures the
average precision of the statistical scorer twice: of faults planted in the first records (what `init` could measure,
as the mean over the sorts of faults), and of the labels of the whole stream. docs/adr/0024 has the result.
"""

from __future__ import annotations

import argparse
import copy
import csv
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.quality import ROOT, STREAMS, Row, prepare
from stream_ad.batch import F64, I64
from stream_ad.config import parse
from stream_ad.evaluation.labelled import Answers
from stream_ad.evaluation.ranking import Ranking
from stream_ad.io.files import FileSource
from stream_ad.jobs.evaluate import judged
from stream_ad.jobs.labels import Labels
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly

SORTS = ("spike", "shift", "noise", "another's value", "category")
SAMPLE_ROWS = 150_000
MOST_ROWS = {"srv_smd8": 140_000}  # of the labelled stream: three servers
SHARE = 400  # one row of so many has a fault of each sort
KNOWN_ROWS = 20  # of a key, before its first fault
DEVIATIONS = (2.0, 20.0)
STRETCH_ROWS = (5, 30)
NUMERIC = ("zscore_overall", "zscore_diff", "zscore_std", "zscore_daily")
CATEGORICAL = ("novelty", "frequency", "novelty_overall", "frequency_overall", "burst_overall")
Document = dict[str, Any]


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.gain", description=__doc__)
    arguments.add_argument("data", type=Path, help="the folder with the streams")
    arguments.add_argument("--only", choices=sorted(STREAMS), nargs="*", default=list(STREAMS))
    arguments.add_argument("--output", type=Path, default=ROOT / "out" / "quality")
    chosen = arguments.parse_args()
    console = Console()
    chosen.output.mkdir(parents=True, exist_ok=True)
    gains = []
    for name in chosen.only:
        if (chosen.data / STREAMS[name].file).exists():
            prepare(name, chosen.data, chosen.output)
            gains += _gains(name, chosen.output, console)
    pairs = np.array(gains).reshape(-1, 2)
    moved = np.abs(pairs[:, 1]) >= 0.01
    agree = np.sign(pairs[moved, 0]) == np.sign(pairs[moved, 1])
    console.print(
        f"{moved.sum()} of {len(pairs)} change AP by .01 or more; planted faults have the sign of {agree.sum()}"
    )


def _gains(name: str, folder: Path, console: Console) -> Iterator[tuple[float, float]]:
    document = tomllib.loads((folder / f"{name}.toml").read_text())
    with (folder / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[: MOST_ROWS.get(name)]
    planted, sort = _planted(rows[:SAMPLE_ROWS], document)
    count = Labels("label", ("split", "test"), STREAMS[name].warm_up)
    with tempfile.TemporaryDirectory() as made:
        sample, stream = Path(made) / "sample.csv", Path(made) / "stream.csv"
        for path, written in ((sample, planted), (stream, rows)):
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(written)
        before = None
        for change, changed in _changes(document):
            found = _mean_over_sorts(_answers(changed, sample, Labels("label")).score, sort)
            answers = _answers(changed, stream, count)
            true = Ranking.of(answers.score[answers.counted], answers.label[answers.counted]).areas()[1]
            before = before or (found, true)
            gain = found - before[0], true - before[1]
            console.print(
                f"{name:10} {change:20} planted {found:.3f} {gain[0]:+.3f}   labels {true:.3f} {gain[1]:+.3f}"
            )
            if change != "as proposed":
                yield gain


def _answers(document: Document, file: Path, labels: Labels) -> Answers:
    config = parse(document)
    with LocalModels(config, []) as models:
        judgement = judged(Assembly.of(config), FileSource(file, config), labels, models, lambda events: None)
    return judgement.stream.answers


def _mean_over_sorts(score: F64, sort: I64) -> float:
    """Each sort of fault among the rows that have none."""
    areas = []
    for number in np.unique(sort[sort >= 0]):
        among = (sort == number) | (sort < 0)
        areas.append(Ranking.of(score[among], sort[among] == number).areas()[1])
    return float(np.mean(areas))


def _changes(document: Document) -> Iterator[tuple[str, Document]]:
    yield "as proposed", document
    features = document["features"]
    numbers, categories = features.get("numeric", {}), features.get("categorical", {})
    kinds = [("numeric", kind) for kind in NUMERIC if numbers]
    kinds += [("categorical", kind) for kind in CATEGORICAL if categories]
    for section, kind in kinds:
        there = any(kind in listed for listed in features[section].values())
        changed = copy.deepcopy(document)
        fields = changed["features"][section]
        for listed in fields.values():
            if there:
                listed[:] = [one for one in listed if one != kind]
            elif section == "categorical" or {"zscore", "zscore_log"} & {*listed}:
                listed.append(kind)
        changed["features"][section] = {field: listed for field, listed in fields.items() if listed}
        yield f"{'without' if there else 'with'} {kind}", changed
    for kind in dict.fromkeys([*features["event"], *(["joint"] if len(numbers) > 1 else [])]):
        there = kind in features["event"]
        changed = copy.deepcopy(document)
        changed["features"]["event"] = [one for one in features["event"] if one != kind] + ([] if there else [kind])
        yield f"{'without' if there else 'with'} {kind}", changed


def _planted(rows: list[Row], document: Document) -> tuple[list[Row], I64]:
    """Copies of the rows with faults, and the number of each row's sort [n]; -1 = none. A row has one fault at most."""
    noise = np.random.default_rng(1)
    made = [dict(row) | {"label": "0"} for row in rows]
    sort = np.full(len(rows), -1)
    key = document["record"]["key"]
    by_key: dict[str, list[int]] = {}
    place = []
    for row, held in enumerate(rows):
        of_key = by_key.setdefault(held.get(key, held.get("key", "")), [])
        place.append((of_key, len(of_key)))
        of_key.append(row)
    numeric, categorical = (list(document["features"].get(one, {})) for one in ("numeric", "categorical"))
    values = {name: np.array([_number(row[name]) for row in rows]) for name in numeric}
    wanted = max(30, len(rows) // SHARE)
    for number, what in enumerate(SORTS):
        fields, done = categorical if what == "category" else numeric, 0
        for _ in range(50 * wanted if fields else 0):
            row, field = int(noise.integers(len(rows) // 3, len(rows))), fields[noise.integers(len(fields))]
            of_key, at = place[row]
            lasts = what in ("shift", "noise")
            span = of_key[at : at + int(noise.integers(*STRETCH_ROWS))] if lasts else [row]
            if at < KNOWN_ROWS or (sort[span] >= 0).any():
                continue
            other = rows[int(noise.integers(len(rows)))][field]
            if what == "category":
                new = [other if noise.random() < 0.7 else f"new{done}"]
            else:
                held, spread = values[field][span], float(np.nanstd(values[field][of_key]))
                size = float(np.exp(noise.uniform(*np.log(DEVIATIONS)))) * spread * noise.choice([-1, 1])
                moved = held + size * (noise.standard_normal(len(span)) if what == "noise" else 1.0)
                moved = np.array([_number(other)]) if what == "another's value" else moved
                if not spread > 0 or not np.isfinite(moved).all() or np.abs(moved - held).max() < spread / 2:
                    continue
                new = [repr(float(value)) for value in moved]
            for place_of, value in zip(span, new, strict=True):
                made[place_of] |= {field: value, "label": "1"}
            sort[span] = number
            done += len(span)
            if done >= wanted:
                break
    return made, sort


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


if __name__ == "__main__":
    main()
