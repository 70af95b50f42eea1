from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ad import config
from stream_ad.errors import ConfigError, ModelError
from stream_ad.score.engine import Engine
from tests.support.models import CONFIG, SPEC, blob, bundle, windows


@pytest.fixture
def engine():
    engine = Engine(CONFIG.scoring, SPEC)
    yield engine
    engine.close()


def test_versions_are_those_of_the_bundles(engine):
    assert engine.load(None).version == "statistical"
    assert engine.load(blob("autoencoder")).version == bundle("autoencoder").version


def test_results_come_in_the_order_of_the_parts_in_double_precision(engine):
    x, _ = windows(700)
    loaded = engine.load(blob("autoencoder"))
    empty, first, rest = engine.submit(loaded, [x[:0], x[:300], x[300:]]).result()
    assert (len(empty), len(first), len(rest)) == (0, 300, 400)
    assert first.dtype == rest.dtype == np.float64
    assert np.array_equal(np.concatenate([first, rest]), engine.submit(loaded, [x]).result()[0])
    assert engine.submit(loaded, []).result() == []


def test_the_engine_scores_what_the_scorer_scores(engine):
    x, _ = windows(300)
    loaded = engine.load(blob("vae"))
    assert engine.submit(loaded, [x]).result()[0] == pytest.approx(
        loaded.scorer.score(torch.from_numpy(x)).numpy(), abs=1e-3
    )


def test_an_explanation_of_no_rows_has_no_rows(engine):
    explanation = engine.explain(engine.load(None), windows(3)[0][:0]).result()
    assert explanation.contribution.shape == (0, SPEC.rows, len(SPEC.features))


def test_a_damaged_bundle_is_refused_and_the_engine_goes_on(engine):
    with pytest.raises(ModelError):
        engine.load(b"nonsense")
    assert len(engine.submit(engine.load(None), [windows(5)[0]]).result()[0]) == 5


@pytest.mark.parametrize("device", ["gpu", "cpu:1", "cuda:x", ""])
def test_an_unknown_device_names_its_key(device):
    with pytest.raises(ConfigError, match=r"scoring\.device"):
        Engine(config.Scoring(device=device), SPEC)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_cuda_without_a_gpu_names_its_key():
    with pytest.raises(ConfigError, match=r"scoring\.device: cuda cannot be used"):
        Engine(config.Scoring(device="cuda"), SPEC)
