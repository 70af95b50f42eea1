"""A bundle is used when one of the keys we name has signed it, and not otherwise."""

from __future__ import annotations

import base64
import dataclasses
import subprocess
from pathlib import Path

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stream_ad import config
from stream_ad.errors import ConfigError, ModelError
from stream_ad.jobs import train as training
from stream_ad.score.bundle import Bundle
from stream_ad.score.engine import Engine
from stream_ad.score.signature import Trust
from tests.support.keys import key_pair
from tests.support.models import CONFIG, SPEC, bundle


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Path, Path]:
    """Private and public key."""
    return key_pair(tmp_path, "ours")


def refused(blob: bytes, *keys: Path) -> str:
    with pytest.raises(ModelError) as caught:
        Bundle.from_bytes(blob, SPEC, Trust([str(key) for key in keys]))
    return str(caught.value)


def test_a_signature_travels_with_the_bundle_and_is_no_part_of_it(ours: tuple[Path, Path]) -> None:
    private, public = ours
    plain = bundle("autoencoder")
    signed = Bundle.from_bytes(plain.signed(str(private)).to_bytes(), SPEC, Trust([str(public)]))
    assert signed.signature
    assert (signed.version, signed.manifest) == (plain.version, plain.manifest)
    assert Bundle.from_bytes(signed.to_bytes(), SPEC).signature == signed.signature, "kept where nobody asks for it"


def test_one_of_several_keys_is_enough(tmp_path: Path, ours: tuple[Path, Path]) -> None:
    private, public = ours
    blob = bundle("autoencoder").signed(str(private)).to_bytes()
    _, other = key_pair(tmp_path, "other")
    assert Bundle.from_bytes(blob, SPEC, Trust([str(other), str(public)])).signature


def test_unsigned_and_signed_by_another_are_refused_with_what_to_do(tmp_path: Path, ours: tuple[Path, Path]) -> None:
    other, _ = key_pair(tmp_path, "other")
    plain = bundle("autoencoder")
    said = refused(plain.to_bytes(), ours[1])
    assert plain.version in said
    assert "not signed" in said
    assert "models add" in said
    assert "fits none of models.verify_keys" in refused(plain.signed(str(other)).to_bytes(), ours[1])


def test_a_signature_fits_one_content_only(ours: tuple[Path, Path]) -> None:
    private, public = ours
    signed = bundle("autoencoder").signed(str(private))
    weights = signed.tensors | {"scaler.centre": torch.zeros(5)}
    # with a hash that is right, and with the one that was signed
    honest = dataclasses.replace(Bundle.of(signed.manifest, weights), signature=signed.signature)
    assert "fits none" in refused(honest.to_bytes(), public)
    assert "does not fit its sha256" in refused(dataclasses.replace(signed, tensors=weights).to_bytes(), public)


@pytest.mark.parametrize("text", ["?", "AAAA", base64.b64encode(bytes(64)).decode()])
def test_what_is_no_signature_is_refused(ours: tuple[Path, Path], text: str) -> None:
    assert "signature" in refused(dataclasses.replace(bundle("vae"), signature=text).to_bytes(), ours[1])


def test_a_signature_of_the_hash_alone_is_none_of_a_bundle(ours: tuple[Path, Path]) -> None:
    # the key may sign other things as well: nobody is to have it sign a bundle unawares
    private, public = ours
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(private.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    bare = base64.b64encode(key.sign(bundle("vae").manifest.sha256.encode())).decode()
    assert "fits none" in refused(dataclasses.replace(bundle("vae"), signature=bare).to_bytes(), public)


def test_the_signature_is_looked_at_before_the_weights(ours: tuple[Path, Path]) -> None:
    blob = bundle("autoencoder").to_bytes()
    assert "not signed" in refused(blob[:-5], ours[1])


def test_the_engine_refuses_what_is_not_signed(ours: tuple[Path, Path]) -> None:
    private, public = ours
    engine = Engine(CONFIG.scoring, SPEC, Trust([str(public)]))
    try:
        with pytest.raises(ModelError, match="not signed"):
            engine.load(bundle("autoencoder").to_bytes())
        assert (
            engine.load(bundle("autoencoder").signed(str(private)).to_bytes()).version == bundle("autoencoder").version
        )
        assert engine.load(None).version, "what is built in needs no signature"
    finally:
        engine.close()


def test_what_is_trained_or_added_is_signed_and_must_pass_our_own_check(
    tmp_path: Path, ours: tuple[Path, Path]
) -> None:
    private, public = ours
    other, _ = key_pair(tmp_path, "other")
    models = {"verify_keys": [str(public)], "signing_key": str(private)}
    assert training.approved(config.parse({"models": models}), bundle("vae")).signature
    with pytest.raises(ModelError, match="fits none"):
        training.approved(config.parse({"models": models | {"signing_key": str(other)}}), bundle("vae"))
    checking = {"models": {"verify_keys": [str(public)]}, "train": {"auto": False}}
    with pytest.raises(ModelError, match="not signed"):
        training.approved(config.parse(checking), bundle("vae"))
    assert not training.approved(config.parse({}), bundle("vae")).signature


# Keys


def test_a_key_that_cannot_be_used_is_named(tmp_path: Path, ours: tuple[Path, Path]) -> None:
    private, public = ours
    for path, hint in ((tmp_path / "none.pem", "cannot be read"), (private, "holds no public Ed25519 key")):
        with pytest.raises(ConfigError, match=rf"models\.verify_keys: {path} {hint}"):
            Trust([str(path)])
    with pytest.raises(ConfigError, match=rf"models\.signing_key: {public} holds no private Ed25519 key"):
        bundle("vae").signed(str(public))


def test_the_key_itself_is_refused_and_not_repeated(ours: tuple[Path, Path]) -> None:
    text = ours[0].read_text()
    for key, value in (("signing_key", text), ("verify_keys", [text])):
        with pytest.raises(ConfigError) as caught:
            config.parse({"models": {key: value}})
        assert f"models.{key}: the path of a file" in str(caught.value)
        assert text.splitlines()[1] not in str(caught.value)


def test_a_trainer_that_could_not_sign_is_refused_at_once(ours: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"config: train\.auto: .*models\.signing_key"):
        config.parse({"models": {"verify_keys": [str(ours[1])]}})


def test_the_commands_of_the_manual_make_a_pair_that_works(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "SECURITY.md").read_text()
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("openssl ")]
    assert commands
    for command in commands:
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    signed = bundle("vae").signed(str(tmp_path / "signing.pem"))
    Trust([str(tmp_path / "verify.pem")]).check(signed.version, signed.manifest.sha256, signed.signature)
