from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.errors import ConfigError, ModelError
from stream_ad.score.bundle import Bundle
from stream_ad.score.ensemble import CHUNK, LEAST_STEP, TAILS, Ensemble, _log_tail, _tail
from stream_ad.score.train import train
from tests.support.models import CONFIG, CREATED_MS, SPEC, bundle, scorer_of, windows, with_outliers


def made(*members: str) -> Bundle:
    options = config.parse({"train": {"scorer": "ensemble", "members": list(members), "epochs": 3}}).train
    return train(*windows(1500), SPEC, options, "a test", CREATED_MS)


def loaded(found: Bundle) -> Ensemble:
    return Ensemble.of(found, torch.device("cpu"))


def held(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).exponential(size=n) * 2 - 3)


def test_a_surprise_is_the_logarithm_of_the_share_that_scores_higher() -> None:
    past, later = held(20_000), held(20_000, 1)
    surprise = _log_tail(later, _tail(past)).numpy()
    for nats in (0.5, 1.0, 2.0, 4.0, 5.0):
        assert (surprise > nats).mean() == pytest.approx(np.exp(-nats), rel=0.25)
    # beyond what was seen, an exponential tail goes on as it does: two of these scores are one nat
    far = _log_tail(torch.tensor([40.0, 50.0], dtype=torch.float64), _tail(past))
    assert float(far[1] - far[0]) == pytest.approx(5.0, rel=0.1)


@given(n=st.integers(64, 400), seed=st.integers(0, 99), places=st.sampled_from([0, 1, 6]))
def test_a_higher_score_is_a_higher_surprise_whatever_was_held_back(n: int, seed: int, places: int) -> None:
    """`places` 0: a member that knows few different scores."""
    tail = _tail(held(n, seed).round(decimals=places))
    assert (tail.diff() >= 0.99 * LEAST_STEP).all()
    at = torch.linspace(float(tail[0]), float(tail[-1]) + 50, 500, dtype=torch.float64)
    assert (_log_tail(at, tail).diff() > 0).all()
    assert len(tail) == len(TAILS)


def test_the_score_is_the_root_mean_square_of_surprises_half_of_it_by_those_that_do_not_learn() -> None:
    ensemble = loaded(made("autoencoder", "statistical", "mahalanobis"))
    assert ensemble.weights == [0.25, 0.5, 0.25]
    x = torch.from_numpy(windows(200, seed=3)[0])
    surprise = [
        _log_tail(member.score(x).double(), tail) for member, tail in zip(ensemble.members, ensemble.tails, strict=True)
    ]
    expected = (0.25 * surprise[0] ** 2 + 0.5 * surprise[1] ** 2 + 0.25 * surprise[2] ** 2).sqrt()
    for fused in (ensemble.fused, None):  # the loop of the CPU, and what other devices do
        ensemble.fused = fused
        got = ensemble.score(x).double() * ensemble.calibration[1] + ensemble.calibration[0]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert loaded(made("mahalanobis", "autoencoder")).weights == [0.5, 0.5]


def test_a_row_is_scored_alike_among_any_number_of_rows() -> None:
    """Also where a member's matrix products have another last bit among fewer rows."""
    ensemble = loaded(made("mahalanobis", "nearest_neighbours"))
    x = torch.from_numpy(windows(3 * CHUNK, seed=4)[0])
    together = ensemble.score(x)
    for first, last in ((0, 1), (5, 8), (100, 100 + CHUNK), (7, 300)):
        assert torch.equal(ensemble.score(x[first:last]), together[first:last])


def test_the_member_that_is_surprised_explains() -> None:
    x, odd, feature = with_outliers(windows(400, seed=5)[0])
    explanation = scorer_of("ensemble").explain(torch.from_numpy(x[odd]))
    assert (explanation.contribution.sum(1).argmax(1) == feature[odd]).mean() > 0.9
    first = scorer_of("ensemble").members[0].explain(torch.from_numpy(x[odd]))
    np.testing.assert_array_equal(explanation.expected, first.expected)


def test_a_row_that_surprises_no_member_is_explained_by_all_of_them() -> None:
    x = torch.full((1, *windows(1)[0].shape[1:]), torch.nan)
    x[0, -1, 2] = 0.0
    explanation = scorer_of("ensemble").explain(x)
    assert explanation.contribution.sum() == pytest.approx(1.0, abs=1e-4)


def test_a_bundle_says_what_its_members_are() -> None:
    found = made("statistical", "nearest_neighbours")
    assert found.manifest.kind == "ensemble"
    assert found.manifest.architecture == {
        "w": 6, "f": 5, "members": ["statistical", "nearest_neighbours"], "1.memory": 500, "1.neighbours": 5,
    }  # fmt: skip
    again = Bundle.from_bytes(found.to_bytes(), SPEC)
    x = torch.from_numpy(windows(50, seed=6)[0])
    assert torch.equal(loaded(again).score(x), loaded(found).score(x))


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([], "name at least one"),
        (["vae", "vae"], "none twice"),
        (["psychic"], "no scorer is called 'psychic'"),
        (["ensemble"], "no scorer is called 'ensemble'"),
    ],
)
def test_members_that_cannot_judge_together_are_refused(members: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=rf"train.*{why}"):
        config.parse({"train": {"scorer": "ensemble", "members": members}})


@pytest.mark.parametrize("members", [["ensemble"], ["psychic"], "vae", [1], None, [], ["statistical", "statistical"]])
def test_a_bundle_with_strange_members_is_refused(members: object) -> None:
    from dataclasses import replace

    good = bundle("ensemble")
    manifest = replace(good.manifest, architecture={**good.manifest.architecture, "members": members})
    with pytest.raises(ModelError, match=good.version[:9]):
        Bundle.from_bytes(Bundle.of(manifest, good.tensors).to_bytes(), SPEC)


def test_members_take_the_options_that_stand_beside_them() -> None:
    options = config.parse(
        {"train": {"epochs": 2, "hidden": [9, 3], "memory": 32, "members": ["autoencoder", "nearest_neighbours"]}}
    ).train
    found = train(*windows(800), SPEC, options, "a test", CREATED_MS).manifest
    assert (found.architecture["0.hidden"], found.architecture["1.memory"]) == ([9, 3], 32)
    assert found.metrics["epochs"] == 2
    assert CONFIG.train.scorer == "ensemble"


def test_principal_components_judge_by_default_and_take_their_option() -> None:
    few, many = (
        train(*windows(800), SPEC, config.parse({"train": {"epochs": 1, **own}}).train, "a test", CREATED_MS)
        for own in ({}, {"variance": 0.01})
    )
    at = few.manifest.architecture["members"].index("pca")
    assert few.manifest.architecture["members"] == many.manifest.architecture["members"]
    assert not torch.equal(few.tensors[f"{at}.points"], many.tensors[f"{at}.points"])
