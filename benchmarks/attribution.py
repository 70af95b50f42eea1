"""Shifts one field of clean streams, and counts how often the explanation of a flagged row names that field."""

from __future__ import annotations

import csv
import gzip
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stream_ad.batch import F64, I64, Bool
from stream_ad.cli.sample import of_file
from stream_ad.codec.decoded import Decoded
from stream_ad.config import Config, parse
from stream_ad.io.bounded import read_decoded
from stream_ad.io.files import FileSource
from stream_ad.jobs.train import Collector, learnt
from stream_ad.messages.explain import contributors
from stream_ad.propose.infer import infer
from stream_ad.propose.presets import PRESETS
from stream_ad.propose.toml import toml_of
from stream_ad.score.local import LocalModels
from stream_ad.state.assemble import Assembly, judge_decoded
from tests.support.shifts import Shifted, by_chance, halves, hits, largest_deviations, shifted

SCORERS = (
    "statistical",
    "ensemble",
    "autoencoder",
    "vae",
    "mahalanobis",
    "pca",
    "nearest_neighbours",
    "half_space_trees",
)
KEYS, ROWS, FIELDS = 20, 1000, 6  # of a simulated stream
MOST_ROWS = 40_000  # of a file
START_MS, STEP_MS = 1_700_000_000_000, 1000
Noise = np.random.Generator
Told = dict[int, tuple[bool, list[str]]]  # row -> whether it is flagged, and the fields that its explanation names
Made = Callable[[Noise, int, int], F64]  # rows, fields -> values of one key


@dataclass(frozen=True, slots=True)
class Stream:
    preset: str
    made: Made | None = None  # None = a file of the data folder
    file: str = ""
    key_rows: int = MOST_ROWS  # of each key of a file, at most
    normal: Callable[[dict[str, str]], bool] = lambda row: row["label"] == "0"


def correlated(noise: Noise, rows: int, fields: int) -> F64:
    values: F64 = noise.normal(size=(rows, 2)) @ noise.normal(size=(2, fields)) + 0.3 * noise.normal(
        size=(rows, fields)
    )
    return values


def smooth(noise: Noise, rows: int, fields: int) -> F64:
    values = noise.normal(size=(rows, fields))
    for row in range(1, rows):
        values[row] += 0.95 * values[row - 1]
    return values


STREAMS = {
    "independent": Stream("sensors", lambda noise, *shape: noise.normal(size=shape)),
    "correlated": Stream("servers", correlated),
    "smooth": Stream("sensors", smooth),
    "net_http": Stream("network", file="net_http.csv.gz"),
    "net_kdd99": Stream("network", file="net_kdd99_10pct.csv.gz", key_rows=4000),
    "iot_skab": Stream("sensors", file="iot_skab.csv.gz", key_rows=2000),
    "iot_gecco": Stream("sensors", file="iot_gecco2018_firsthalf.csv.gz"),
    "srv_smd8": Stream("servers", file="srv_smd8.csv.gz", key_rows=3000, normal=lambda row: row["split"] == "train"),
}


def main(console: Console, data: Path | None, only: list[str] | None, scale: int) -> dict[str, dict[str, Any]]:
    """The hits of every scorer on every stream; those of `data`, a folder, are left out where they are not there."""
    figures: dict[str, dict[str, Any]] = {}
    for name, stream in STREAMS.items():
        source = data / stream.file if data is not None and stream.file else None
        if (only and name not in only) or (stream.made is None and (source is None or not source.exists())):
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clean.csv"
            _write(stream, source, file, scale)
            with console.status(name):
                figures[name] = _measured(file, stream)
        console.print(_table(name, figures[name]))
    return figures


def _measured(file: Path, stream: Stream) -> dict[str, Any]:
    proposal = infer(of_file(file), PRESETS[stream.preset])
    config = parse(tomllib.loads(toml_of(proposal, "attribution", "attribution", "127.0.0.1:9092", str(file))))
    parts = Assembly.of(config)
    with closing(read_decoded(FileSource(file, config), parts.codec)) as polls:
        batches = [decoded for polled in polls for decoded in polled]
    names: dict[bytes, int] = {}
    key = np.array([names.setdefault(one, len(names)) for part in batches for one in part.events.key.tolist()])
    values = np.concatenate([part.events.values for part in batches])
    clean, moved, fields = halves(key), shifted(values, key), parts.spec.numeric
    rows = np.flatnonzero(moved.field >= 0)
    trivial = largest_deviations(moved.values, key, rows, fields)
    told = {int(row): (False, named) for row, named in zip(rows, trivial, strict=True)}
    figures = {"fields": len(fields), "random": by_chance(len(fields)), "deviations": _by_length(moved, fields, told)}
    for scorer in SCORERS:
        told = _explained(config, parts, batches, clean, moved, scorer)
        figures[scorer] = _by_length(moved, fields, told)
    return figures


