from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ad.config import parse
from stream_ad.errors import ConfigError, InputError
from stream_ad.evaluation.ranking import Ranking
from stream_ad.score.engine import Engine
from stream_ad.score.report import render, write_report
from stream_ad.score.train import MIN_ROWS, split, train
from tests.support.models import CONFIG, CREATED_MS, SPEC, TRAINED, bundle, windows, with_outliers


def trained(x, ts_ms, progress=None, **options):
    chosen = CONFIG.train.model_copy(update={"scorer": "autoencoder", **options})
    return train(x, ts_ms, SPEC, chosen, "a test", CREATED_MS, progress)


def test_the_split_is_by_time_whatever_the_order_of_the_rows():
    ts_ms = np.random.default_rng(0).permutation(1000).astype(np.int64)
    past, later = split(ts_ms, 0.2)
    assert ts_ms[past].max() < ts_ms[later].min()
    assert sorted([*past, *later]) == list(range(1000))
    assert len(later) == pytest.approx(200, abs=2)
    assert (np.diff(ts_ms[past]) > 0).all()


def test_the_split_leaves_enough_of_both_where_traffic_is_uneven():
    burst_at_the_end = np.concatenate([[0], np.full(999, 1_000_000) + np.arange(999)])
    past, later = split(burst_at_the_end, 0.2)
    assert len(past) == 500
    burst_at_the_start = np.concatenate([np.arange(999), [1_000_000]])
    past, later = split(burst_at_the_start, 0.2)
    assert len(later) == 50
    past, later = split(np.zeros(100, np.int64), 0.2)  # one instant cannot be split
    assert len(past) == 0


@pytest.mark.parametrize("kind", TRAINED)
def test_training_again_gives_the_same_bytes(kind):
    x, ts_ms = windows(600)
    options = {"scorer": kind, "epochs": 2, "samples": 2}
    first = trained(x, ts_ms, **options).to_bytes()
    assert first == trained(x, ts_ms, **options).to_bytes()
    draws = kind not in ("mahalanobis", "pca", "nearest_neighbours")
    assert (first != trained(x, ts_ms, **options, seed=1).to_bytes()) is draws


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_a_network_beats_the_median_on_later_rows(kind):
    metrics = bundle(kind).manifest.metrics
    assert metrics["held_loss"] < 0.7 * metrics["baseline_loss"]
    assert metrics["rows_train"] + metrics["rows_held"] == bundle(kind).manifest.rows


def test_the_manifest_tells_what_it_was_trained_on():
    x, ts_ms = windows(400)
    x[:10, -1] = np.nan  # of no use
    manifest = trained(x, ts_ms + 5000, epochs=1).manifest
    assert (manifest.rows, manifest.first_ms, manifest.last_ms) == (390, 15_000, 404_000)
    assert (manifest.source, manifest.created_ms, manifest.kind) == ("a test", CREATED_MS, "autoencoder")
    assert manifest.architecture == {"w": 6, "f": 5, "hidden": [24, 6]}


def test_progress_is_told_every_epoch_and_training_stops_when_it_no_longer_helps():
    told = []
    noise = np.random.default_rng(0).normal(size=(600, 6, 5)).astype(np.float32)  # nothing to learn
    found = trained(noise, np.arange(600) * 10, lambda *step: told.append(step), epochs=400)
    assert [step[0] for step in told] == list(range(len(told)))
    assert found.manifest.metrics["epochs"] == len(told) < 400
    assert found.manifest.quality["held_loss"] == [step[2] for step in told]
    assert found.manifest.metrics["held_loss"] == min(step[2] for step in told)


def test_too_few_rows_say_how_many():
    x, ts_ms = windows(100)
    with pytest.raises(InputError, match=rf"100 usable rows, at least {2 * MIN_ROWS}"):
        trained(x, ts_ms)
    x, ts_ms = windows(500)
    with pytest.raises(InputError, match="0 rows to learn from and 500 held back"):
        trained(x, np.zeros(500, np.int64))


def test_a_scorer_without_training_names_the_key():
    with pytest.raises(ConfigError, match=r"train\.scorer: statistical has nothing to train"):
        trained(*windows(500), scorer="statistical")
    with pytest.raises(ConfigError, match=r"train\.scorer: no scorer is called 'psychic'"):
        trained(*windows(500), scorer="psychic")


def test_the_trees_are_as_many_and_as_high_as_configured():
    x, ts_ms = windows(500)
    options = parse({"train": {"scorer": "half_space_trees", "trees": 3, "height": 2}}).train
    tensors = train(x, ts_ms, SPEC, options, "a test", CREATED_MS).tensors
    assert tensors["mass"].shape == (3, 7)
    assert trained(x, ts_ms, scorer="half_space_trees").tensors["mass"].shape == (25, 511)


@pytest.mark.parametrize("kind", TRAINED)
def test_a_feature_that_never_came_does_no_harm(kind):
    x, ts_ms = windows(800)
    x[:, :, 3] = np.nan
    found = trained(x, ts_ms, scorer=kind, epochs=2)
    engine = Engine(CONFIG.scoring, SPEC)
    loaded = engine.load(found.to_bytes())
    x[:, -1, 3] = 1e6  # and now it comes
    assert np.isfinite(engine.submit(loaded, [x]).result()[0]).all()
    engine.close()


def test_anomalies_in_the_training_rows_are_not_learnt():
    x, ts_ms = windows(3000)
    clean = x[2400:].copy()
    rng = np.random.default_rng(0)
    spoilt = rng.random(len(x)) < 0.02
    x[spoilt, -1, 0] += 15 * np.nanstd(x[:, :, 0])
    found = trained(x, ts_ms)
    engine = Engine(CONFIG.scoring, SPEC)
    test, odd, _ = with_outliers(clean)
    scores = engine.submit(engine.load(found.to_bytes()), [test]).result()[0]
    engine.close()
    assert Ranking.of(scores, odd).areas()[0] > 0.95


def test_training_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    trained(*windows(400), epochs=1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("kind", TRAINED)
def test_the_report_needs_nothing_else(kind, tmp_path):
    page = render(bundle(kind))
    for text in (bundle(kind).version, "amount.zscore", "held back", "baseline loss"):
        assert text in page
    assert page.count("<svg") == 2
    for address in ("src=", "<link", "<script"):
        assert address not in page
    write_report(bundle(kind), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == page
