"""Models for a program that judges without a registry and a log of models."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from stream_ad.batch import F32, F64, Explanation
from stream_ad.config import Config
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ModelError
from stream_ad.score.engine import Engine
from stream_ad.score.signature import Trust


class LocalModels:
    """The built-in scorer and some bundles, by version (`Inference`)."""

    def __init__(self, config: Config, bundles: Sequence[bytes] = ()) -> None:
        """Raises `ModelError` where a bundle does not fit `config`, `ConfigError` where the device of `scoring.device`
        is not there."""
        self._engine = Engine(config.scoring, FeatureSpec.of(config), Trust(config.models.verify_keys))
        self._loaded = {loaded.version: loaded for loaded in map(self._engine.load, (None, *bundles))}

    @property
    def versions(self) -> list[str]:
        """The built-in one, then those of the bundles in their order."""
        return list(self._loaded)

    def score(self, version: str, xs: Sequence[F32]) -> list[F64]:
        self._check(version)
        return self._engine.submit(self._loaded[version], xs).result()

    def explain(self, version: str, x: F32) -> Explanation:
        self._check(version)
        return self._engine.explain(self._loaded[version], x).result()

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, version: str) -> None:
        if version not in self._loaded:
            raise ModelError(f"model {version}: is not among {', '.join(self.versions)}; give its bundle")
