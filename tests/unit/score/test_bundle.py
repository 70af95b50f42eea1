from __future__ import annotations

import dataclasses
import io
import pickle

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad import config
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ModelError
from stream_ad.score.bundle import FORMAT, Bundle, new_version
from tests.support.models import CONFIG, CREATED_MS, SPEC, TRAINED, bundle


def remade(tensors=None, **changes) -> bytes:
    """The autoencoder's bundle with other content, whose hash is right."""
    old = bundle("autoencoder")
    return Bundle.of(dataclasses.replace(old.manifest, **changes), old.tensors | (tensors or {})).to_bytes()


def test_the_version_sorts_by_time_and_names_the_content():
    assert new_version(1_795_364_100_000, "ab12cd34ef") == "20261122T161500-ab12cd34"


@pytest.mark.parametrize("kind", TRAINED)
def test_a_bundle_comes_back_as_it_was(kind):
    before = bundle(kind)
    after = Bundle.from_bytes(before.to_bytes(), SPEC)
    assert (after.version, after.manifest) == (before.version, before.manifest)
    assert after.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
    assert after.spec == SPEC
    assert before.version == new_version(CREATED_MS, before.manifest.sha256)
    assert Bundle.from_bytes(before.to_bytes(), None).version == before.version


def test_pickles_are_never_opened():
    for blob in (pickle.dumps({"weights": [1.0]}), _torch_save({"weights": torch.ones(3)})):
        with pytest.raises(ModelError, match="pickle"):
            Bundle.from_bytes(blob, SPEC)


def _torch_save(value) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


@settings(max_examples=150)
@given(data=st.data())
def test_a_cut_or_changed_byte_is_always_refused(data):
    blob = bundle("autoencoder").to_bytes()
    position = data.draw(st.integers(0, len(blob) - 1))
    changed = bytearray(blob)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ModelError):
        Bundle.from_bytes(blob[:position], SPEC)
    with pytest.raises(ModelError):
        Bundle.from_bytes(bytes(changed), SPEC)


@settings(max_examples=60)
@given(blob=st.binary(max_size=200))
def test_any_bytes_that_are_no_bundle_are_refused(blob):
    with pytest.raises(ModelError):
        Bundle.from_bytes(blob, SPEC)


def test_safetensors_of_somebody_else_are_refused():
    with pytest.raises(ModelError, match="not a bundle"):
        Bundle.from_bytes(safetensors.torch.save({"a": torch.ones(2)}), SPEC)


def test_wrong_shapes_name_the_tensor():
    with pytest.raises(ModelError, match=r"encoder0\.bias: \[3\] where \[24\]"):
        Bundle.from_bytes(remade(tensors={"encoder0.bias": torch.zeros(3)}), SPEC)
    with pytest.raises(ModelError, match=r"more: \[3\] where nothing"):
        Bundle.from_bytes(remade(tensors={"more": torch.zeros(3)}), SPEC)


def test_weights_that_are_not_finite_name_the_tensor():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ModelError, match=r"scaler\.centre: .*not finite"):
            Bundle.from_bytes(remade(tensors={"scaler.centre": torch.full((5,), value)}), SPEC)


def test_an_unknown_scorer_and_tensors_of_another_one_are_refused():
    with pytest.raises(ModelError, match="psychic"):
        Bundle.from_bytes(remade(kind="psychic"), SPEC)
    with pytest.raises(ModelError, match="where nothing is expected"):
        Bundle.from_bytes(remade(kind="statistical"), SPEC)


def test_a_newer_format_asks_for_an_upgrade():
    with pytest.raises(ModelError, match="upgrade"):
        Bundle.from_bytes(remade(format=FORMAT + 1), SPEC)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": {"numeric": {"amount": ["raw", "diff"]}}}, "amount.zscore in the model and amount.diff"),
        ({"features": {"numeric": {"more": ["raw"]}}}, "more.raw"),
        ({"features": {"half_life_rows": 7.0}}, "half_life_rows was 3000.0 in training and is 7.0"),
        ({"window": {"rows": 9}}, "rows was 6 in training and is 9"),
    ],
)
def test_other_features_say_which(change, said):
    data = CONFIG.model_dump()
    features = data["features"]
    features["numeric"] |= change.get("features", {}).pop("numeric", {})
    features |= change.get("features", {})
    other = config.parse({"features": features, "window": {"rows": 6} | change.get("window", {})})
    with pytest.raises(ModelError, match=said):
        Bundle.from_bytes(bundle("autoencoder").to_bytes(), FeatureSpec.of(other))


def test_the_registry_entry_of_a_bundle():
    info = bundle("autoencoder").info()
    assert (info.version, info.kind) == (bundle("autoencoder").version, "autoencoder")
    assert info.size_bytes == len(bundle("autoencoder").to_bytes())
    assert info.metrics["held_loss"] < info.metrics["baseline_loss"]


def test_a_header_whose_length_looks_like_a_pickle_is_a_bundle() -> None:
    """One length in 256 starts with the byte that starts a pickle."""
    made = bundle("autoencoder")
    for padding in range(256):
        blob = Bundle.of(dataclasses.replace(made.manifest, source="x" * padding), made.tensors).to_bytes()
        if blob[:1] == b"\x80":
            assert Bundle.from_bytes(blob, SPEC).manifest.source == "x" * padding
            return
    pytest.fail("no length of the header started with the byte of a pickle")
