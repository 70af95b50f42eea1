"""An evaluation judges as the pipeline does, and no detector sees a label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest

from stream_ad import config
from stream_ad.errors import InputError
from stream_ad.io.memory import MemorySource, Record
from stream_ad.jobs.evaluate import Evaluation, evaluated
from stream_ad.jobs.labels import Labels

CONFIG = config.parse(
    {
        "source": {"topic": "t"},
        "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
        "window": {"rows": 4, "max_keys": 50},
        "features": {"numeric": {"a": ["raw", "zscore"]}},
        "threshold": {"false_alarm_rate": 2e-3},
        "train": {"epochs": 2, "hidden": [8, 4], "min_events": 256},
    }
)
ROWS = 3000
TESTED = Labels(only=("split", "test"))


def records(label: str = "label", split: bool = True) -> list[Record]:
    """Spikes in the second half are labelled; the first half is for training."""
    noise = np.random.default_rng(3)
    made = []
    for number in range(ROWS):
        spike = number % 100 == 99
        event = {"k": f"k{noise.integers(5)}", "t": 1_700_000_000_000 + 1000 * number}
        event |= {"a": noise.normal(10, 1) + 40 * spike, label: int(spike)}
        if split:
            event["split"] = "test" if number >= ROWS // 2 else "train"
        made.append(Record(None, orjson.dumps(event)))
    return made


def outcome(
    rows: list[Record], labels: Labels = TESTED, train: bool = False, made: config.Config = CONFIG
) -> list[Evaluation]:
    return evaluated(made, "mine", lambda: MemorySource("t", {0: rows}, poll_rows=700), labels, train).evaluations


def test_spikes_are_found_and_the_baselines_stand_beside() -> None:
    mine, *beside = outcome(records())
    assert [row.name for row in beside] == ["random", "always", "differences", "variances"]
    f = mine.figures
    assert (f.rows, f.labelled, f.events) == (ROWS // 2, 15, 15)
    assert f.roc_auc > 0.99
    assert f.event_recall > 0.9
    assert mine.stated_rate == 2e-3
    assert mine.by_p_value is not None
    assert mine.by_p_value.roc_auc > 0.99
    assert 0 < mine.incidents <= 15  # a key's second spike may come within the cooldown
    assert mine.incidents_without_label == 0
    assert mine.rejects == 0


@pytest.mark.parametrize("train", [False, True])
def test_a_detector_sees_no_label(train: bool) -> None:
    """Other labels change what is counted, and nothing that the detector answers."""
    rows = records()
    other = []
    for number, record in enumerate(rows):
        event = orjson.loads(record.value or b"")
        event["label"] = int(number % 7 == 0)
        other.append(replace(record, value=orjson.dumps(event)))
    one, two = outcome(rows, train=train)[0], outcome(other, train=train)[0]
    assert one.figures.flagged == two.figures.flagged
    assert one.incidents == two.incidents
    assert one.figures.labelled != two.figures.labelled


def test_a_model_learns_only_from_what_comes_before_that_which_counts() -> None:
    """Later records that do not count, and those that do, may say anything."""
    rows = records()
    cut = ROWS - 200
    changed = []
    for number, record in enumerate(rows):
        event = orjson.loads(record.value or b"")
        if number >= cut:
            event |= {"a": 1e6, "split": "train"}
        changed.append(replace(record, value=orjson.dumps(event)))
    clean = [*rows[:cut], *changed[cut:]]
    noisy = [
        *changed[:cut],
        *(replace(record, value=(record.value or b"").replace(b"1000000.0", b"-5.0")) for record in changed[cut:]),
    ]
    one, two = outcome(clean, train=True)[0].figures, outcome(noisy, train=True)[0].figures
    assert one.roc_auc == two.roc_auc


def test_the_first_records_of_each_key_may_be_left_out() -> None:
    f = outcome(records(), Labels(warm_up=100))[0].figures
    assert f.rows == ROWS - 5 * 100


def test_what_the_calendar_and_the_ranges_say_counts_as_it_is_told() -> None:
    """A value outside its range is found; one in a quiet time is not."""
    ranged = CONFIG.model_copy(update={"rules": config.Rules(valid={"a": [0.0, 30.0]})})
    mine = outcome(records(), made=ranged)[0]
    assert mine.figures.recall == 1.0
    assert mine.figures.false_alarm_rate < 2e-3
    assert 0 < mine.incidents <= 15
    always = config.Calendar.model_validate({"quiet": [{"name": "always", "hours": "00:00-24:00"}]})
    silenced = outcome(records(), made=ranged.model_copy(update={"calendar": always}))[0]
    assert (silenced.figures.flagged, silenced.incidents) == (0, 0)


@pytest.mark.parametrize("held", [1, 1.0, True, "1", "true", "TRUE", "yes"])
@pytest.mark.parametrize("other", [0, 0.5, 2, False, "0", "no", "", [1], {"a": 1}])
def test_a_label_may_be_written_in_several_ways_and_lie_in_an_object(held: object, other: object) -> None:
    rows = []
    for number in range(40):
        event = {"k": "k", "t": 1_700_000_000_000 + 1000 * number, "a": 1.0}
        rows.append(Record(None, orjson.dumps(event | {"truth": {"is": held if number % 4 == 0 else other}})))
    assert outcome(rows, Labels("truth.is"))[0].figures.labelled == 10


def test_training_needs_records_before_those_that_count() -> None:
    with pytest.raises(InputError, match=r"evaluate: none of 3,000 events may be learnt from"):
        outcome(records(), Labels("label"), train=True)


def test_a_stream_without_the_label_is_refused() -> None:
    with pytest.raises(InputError, match="--label: no record has a field 'label'"):
        outcome(records(label="anomalous"))
    assert outcome(records(label="anomalous"), Labels("anomalous"))[0].figures.labelled == 30


def test_a_stream_that_is_rejected_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"no events to evaluate; 2 records were rejected, the first for 'bad_json"):
        outcome([Record(None, b"{"), Record(None, b"{")])
