"""Time-ordered cross-validation sees no future, and judges every record after the first stretch once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.errors import InputError
from stream_ad.io.memory import MemorySource, Record
from stream_ad.jobs import cross_validate
from stream_ad.jobs.cross_validate import Fold, cross_validated, cuts_of, mean_and_deviation
from stream_ad.jobs.labels import Labels
from stream_ad.score.bundle import Bundle
from stream_ad.score.local import LocalModels

CONFIG = config.parse(
    {
        "source": {"topic": "t"},
        "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
        "window": {"rows": 4, "max_keys": 50},
        "features": {"numeric": {"a": ["raw", "zscore"]}},
        "threshold": {"false_alarm_rate": 2e-3},
        "train": {"scorer": "mahalanobis", "min_events": 256},
    }
)
START_MS, STEP_MS, ROWS, KEYS, FOLDS = 1_700_000_000_000, 1000, 1600, 4, 3
SIZE = ROWS // (FOLDS + 1)
LABELS = Labels()


def events(seed: int = 0) -> list[dict[str, object]]:
    """In order of time; one in fifty is odd and labelled."""
    noise = np.random.default_rng(seed)
    return [
        {
            "k": f"k{number % KEYS}",
            "t": START_MS + STEP_MS * number,
            "a": float(noise.normal(10, 1)) + 30 * (number % 50 == 49),
            "label": int(number % 50 == 49),
        }
        for number in range(ROWS)
    ]


def folds(stream: list[dict[str, object]], labels: Labels = LABELS, partitions: int = 1) -> list[Fold]:
    parts = {at: [Record(None, orjson.dumps(one)) for one in stream[at::partitions]] for at in range(partitions)}
    found = cross_validated(CONFIG, "mine", lambda: MemorySource("t", parts, poll_rows=300), labels, FOLDS).folds
    return [replace(fold, evaluations=[replace(one, seconds=0.0) for one in fold.evaluations]) for fold in found]


def by_key(stream: list[dict[str, object]]) -> list[dict[str, object]]:
    """As a file that has one key after the other."""
    return sorted(stream, key=lambda event: str(event["k"]))


@pytest.mark.parametrize("ordered", [list, by_key])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("told", [1, 2])
def test_what_comes_after_a_judged_stretch_changes_no_bit_of_its_fold(ordered, seed: int, told: int) -> None:
    """The values of all later records are permuted, their labels turned round, and some are made wild."""
    one = events()
    noise, first = np.random.default_rng(seed), (told + 1) * SIZE
    order = noise.permutation(np.arange(first, ROWS))
    other = one[:first] + [
        event | {"a": one[at]["a"] if noise.random() < 0.9 else 1e6, "label": 1 - int(str(event["label"]))}
        for event, at in zip(one[first:], order.tolist(), strict=True)
    ]
    before, after = folds(ordered(one)), folds(ordered(other))
    assert repr(before[:told]) == repr(after[:told])
    assert repr(before[told:]) != repr(after[told:])


def test_a_model_learns_from_every_record_before_its_stretch_and_from_none_of_it(monkeypatch) -> None:
    learnt = []

    class Seen(LocalModels):
        def __init__(self, made, bundles=()) -> None:
            learnt.extend(Bundle.from_bytes(bundle, None, None).manifest for bundle in bundles)
            super().__init__(made, bundles)

    monkeypatch.setattr(cross_validate, "LocalModels", Seen)
    found = folds(events())
    assert [(one.first_ms, one.last_ms + STEP_MS) for one in learnt] == [(START_MS, fold.first_ms) for fold in found]
    assert [one.rows for one in learnt] == [SIZE, 2 * SIZE, 3 * SIZE] == [fold.learnt for fold in found]


@pytest.mark.parametrize("ordered", [list, by_key])
@pytest.mark.parametrize("partitions", [1, 3])
def test_the_folds_cover_all_but_the_first_stretch_once(ordered, partitions: int) -> None:
    found = folds(ordered(events()), partitions=partitions)
    assert [fold.evaluations[0].figures.rows for fold in found] == [SIZE] * FOLDS
    assert [fold.evaluations[0].figures.labelled for fold in found] == [SIZE // 50] * FOLDS
    assert found[0].first_ms == START_MS + STEP_MS * SIZE
    assert [fold.first_ms for fold in found[1:]] == [fold.last_ms + 1 for fold in found[:-1]]
    assert found[-1].last_ms == START_MS + STEP_MS * (ROWS - 1)
    for fold in found:
        names = [one.name for one in fold.evaluations]
        assert names == ["mine", "untrained", "random", "always", "differences", "variances"]
        assert fold.evaluations[0].figures.roc_auc > 0.99


@given(st.lists(st.integers(0, 400), min_size=1, max_size=300), st.integers(2, 8))
def test_stretches_part_the_records_evenly(times: list[int], folds: int) -> None:
    """But for records of one time, which stay together; where those are too many, nothing is cut."""
    ordered = np.sort(np.array(times))
    most = int(np.unique(ordered, return_counts=True)[1].max())
    try:
        cuts = cuts_of(ordered, folds)
    except InputError:
        assert len(ordered) // (folds + 1) <= most
        return
    sizes = np.diff(np.searchsorted(ordered, np.concatenate([[ordered[0]], cuts])))
    assert len(cuts) == folds + 1
    assert sizes.sum() == len(ordered)
    assert (sizes > 0).all()
    assert (np.abs(sizes - len(ordered) / (folds + 1)) <= most + 1).all()


def test_the_first_records_of_a_key_are_learnt_and_do_not_count() -> None:
    found = folds(events(), Labels(warm_up=SIZE // KEYS + 10))
    assert [fold.evaluations[0].figures.rows for fold in found] == [SIZE - 10 * KEYS, SIZE, SIZE]
    assert found[0].learnt == SIZE


def test_a_stream_without_labels_is_compared_by_its_flags() -> None:
    found = folds([{name: one for name, one in event.items() if name != "label"} for event in events()], Labels(""))
    for fold in found:
        f = fold.evaluations[0].figures
        assert (f.labelled, f.roc_auc != f.roc_auc) == (0, True)
        assert f.false_alarm_rate == f.flagged / f.rows


def test_figures_that_a_fold_does_not_have_are_left_out_of_the_mean() -> None:
    assert mean_and_deviation([1.0, np.nan, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert repr(mean_and_deviation([np.nan, 3.0])) == "(3.0, nan)"
    assert repr(mean_and_deviation([])) == "(nan, nan)"


def test_a_stream_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(InputError, match=r"--folds 3: 1,600 events at 1 different times do not make 4 stretches"):
        folds([event | {"t": START_MS} for event in events()])
    with pytest.raises(InputError, match=r"evaluate, fold 1 of 3: 10 usable rows, at least 128 are needed"):
        folds(events()[:40])