def _by_length(moved: Shifted, fields: Sequence[str], told: Told) -> dict[str, dict[str, Any]]:
    """Of the shifts of one row, and of those of a stretch."""
    found = {}
    for length, lasts in (("row", False), ("stretch", True)):
        rows = [row for row in told if bool(moved.lasts[row]) is lasts]
        true, flagged = [fields[moved.field[row]] for row in rows], np.array([told[row][0] for row in rows], bool)
        found[length] = asdict(hits(true, [told[row][1] for row in rows], flagged))
    return found


def _explained(
    config: Config, parts: Assembly, batches: list[Decoded], clean: Bool, moved: Shifted, scorer: str
) -> Told:
    """By the row of the stream, for each shifted row that is judged. The scorer learns from the unshifted first half
    of each key's rows."""
    config = config.model_copy(update={"train": config.train.model_copy(update={"scorer": scorer})})
    place = {at: row for row, at in enumerate(_offsets(batches).tolist())}
    bundles = []
    if scorer != "statistical":
        collector = Collector(
            parts, config.train.max_rows, lambda events: clean[[place[at] for at in events.offset.tolist()]]
        )
        for decoded in batches:
            collector.add(decoded)
        bundles = [learnt(config, collector, scorer).to_bytes()]
    told: Told = {}
    first = 0
    with LocalModels(config, bundles) as models:
        shards = {0: parts.shard(0, models.versions[-1])}
        for decoded in batches:
            last = first + len(decoded.events)
            events = replace(decoded.events, values=moved.values[first:last])
            for verdicts in judge_decoded(parts, shards, [replace(decoded, events=events)], models).verdicts:
                batch = verdicts.scores.features
                at = [place[offset] for offset in batch.windows.keyed.events.offset[batch.row].tolist()]
                rows = np.flatnonzero(moved.field[at] >= 0)
                if len(rows):
                    why = contributors(batch, rows, models.explain(verdicts.scores.version, batch.x[rows]), parts.spec)
                    for row, ones in zip(rows.tolist(), why, strict=True):
                        told[at[row]] = bool(verdicts.flag[row]), [one.field for one in ones]
            first = last
    return told


def _offsets(batches: list[Decoded]) -> I64:
    return np.concatenate([part.events.offset for part in batches])


def _table(name: str, figures: dict[str, Any]) -> Table:
    first, third = figures["random"]
    title = f"{name}, {figures['fields']} fields: hit rate at 1 / at 3; chance {first:.2f} / {third:.2f}"
    table = Table("explained by", title=title)
    for length in ("row", "stretch"):
        for what in ("flagged", "of these", "of all"):
            table.add_column(f"{length}: {what}", justify="right")
    for detector in ("deviations", *SCORERS):
        cells = []
        for length in ("row", "stretch"):
            one = figures[detector][length]
            cells += [
                _rate(one["flagged"]),
                *(f"{_rate(one[f'{of}first'])} / {_rate(one[f'{of}third'])}" for of in ("", "all_")),
            ]
        table.add_row(detector, *cells)
    return table


def _rate(share: float) -> str:
    return "–" if share != share else f"{share:.2f}"


def _write(stream: Stream, source: Path | None, target: Path, scale: int) -> None:
    with target.open("w", newline="") as out:
        writer = csv.writer(out)
        if stream.made is not None:
            noise = np.random.default_rng(0)
            rows = ROWS // scale
            values = [
                noise.normal(0, 3, FIELDS) + 10.0 ** noise.integers(-1, 2, FIELDS) * stream.made(noise, rows, FIELDS)
                for _ in range(KEYS)
            ]
            writer.writerow(["timestamp", "key", *(f"f{number}" for number in range(FIELDS))])
            for row in range(rows):
                for key in range(KEYS):
                    writer.writerow([START_MS + STEP_MS * row, f"k{key}", *values[key][row]])
        elif source is not None:
            with gzip.open(source, "rt", newline="") as file:
                reader = csv.DictReader(file)
                writer.writerow(reader.fieldnames or [])
                writer.writerows(row.values() for row in islice(_normal(stream, reader, scale), MOST_ROWS // scale))


def _normal(stream: Stream, rows: Any, scale: int) -> Iterator[dict[str, str]]:
    seen: dict[str, int] = {}
    for row in rows:
        seen[row["key"]] = seen.get(row["key"], 0) + stream.normal(row)
        if stream.normal(row) and seen[row["key"]] <= stream.key_rows // scale:
            yield row
