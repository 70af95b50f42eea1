"""A streaming anomaly detector for Kafka topics. `__all__` is what a notebook needs (docs/python.md).

Each name is loaded when it is asked for: every start of a command and of a worker imports this module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_ad.batch import RawBatch
    from stream_ad.config import Config, load, parse
    from stream_ad.errors import StreamAdError
    from stream_ad.io.bounded import read
    from stream_ad.io.files import FileSource
    from stream_ad.score.local import LocalModels
    from stream_ad.state.assemble import Assembly, Judged, judge

    __version__: str
else:
    _MODULES = {
        "Assembly": "stream_ad.state.assemble",
        "Config": "stream_ad.config",
        "FileSource": "stream_ad.io.files",
        "Judged": "stream_ad.state.assemble",
        "LocalModels": "stream_ad.score.local",
        "RawBatch": "stream_ad.batch",
        "StreamAdError": "stream_ad.errors",
        "judge": "stream_ad.state.assemble",
        "load": "stream_ad.config",
        "parse": "stream_ad.config",
        "read": "stream_ad.io.bounded",
    }

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("stream-ad")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)


__all__ = [
    "Assembly",
    "Config",
    "FileSource",
    "Judged",
    "LocalModels",
    "RawBatch",
    "StreamAdError",
    "__version__",
    "judge",
    "load",
    "parse",
    "read",
]
