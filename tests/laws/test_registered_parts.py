"""Every registered codec and scorer keeps the laws that `stream_ad.testing` offers to plug-ins."""

from __future__ import annotations

import pytest
import torch

from stream_ad import registry
from stream_ad.config import parts
from stream_ad.score.engine import Engine
from stream_ad.testing import check_codec_isolation, check_scorer_pure
from tests.support.models import CONFIG, KINDS, SPEC, blob

GOOD = b'{"k": "card-%d", "t": 1700000000000, "a": %d.5, "c": "shop"}'
BAD = [b"", b"{", b"\xff", b"[]", b"null", b'{"k": 1}', b'{"k": "x", "t": -1}', b'{"a": NaN}', b"{" * 5000, None]


@pytest.mark.parametrize("name", registry.names("codec"))
def test_a_codec_keeps_records_apart(name: str) -> None:
    record = parts.KINDS["record"].read({"format": name, "key": "k", "timestamp": "t", "timestamp_format": "ms"})
    codec = registry.codec(name)(record, ("a",), ("c",))
    good = [GOOD % (number, number) for number in range(40)]
    mixed = [value for number, value in enumerate(good) for value in (value, BAD[number % len(BAD)])]
    check_codec_isolation(codec, mixed)
    check_codec_isolation(codec, good)


@pytest.mark.parametrize("name", KINDS)
def test_a_scorer_is_pure(name: str) -> None:
    engine = Engine(CONFIG.scoring, SPEC)
    try:
        check_scorer_pure(engine.load(blob(name)).scorer, SPEC.rows, len(SPEC.features), torch.from_numpy)
    finally:
        engine.close()
