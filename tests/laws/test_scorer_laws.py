"""Laws of every registered scorer, through the engine that runs them, on every kind of device that is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stream_ad import config
from stream_ad.config.features import FeatureSpec
from stream_ad.evaluation.ranking import Ranking
from stream_ad.score.engine import CPU_ROWS, Engine, Loaded
from stream_ad.score.train import train
from tests.support.models import KINDS, SPEC, blob, bundle, windows, with_outliers

W, F = SPEC.rows, len(SPEC.features)
SCORERS = [*KINDS, "vae with samples"]
POOL = np.concatenate(
    [windows(2500, seed=2)[0], np.full((1, W, F), np.nan, np.float32), np.full((1, W, F), 1e30, "f4")]
)


DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(scope="module", params=DEVICES)
def engine(request):
    engine = Engine(config.Scoring(device=request.param), SPEC)
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=SCORERS)
def loaded(request, engine) -> Loaded:
    if request.param == "vae with samples":
        return engine.load(bundle("vae", samples=4).to_bytes())
    return engine.load(blob(request.param))


def scores(engine, loaded, *xs):
    return engine.submit(loaded, list(xs)).result()


@settings(max_examples=25)
@given(data=st.data())
def test_a_score_is_the_same_bits_alone_and_in_any_batch_at_any_position(engine, loaded, data):
    sizes = data.draw(st.lists(st.integers(0, CPU_ROWS + 200), min_size=1, max_size=4))
    rows = np.random.default_rng(data.draw(st.integers(0, 2**32))).integers(0, len(POOL), sum(sizes))
    parts = np.split(POOL[rows], np.cumsum(sizes)[:-1])
    together = scores(engine, loaded, *parts)
    assert [len(part) for part in together] == sizes
    expected = scores(engine, loaded, POOL)[0][rows]
    assert np.array_equal(np.concatenate(together), expected)
    if sum(sizes):
        row = data.draw(st.integers(0, sum(sizes) - 1))
        assert scores(engine, loaded, POOL[rows[row]][None])[0][0] == expected[row]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["autoencoder", "vae", "vae with samples"])
@pytest.mark.parametrize(("rows", "fields", "hidden"), [(6, 5, [8, 4]), (3, 7, [5, 3]), (1, 1, [2]), (5, 3, [33, 17])])
def test_networks_of_any_width_score_and_explain_a_row_alone_as_among_others(device, kind, rows, fields, hidden):
    """Odd widths are where libraries choose other kernels."""
    settings = {"scorer": kind.split()[0], "samples": 4 * ("samples" in kind), "epochs": 1, "hidden": hidden}
    numeric = {f"f{number}": ["raw"] for number in range(fields)}
    parsed = config.parse({"window": {"rows": rows}, "features": {"event": [], "numeric": numeric}, "train": settings})
    spec = FeatureSpec.of(parsed)
    x = np.random.default_rng(1).normal(size=(1000, rows, fields)).astype(np.float32)
    made = train(x, np.arange(1000) * 1000, spec, parsed.train, "widths", 0, None)
    engine = Engine(config.Scoring(device=device), spec)
    loaded = engine.load(made.to_bytes())
    pool = 2 * x[:100]
    expected, told = scores(engine, loaded, pool)[0], engine.explain(loaded, pool).result()
    for row in range(64):
        assert scores(engine, loaded, pool[row : row + 3])[0][0] == expected[row]
        alone = engine.explain(loaded, pool[row][None]).result()
        assert np.array_equal(alone.expected[0], told.expected[row])
        assert np.array_equal(alone.contribution[0], told.contribution[row])
    engine.close()


def test_a_row_scores_the_same_at_every_position_of_a_chunk(engine, loaded):
    for row in (0, 1, 7, len(POOL) - 1):
        found = scores(engine, loaded, np.repeat(POOL[row][None], CPU_ROWS, axis=0))[0]
        assert np.array_equal(found, np.full(CPU_ROWS, found[0]))


@settings(max_examples=60)
@given(x=arrays.arrays(np.float32, (3, W, F), elements=st.floats(width=32)))
def test_every_input_has_a_finite_score_and_explanation(engine, loaded, x):
    assert np.isfinite(scores(engine, loaded, x)[0]).all()
    explanation = engine.explain(loaded, x).result()
    assert np.isfinite(explanation.contribution).all()
    assert np.isfinite(explanation.expected).all()
    assert np.isfinite(explanation.spread).all()
    assert explanation.contribution.sum((1, 2)) == pytest.approx(1.0, abs=1e-4)


def test_nothing_known_is_nothing_anomalous(engine, loaded):
    assert scores(engine, loaded, np.full((2, W, F), np.nan, np.float32))[0].tolist() == [0.0, 0.0]


def test_explanations_do_not_depend_on_the_batch(engine, loaded):
    together = engine.explain(loaded, POOL[:100]).result()
    for row in range(100):
        alone = engine.explain(loaded, POOL[row][None]).result()
        assert np.array_equal(alone.contribution[0], together.contribution[row])
        assert np.array_equal(alone.expected[0], together.expected[row])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="about machines with a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_cuda_device_scores_and_explains_as_the_cpu_does(kind):
    """A model that was trained and tried on one is the same judge on the other."""
    told = []
    for device in DEVICES:
        engine = Engine(config.Scoring(device=device), SPEC)
        loaded = engine.load(blob(kind))
        told.append((scores(engine, loaded, POOL)[0], engine.explain(loaded, POOL[:100]).result()))
        engine.close()
    (on_cpu, explained), (on_cuda, explained_there) = told
    assert on_cuda == pytest.approx(on_cpu, abs=2e-3)
    assert explained_there.contribution == pytest.approx(explained.contribution, abs=2e-3)
    assert explained_there.spread == pytest.approx(explained.spread)


def test_scores_are_calibrated_on_normal_rows(engine, loaded):
    x = windows(3000)[0][2400:]
    found = scores(engine, loaded, x)[0]
    assert abs(np.median(found)) < 0.6
    assert 0.5 < np.subtract(*np.percentile(found, [75, 25])) / 1.349 < 1.7


def test_outliers_score_high_and_are_explained_by_their_feature(engine, loaded):
    clean = windows(3000)[0][2400:]
    x, odd, feature = with_outliers(clean)
    found = scores(engine, loaded, x)[0]
    # the trees see marginal extremes only, the statistical scorer nothing where a key has no past
    least = {"HalfSpaceTrees": 0.75, "Statistical": 0.9}.get(type(loaded.scorer).__name__, 0.97)
    assert Ranking.of(found, odd).areas()[0] > least
    explanation = engine.explain(loaded, x[odd]).result()
    assert explanation.contribution.shape == explanation.expected.shape == x[odd].shape
    assert explanation.spread.shape == (odd.sum(), F)
    told = explanation.contribution.sum(1).argmax(1)
    assert (told == feature[odd]).mean() > 0.75
    # what was expected is near what was there before it was made an outlier, in the feature's own unit
    rows, columns = np.flatnonzero(odd), feature[odd]
    before = clean[rows, -1, columns]
    scale = np.nanstd(clean, axis=(0, 1))[columns]
    off = np.abs(explanation.expected[np.arange(len(rows)), -1, columns] - before) / scale
    assert np.nanmedian(off) < 2.0
