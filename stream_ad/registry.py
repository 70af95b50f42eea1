"""Which class a name in the configuration stands for: built in, or an entry point of another package.

Entry-point groups: `stream_ad.codec`, `stream_ad.window`, `stream_ad.threshold`, `stream_ad.scorer`. A class
that lacks a method of its contract (`stream_ad.protocols`) is refused here, where it enters.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pydantic import BaseModel

from stream_ad.errors import ConfigError
from stream_ad.protocols import Bundled, Codec, Composed, Scorer, Threshold, Trainable, Window

if TYPE_CHECKING:
    from stream_ad.config import ScorerOptions

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
        "mahalanobis": "stream_ad.score.density.mahalanobis:Mahalanobis",
        "pca": "stream_ad.score.density.pca:Pca",
        "nearest_neighbours": "stream_ad.score.density.nearest_neighbours:NearestNeighbours",
        "ensemble": "stream_ad.score.ensemble:Ensemble",
    },
}
# A part's options are an attribute of its class. Those of the parts that import numba or torch stand here once
# more ("" = it declares none), so that reading a configuration imports neither.
OPTIONS: dict[str, dict[str, str]] = {
    "codec": {"json": ""},
    "window": {"count": "", "time": ""},
    "threshold": {"ewma": "stream_ad.fold.thresholds.options:EwmaOptions"},
    "scorer": {
        "statistical": "stream_ad.config.parts:ScorerOptions",
        "autoencoder": "stream_ad.score.reconstruction.options:NetworkOptions",
        "vae": "stream_ad.score.reconstruction.options:VaeOptions",
        "half_space_trees": "stream_ad.score.density.options:TreesOptions",
        "mahalanobis": "stream_ad.config.parts:ScorerOptions",
        "pca": "stream_ad.score.density.options:PcaOptions",
        "nearest_neighbours": "stream_ad.score.density.options:NeighboursOptions",
        "ensemble": "stream_ad.score.options:EnsembleOptions",
    },
}
# the key of the configuration that names a part
KEYS = {"codec": "record.format", "window": "window.kind", "threshold": "threshold.kind", "scorer": "train.scorer"}


@runtime_checkable
class HasOptions(Protocol):
    """A class of a part that declares options: a subclass of the kind's section, see `stream_ad.config.parts`."""

    Options: type[BaseModel]


def names(kind: str) -> list[str]:
    """All registered names of a kind."""
    return sorted({*BUILT_IN[kind], *(point.name for point in entry_points(group=f"stream_ad.{kind}"))})


def has(kind: str, name: str) -> bool:
    return name in BUILT_IN[kind] or bool(entry_points(group=f"stream_ad.{kind}", name=name))


def codec(name: str) -> type[Codec]:
    """Raises `ConfigError` naming the configuration's key, as all of these do."""
    part = _class("codec", name, KEYS["codec"])
    if not issubclass(part, Codec):
        raise _incomplete(part, Codec, "codec", name, KEYS["codec"])
    return part


def window(name: str) -> type[Window]:
    part = _class("window", name, KEYS["window"])
    if not issubclass(part, Window):
        raise _incomplete(part, Window, "window", name, KEYS["window"])
    return part


def threshold(name: str) -> type[Threshold]:
    part = _class("threshold", name, KEYS["threshold"])
    if not issubclass(part, Threshold):
        raise _incomplete(part, Threshold, "threshold", name, KEYS["threshold"])
    return part


def scorer(name: str, where: str = KEYS["scorer"]) -> type[Scorer]:
    """`where` begins the error: the key, or the bundle that names the scorer."""
    part = _class("scorer", name, where)
    if not issubclass(part, Scorer):
        raise _incomplete(part, Scorer, "scorer", name, where)
    return part


def bundled(name: str, where: str = KEYS["scorer"]) -> type[Bundled]:
    """A scorer that a bundle can hold."""
    part: type = scorer(name, where)
    if not issubclass(part, Bundled):
        raise _incomplete(part, Bundled, "scorer of a bundle", name, where)
    return part


def trainable(name: str, where: str = KEYS["scorer"]) -> type[Trainable[ScorerOptions]] | type[Composed[ScorerOptions]]:
    """A scorer that can be trained; it takes options of the class's own `Options`."""
    part: type = scorer(name, where)
    if issubclass(part, Composed):
        return part
    if not issubclass(part, Trainable):
        others = ", ".join(other for other in names("scorer") if other != name)
        raise ConfigError(
            f"{where}: {name} has nothing to train: {part.__name__} lacks {_missing(part, Trainable)}; "
            f"choose another of: {others}"
        )
    return part


_LOOK_UP: dict[str, Callable[[str], type[object]]] = {
    "codec": codec,
    "window": window,
    "threshold": threshold,
    "scorer": scorer,
}


def options(kind: str, name: str) -> type[BaseModel] | None:
    """The options that a part declares; None = it declares none. Raises `ConfigError`."""
    path = OPTIONS[kind].get(name)
    declared: object
    if path is not None:
        declared = _imported(path) if path else None
    else:
        part = _LOOK_UP[kind](name)
        declared = part.Options if isinstance(part, HasOptions) else None
    if declared is not None and not (isinstance(declared, type) and issubclass(declared, BaseModel)):
        raise ConfigError(f"{KEYS[kind]}: {name}: its Options must be a pydantic model, not {declared!r:.100}")
    return declared


def _class(kind: str, name: str, where: str) -> type:
    part: object = None
    if name in BUILT_IN[kind]:
        part = _imported(BUILT_IN[kind][name])
    else:
        for point in entry_points(group=f"stream_ad.{kind}", name=name):
            try:
                part = point.load()
            except Exception as error:
                raise ConfigError(f"{where}: plug-in {name!r} ({point.value}) cannot be loaded: {error}") from error
            break
        else:
            raise ConfigError(f"{where}: no {kind} is called {name!r}; there are: {', '.join(names(kind))}")
    if not isinstance(part, type):
        raise ConfigError(f"{where}: {kind} {name!r} is no class but {part!r:.100}")
    return part


def _imported(path: str) -> object:
    module, _, attribute = path.partition(":")
    part: object = getattr(importlib.import_module(module), attribute)
    return part


def _incomplete(part: type, contract: type, kind: str, name: str, where: str) -> ConfigError:
    return ConfigError(
        f"{where}: {name} is no {kind}: {part.__name__} lacks {_missing(part, contract)} "
        f"(see {contract.__name__} in stream_ad.protocols)"
    )


def _missing(part: type, contract: type) -> str:
    wanted = [name for name, _ in inspect.getmembers(contract, callable) if not name.startswith("_")]
    return ", ".join(name for name in wanted if name not in dir(part))
