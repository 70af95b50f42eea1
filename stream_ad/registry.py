"""Which class a name in the configuration stands for: built in, or an entry point of another package.

Entry-point groups: `stream_ad.codec`, `stream_ad.window`, `stream_ad.threshold`, `stream_ad.scorer`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from stream_ad.errors import ConfigError

BUILT_IN: dict[str, dict[str, str]] = {
    "codec": {"json": "stream_ad.codec.json:JsonCodec"},
    "window": {
        "count": "stream_ad.fold.windows:CountWindow",
        "time": "stream_ad.fold.windows:TimeWindow",
    },
    "threshold": {"ewma": "stream_ad.fold.thresholds.ewma:EwmaThreshold"},
    "scorer": {
        "statistical": "stream_ad.score.statistical:Statistical",
        "autoencoder": "stream_ad.score.reconstruction.autoencoder:Autoencoder",
        "vae": "stream_ad.score.reconstruction.vae:Vae",
        "half_space_trees": "stream_ad.score.density.half_space_trees:HalfSpaceTrees",
    },
}


def names(kind: str) -> list[str]:
    """All registered names of a kind."""
    return sorted({*BUILT_IN[kind], *(point.name for point in entry_points(group=f"stream_ad.{kind}"))})


def lookup(kind: str, name: str, key: str) -> Any:
    """The class called `name`. Raises `ConfigError` naming the configuration's `key`."""
    if name in BUILT_IN[kind]:
        module, _, attribute = BUILT_IN[kind][name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    for point in entry_points(group=f"stream_ad.{kind}", name=name):
        try:
            return point.load()
        except Exception as error:
            raise ConfigError(f"{key}: plug-in {name!r} ({point.value}) cannot be loaded: {error}") from error
    raise ConfigError(f"{key}: no {kind} is called {name!r}; there are: {', '.join(names(kind))}")
