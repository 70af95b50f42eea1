"""A new model is tried beside the one that judges, and does not judge unless it proves itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from stream_ad import config
from stream_ad.errors import ModelError
from stream_ad.io.memory import MemoryModelStore, MemorySource, Record
from stream_ad.jobs import train as training
from stream_ad.jobs.trial import Trial, objections, try_out
from stream_ad.protocols import BUILT_IN
from stream_ad.score.bundle import Bundle
from stream_ad.state.assemble import Assembly

EVENTS, PARTITIONS = 6000, 2
SECTIONS: dict[str, Any] = {
    "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
    "window": {"rows": 4},
    "features": {"event": [], "numeric": {"a": ["zscore"], "b": ["zscore"]}},
    "threshold": {"false_alarm_rate": 1e-3},
    "train": {"epochs": 3, "hidden": [8, 2], "min_events": 256},
}
CONFIG = config.parse(SECTIONS)
PARTS = Assembly.of(CONFIG)


def records(partition: int) -> list[Record]:
    noise = np.random.default_rng(partition)
    rows = []
    for number in range(EVENTS):
        a, b = noise.normal(10, 1), noise.normal(5, 2)
        event = {"k": f"{partition}-{number % 5}", "t": 1_700_000_000_000 + 1000 * number, "a": a, "b": b}
        if number == EVENTS - 100:
            event["a"] = 60.0
        rows.append(Record(None, orjson.dumps(event)))
    return rows


LOG = {partition: records(partition) for partition in range(PARTITIONS)}


@pytest.fixture(scope="module")
def trained() -> tuple[Bundle, Trial]:
    bundle, trial = training.fit(CONFIG, MemorySource("t", LOG), "t")
    assert trial is not None
    return bundle, trial


@pytest.fixture(scope="module")
def latest() -> Sequence[Sequence[object]]:
    return training.collect(CONFIG, MemorySource("t", LOG)).latest.partitions()


def deaf(bundle: Bundle) -> Bundle:
    """The same model, whose scores hardly leave 0."""
    calibration = bundle.tensors["calibration"] * torch.tensor([1.0, 1e6])
    return Bundle.of(bundle.manifest, {**bundle.tensors, "calibration": calibration})


def test_the_second_half_of_each_partition_counts(trained: tuple[Bundle, Trial]) -> None:
    _, trial = trained
    assert trial.rows == PARTITIONS * EVENTS / 2
    assert trial.stated_rate == 1e-3
    assert trial.judge.version == BUILT_IN


def test_the_built_in_scorer_finds_the_spikes_and_says_in_words_what_it_flagged(
    trained: tuple[Bundle, Trial],
) -> None:
    _, trial = trained
    assert trial.judge.found > 0.9 * trial.spikes > 100
    assert any(text.startswith(("0-0: a 60, expected", "1-0: a 60, expected")) for text in trial.judge.examples)
    assert trial.judge.incidents <= trial.judge.flags < 0.01 * trial.rows
    assert f"statistical: {trial.judge.flags:,} flags in {trial.judge.incidents:,} incidents" in trial.words


def test_words_hide_what_alerts_hide(trained: tuple[Bundle, Trial], latest: Sequence[Sequence[object]]) -> None:
    hiding = config.parse(SECTIONS | {"sink": {"redact": ["k", "a"]}})
    trial = try_out(hiding, PARTS, latest, trained[0].to_bytes(), None)
    assert trial is not None
    assert any(": a.zscore ***, " in text for text in trial.judge.examples)
    for text in (*trial.judge.examples, *trial.candidate.examples):
        assert text.startswith("sha256:")
        assert " 60" not in text


def test_the_bundle_holds_the_outcome(trained: tuple[Bundle, Trial]) -> None:
    bundle, trial = trained
    assert trial.metrics.items() <= bundle.manifest.metrics.items()
    assert Bundle.from_bytes(bundle.to_bytes(), PARTS.spec).info().metrics["trial_rows"] == trial.rows


def test_a_model_that_finds_nothing_is_refused(
    trained: tuple[Bundle, Trial], latest: Sequence[Sequence[object]]
) -> None:
    trial = try_out(CONFIG, PARTS, latest, deaf(trained[0]).to_bytes(), None)
    assert trial is not None
    assert trial.candidate.found == trial.candidate.flags == 0
    (reason,) = objections(trial.metrics, CONFIG)
    assert reason.startswith(
        f"it finds 0 of {trial.spikes} spikes, and the version that judges finds {trial.judge.found}"
    )


def test_a_model_is_tried_beside_the_bundle_that_judges(
    trained: tuple[Bundle, Trial], latest: Sequence[Sequence[object]]
) -> None:
    """What is no better than a judge that finds nothing may take its place."""
    judge = deaf(trained[0])
    trial = try_out(CONFIG, PARTS, latest, trained[0].to_bytes(), judge.to_bytes())
    assert trial is not None
    assert (trial.judge.version, trial.judge.found) == (judge.version, 0)
    assert objections(trial.metrics, CONFIG) == []


def test_a_judge_of_other_features_gives_way_to_the_built_in_scorer(
    trained: tuple[Bundle, Trial], latest: Sequence[Sequence[object]]
) -> None:
    other = config.parse(SECTIONS | {"features": {"event": ["gap"], "numeric": {"a": ["zscore"]}}})
    foreign, _ = training.fit(other, MemorySource("t", LOG), "t")
    trial = try_out(CONFIG, PARTS, latest, trained[0].to_bytes(), foreign.to_bytes())
    assert trial is not None
    assert trial.judge.version == BUILT_IN


def test_a_trial_is_the_same_each_time(trained: tuple[Bundle, Trial], latest: Sequence[Sequence[object]]) -> None:
    again = try_out(CONFIG, PARTS, latest, trained[0].to_bytes(), None)
    assert again is not None
    assert again.metrics == trained[1].metrics
    assert again.words == trained[1].words


METRICS = {
    "trial_rows": 10_000.0,
    "trial_spikes": 400.0,
    "trial_flags": 12.0,
    "trial_incidents": 9.0,
    "trial_found": 300.0,
    "trial_judge_flags": 5.0,
    "trial_judge_incidents": 4.0,
    "trial_judge_found": 320.0,
}
BEFORE = {name: figure for name, figure in METRICS.items() if "incidents" not in name}  # of an older version


@pytest.mark.parametrize(
    ("metrics", "models", "said"),
    [
        ({}, {}, None),
        ({"trial_found": 255.0}, {}, "it finds 255 of 400 spikes"),
        ({"trial_found": 255.0}, {"least_found": 0.5}, None),
        ({"trial_incidents": 111.0}, {}, "it opens 111 incidents in 10000 rows where 10.0 false flags are stated"),
        ({"trial_incidents": 111.0}, {"most_flags": 50}, None),
        ({"trial_incidents": 111.0, "trial_judge_incidents": 80.0}, {}, None),
        ({"trial_flags": 999.0}, {}, None),
        ({"trial_flags": 1001.0}, {}, "it flags 1001 of 10000 rows, and the version that judges 5"),
        ({"trial_flags": 1001.0, "trial_judge_flags": 600.0}, {}, None),
        ({"trial_flags": 0.0, "trial_incidents": 0.0}, {}, None),
    ],
)
def test_what_is_asked_of_a_model_is_configured(
    metrics: dict[str, float], models: dict[str, float], said: str | None
) -> None:
    reasons = objections(METRICS | metrics, config.parse({"threshold": {"false_alarm_rate": 1e-3}, "models": models}))
    assert len(reasons) == (said is not None)
    assert said is None or said in reasons[0]


def test_who_wants_to_see_one_event_in_three_gets_a_model_that_shows_them() -> None:
    often = config.parse({"threshold": {"false_alarm_rate": 0.3}})
    assert objections(METRICS | {"trial_flags": 3000.0}, often) == []


def test_a_bundle_that_counted_no_incidents_is_asked_by_its_flags() -> None:
    rate = config.parse({"threshold": {"false_alarm_rate": 1e-3}})
    assert objections(BEFORE, rate) == []
    (reason,) = objections(BEFORE | {"trial_flags": 111.0}, rate)
    assert reason.startswith("it flags 111 of 10000 rows")


def test_a_refused_model_is_registered_and_judges_only_when_forced(trained: tuple[Bundle, Trial]) -> None:
    store = MemoryModelStore()
    bundle = trained[0].with_metrics(METRICS | {"trial_found": 0.0})
    info = training.register(store, bundle)
    with pytest.raises(
        ModelError, match=r"is registered and not promoted: it finds 0 of 400 .* --force` lets it judge"
    ):
        training.promote(store, info, CONFIG)
    assert store.wish().wanted is None
    training.promote(store, info, CONFIG, force=True)
    assert store.wish().wanted == bundle.version
    assert [(action, version) for _, action, version in store.history()] == [("force", bundle.version)]


def test_what_lets_a_model_judge_is_said_as_it_is(trained: tuple[Bundle, Trial]) -> None:
    fit, unfit = trained[0].with_metrics(METRICS).info(), trained[0].with_metrics(METRICS | {"trial_found": 0.0}).info()
    assert training.next_step(fit, CONFIG) == f"`stream-ad models promote {fit.version}` lets it judge"
    assert "refuses it without --force: it finds 0 of 400 spikes" in training.next_step(unfit, CONFIG)


def test_a_model_without_a_trial_may_judge(trained: tuple[Bundle, Trial]) -> None:
    store = MemoryModelStore()
    manifest = trained[0].manifest
    kept = {name: value for name, value in manifest.metrics.items() if not name.startswith("trial_")}
    bundle = Bundle.of(replace(manifest, metrics=kept), trained[0].tensors)
    training.promote(store, training.register(store, bundle), CONFIG, force=True)
    assert [action for _, action, _ in store.history()] == ["promote"]
