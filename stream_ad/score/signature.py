"""Signatures of bundles: Ed25519 over the sha256 that the manifest names. Keys are PEM files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from stream_ad.errors import ConfigError, ModelError

_PURPOSE = b"stream_ad bundle "  # so that a signature for another purpose, with the same key, is not valid for a bundle


class Trust:
    """Accepts bundles that one of `models.verify_keys` verifies; without keys, all bundles."""

    def __init__(self, paths: Sequence[str] = ()) -> None:
        """Raises `ConfigError` for a key that cannot be read."""
        self._keys = [_public(path) for path in paths]

    def check(self, version: str, sha256: str, signature: str) -> None:
        """Raises `ModelError`."""
        if not self._keys:
            return
        if not signature:
            raise ModelError(
                f"model {version}: not signed, and models.verify_keys asks for a signature; "
                "`stream-ad models add` signs with models.signing_key"
            )
        try:
            raw = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            raise ModelError(f"model {version}: damaged: its signature is not base64") from None
        for key in self._keys:
            try:
                key.verify(raw, _PURPOSE + sha256.encode())
                return
            except InvalidSignature:
                continue
        raise ModelError(f"model {version}: its signature fits none of models.verify_keys")


def signature(path: str, sha256: str) -> str:
    """By the private key in the file that `models.signing_key` names. Raises `ConfigError`."""
    name = "models.signing_key"
    key = _loaded(name, path, lambda pem: load_pem_private_key(pem, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(name, path, "private")
    return base64.b64encode(key.sign(_PURPOSE + sha256.encode())).decode()


def _public(path: str) -> Ed25519PublicKey:
    name = "models.verify_keys"
    key = _loaded(name, path, load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(name, path, "public")
    return key


def _loaded(name: str, path: str, load: Callable[[bytes], object]) -> object:
    """None for text that is no key. Raises `ConfigError`."""
    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"{name}: {path} cannot be read: {error.strerror}") from None
    except TypeError:
        raise ConfigError(f"{name}: {path} is encrypted; a key without a passphrase is expected") from None
    except (ValueError, UnsupportedAlgorithm):
        return None


def _no_key(name: str, path: str, kind: str) -> ConfigError:
    return ConfigError(f"{name}: {path} holds no {kind} Ed25519 key in PEM; SECURITY.md tells how to make one")
