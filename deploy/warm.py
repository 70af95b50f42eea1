"""Compiles every kernel into NUMBA_CACHE_DIR, so that a container's first event does not wait for that."""

from __future__ import annotations

import os
from pathlib import Path

from stream_ad.config import load
from stream_ad.config.features import FeatureSpec
from stream_ad.state import assemble

config = load(Path(os.environ["STREAM_AD_CONFIG"]))
assemble.warm(config, FeatureSpec.of(config))
