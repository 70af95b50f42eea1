"""A bundle: the file format of a trained model. Safetensors with a JSON manifest; never pickle."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from stream_ad import registry
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ConfigError, ModelError
from stream_ad.protocols import ModelInfo
from stream_ad.score.signature import Trust, signature

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says about itself."""

    kind: str  # the scorer's registered name
    architecture: Mapping[str, Any]  # w, f and what else fixes the shapes of the scorer's tensors
    spec: str  # FeatureSpec.to_json()
    source: str  # where the training rows came from
    first_ms: int  # event time of the first and the last training row
    last_ms: int
    rows: int
    metrics: Mapping[str, float]
    quality: Mapping[str, list[float]]  # what the report draws: see `train.quality`
    created_ms: int
    format: int = FORMAT
    version: str = ""  # filled in by `Bundle.of`
    sha256: str = ""  # of the manifest without these two, and the tensors

    def to_json(self) -> str:
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS).decode()


def new_version(created_ms: int, sha: str) -> str:
    """As in "20261122T161500-ab12cd34": it sorts by time, and the hash names the content."""
    return f"{datetime.fromtimestamp(created_ms / 1000, UTC):%Y%m%dT%H%M%S}-{sha[:8]}"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    version: str
    manifest: Manifest
    tensors: dict[str, Tensor]
    signature: str = ""  # base64, of the sha256; no part of the content

    @classmethod
    def of(cls, manifest: Manifest, tensors: Mapping[str, Tensor]) -> Bundle:
        """Completes the manifest with hash and version."""
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        sha = _sha256(manifest, held)
        version = new_version(manifest.created_ms, sha)
        return cls(version, replace(manifest, version=version, sha256=sha), held)

    @property
    def spec(self) -> FeatureSpec:
        return FeatureSpec.from_json(self.manifest.spec)

    def info(self) -> ModelInfo:
        m = self.manifest
        return ModelInfo(self.version, m.kind, m.created_ms, m.sha256, len(self.to_bytes()), dict(m.metrics))

    def with_metrics(self, metrics: Mapping[str, float]) -> Bundle:
        """Another version, not signed, whose manifest holds these metrics too."""
        return Bundle.of(replace(self.manifest, metrics={**self.manifest.metrics, **metrics}), self.tensors)

    def signed(self, path: str) -> Bundle:
        """With a signature by the private key in this file. Raises `ConfigError`."""
        return replace(self, signature=signature(path, self.manifest.sha256))

    def to_bytes(self) -> bytes:
        texts = {"manifest": self.manifest.to_json()}
        return safetensors.torch.save(self.tensors, texts | ({"signature": self.signature} if self.signature else {}))

    @classmethod
    def from_bytes(cls, blob: bytes, spec: FeatureSpec | None, trust: Trust | None = None) -> Bundle:
        """Checks everything before a weight is used; `spec` is the pipeline's (None = any).

        Raises `ModelError` for a file that is no bundle, has no signature that `trust` accepts, is damaged, has a newer
        format, an unknown scorer or other features, or holds weights that are not finite.
        """
        manifest, signed = _manifest(blob)
        if trust is not None:
            trust.check(manifest.version, manifest.sha256, signed)
        try:
            tensors = safetensors.torch.load(blob)
        except (SafetensorError, ValueError, KeyError) as error:
            raise ModelError(f"model {manifest.version}: damaged: {error}") from None
        if _sha256(manifest, tensors) != manifest.sha256:
            raise ModelError(f"model {manifest.version}: damaged: its content does not fit its sha256; fetch it again")
        if new_version(manifest.created_ms, manifest.sha256) != manifest.version:
            raise ModelError(f"model {manifest.version}: damaged: the version does not belong to this content")
        bundle = cls(manifest.version, manifest, tensors, signed)
        bundle._check_tensors()
        bundle._check_spec(spec)
        return bundle

    def _check_tensors(self) -> None:
        m = self.manifest
        try:
            scorer = registry.bundled(m.kind, f"model {self.version}")
        except ConfigError as error:
            raise ModelError(str(error)) from None
        try:
            if not _in_bounds(m.architecture):
                raise ValueError("sizes out of all bounds")
            wanted = scorer.shapes(m.architecture)
        except (ConfigError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"model {self.version}: architecture not understood: {error!r}") from None
        for name in sorted(wanted.keys() | self.tensors.keys()):
            shape = list(self.tensors[name].shape) if name in self.tensors else "nothing"
            expected = list(wanted[name]) if name in wanted else "nothing"
            if shape != expected:
                raise ModelError(f"model {self.version}: {name}: {shape} where {expected} is expected")
            if not torch.isfinite(self.tensors[name]).all():
                raise ModelError(f"model {self.version}: {name}: holds values that are not finite; train it again")

    def _check_spec(self, spec: FeatureSpec | None) -> None:
        try:
            own = self.spec
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelError(f"model {self.version}: feature spec not understood: {error!r}") from None
        shape = (self.manifest.architecture.get("w"), self.manifest.architecture.get("f"))
        if shape != (own.rows, len(own.features)):
            raise ModelError(
                f"model {self.version}: built for [w,f] = {list(shape)}, but its feature spec says otherwise"
            )
        if spec is not None and spec != own:
            raise ModelError(
                f"model {self.version}: made for other features: {_difference(own, spec):.1000}; "
                "train a new one with this configuration, or go back to the configuration it was trained with"
            )


