"""A small story that a shard goes through, and the snapshots of it that stay in the repository.

`python -m tests.support.snapshots` writes the one of today's format: when the format changes, and never again.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from stream_ad import config
from stream_ad.batch import Scores
from stream_ad.config.features import FeatureSpec
from stream_ad.state import assemble
from stream_ad.state.shard import Shard
from stream_ad.state.snapshot import FORMAT
from tests.support.batches import Row, events

FOLDER = Path(__file__).parents[1] / "data" / "snapshots"
CONFIG = config.load(FOLDER / "stream_ad.toml", {})
FOLDS = assemble.folds(CONFIG, FeatureSpec.of(CONFIG))
PARTITION, VERSION = 5, "m-1"
SAVED, END = 600, 750
BEGIN_MS = 1_767_225_600_000


def row(number: int) -> Row:
    """More keys come than there is room for, two fall silent, one jumps now and then, a few values are missing."""
    key = number % 7 if number % 11 else 7 + number // 11 % 9
    if (key == 3 and number > SAVED - 20) or (key == 2 and number > SAVED + 60):
        key = 4
    value = float(10 * key + number * 37 % 13 + (500 if number % 97 > 93 else 0))
    late = 5_000 if number % 41 == 40 else 0
    category = f"c{number * number % 17 % 5}"
    return f"key-{key}", BEGIN_MS + 1_000 * number - late, [value, None if number % 9 == 5 else value / 4], [category]


def judged(shard: Shard, first: int, last: int) -> dict[str, list[Any]]:
    """Folds the story's events from `first` up to, not including, `last`; answers all that is told of them."""
    batch = shard.submit(events([row(at) for at in range(first, last)], first_offset=first, partition=PARTITION))
    offsets = batch.windows.keyed.events.offset[batch.row]
    score = offsets * 29 % 17 / 8.0 + np.where(offsets % 50 > 46, 9.0, 0.0)
    verdicts, alerts = shard.finish(Scores(batch, shard.version, score))
    shard.next_offset = last
    return {
        "x": numbers(batch.x),
        "threshold": numbers(verdicts.threshold),
        "p_value": numbers(verdicts.p_value),
        "flag": verdicts.flag.tolist(),
        "alerts": [
            [int(offset), int(rule), int(phase)]
            for offset, rule, phase in zip(alerts.offset, alerts.rule, alerts.phase, strict=True)
        ],
    }


def numbers(array: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in array.ravel()]


def story() -> Shard:
    """The shard as it is saved."""
    shard = Shard(FOLDS, PARTITION, 0, VERSION)
    judged(shard, 0, SAVED)
    return shard


def kept(number: int) -> list[bytes]:
    """The parts of the golden snapshot of a format; the one of format 1 was in one piece."""
    data = gzip.decompress((FOLDER / f"format-{number}.bin.gz").read_bytes())
    if number == 1:
        return [data]
    parts = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        parts.append(data[4:end])
        data = data[end:]
    return parts


def foretold(number: int) -> dict[str, list[Any]]:
    """What a shard of the snapshot is to say of the events from `SAVED` to `END`.

    Those before format 3 had learnt outliers; formats 1 and 2 hold the same.
    """
    after = FOLDER / f"after-{max(number, 2)}.json"
    told: dict[str, list[Any]] = json.loads(after.read_text())
    return told


def main() -> None:
    shard = story()
    data = b"".join(len(part).to_bytes(4, "big") + part for part in shard.snapshot().parts())
    (FOLDER / f"format-{FORMAT}.bin.gz").write_bytes(gzip.compress(data, mtime=0))
    (FOLDER / f"after-{FORMAT}.json").write_text(json.dumps(judged(shard, SAVED, END), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