def _in_bounds(architecture: Mapping[str, Any]) -> bool:
    """Whether all sizes are plausible: a scorer allocates by them before the tensors are compared with them."""
    numbers = [number for value in architecture.values() for number in (value if isinstance(value, list) else [value])]
    natural = all(type(architecture[name]) is int for name in ("w", "f"))
    small = all(0 <= number < 2**31 for number in numbers if isinstance(number, int | float))
    return natural and small and len(str(numbers)) < 1000


def _manifest(blob: bytes) -> tuple[Manifest, str]:
    """The manifest and the signature ("" = none), which is not checked here."""
    # a safetensors file starts with eight bytes of a length, and then an object
    if blob[8:9] != b"{" and (blob[:1] == b"\x80" or blob[:4] == b"PK\x03\x04"):
        raise ModelError("model: a pickle or torch.save file; such files can run code and are never loaded")
    try:
        (length,) = struct.unpack_from("<Q", blob)
        header = blob[8 : 8 + length]
        texts = orjson.loads(header)["__metadata__"]
        text, signed = texts["manifest"], str(texts.get("signature", ""))
        data = orjson.loads(text)
        # other spellings of the same values would have the same hash; `to_bytes` writes only the canonical one
        if orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode() != text:
            raise ValueError("the manifest is not as it was written")
        if not isinstance(data["format"], int) or data["format"] > FORMAT:
            raise ModelError(f"model: format {data['format']}, this program reads up to {FORMAT}; upgrade stream-ad")
        manifest = Manifest(**data)
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"model: not a bundle, or cut short ({len(blob)} bytes): {error}") from None
    for field in fields(Manifest):
        kind = {"int": int, "str": str, "Mapping": dict}[str(field.type).partition("[")[0]]
        if not isinstance(getattr(manifest, field.name), kind):
            raise ModelError(f"model: damaged: manifest.{field.name} is not what it should be")
    return manifest, signed


def _sha256(manifest: Manifest, tensors: Mapping[str, Tensor]) -> str:
    content = replace(manifest, version="", sha256="")
    digest = hashlib.sha256(content.to_json().encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _difference(model: FeatureSpec, pipeline: FeatureSpec) -> str:
    for index, (ours, theirs) in enumerate(zip(model.features, pipeline.features, strict=False)):
        if ours != theirs:
            if ours.name != theirs.name:
                return f"feature {index} is {ours.name} in the model and {theirs.name} in the configuration"
            return f"feature {ours.name} was {asdict(ours)} in training and is {asdict(theirs)} now"
    if len(model.features) != len(pipeline.features):
        more, where = max(
            (model.features, "model"), (pipeline.features, "configuration"), key=lambda side: len(side[0])
        )
        less = min(len(model.features), len(pipeline.features))
        return f"only the {where} has {', '.join(feature.name for feature in more[less:])}"
    for field in fields(FeatureSpec):
        ours_value, theirs_value = getattr(model, field.name), getattr(pipeline, field.name)
        if ours_value != theirs_value:
            return f"{field.name} was {ours_value} in training and is {theirs_value} now"
    raise AssertionError("the specs are equal")
