"""Every registered part keeps the laws that `stream_ad.testing` offers to plug-ins."""

from __future__ import annotations

import pytest
import torch

from stream_ad import registry
from stream_ad.config.parts import KINDS
from stream_ad.score.engine import Engine
from stream_ad.testing import Encoder, check_codec, check_codec_isolation, check_scorer_pure, check_threshold
from tests.support.models import CONFIG, SPEC, blob
from tests.support.models import KINDS as SCORERS

BAD = [b"", b"{", b"\xff", b"[]", b"null", b'{"k": 1}', b'{"k": "x", "t": -1}', b'{"a": NaN}', b"{" * 5000, None]


@pytest.mark.parametrize("name", registry.names("threshold"))
def test_a_threshold_keeps_the_laws(name: str) -> None:
    check_threshold(lambda: registry.threshold(name)(KINDS["threshold"].read({"kind": name})))


@pytest.mark.parametrize("form", ["ms", "iso"])
@pytest.mark.parametrize("name", registry.names("codec"))
def test_a_codec_keeps_the_law_with_records_of_its_own(name: str, form: str) -> None:
    record = KINDS["record"].read({"format": name, "key": "k", "timestamp": "d.t", "timestamp_format": form})
    codec = registry.codec(name)(record, ("a", "d.x"), ("c", "d.e.f"))
    assert isinstance(codec, Encoder), f"{name} has no `encode`: no law can be checked with records of its own"
    check_codec(codec, codec.encode, numeric=2, categorical=2)


@pytest.mark.parametrize("name", registry.names("codec"))
def test_a_codec_keeps_the_law_where_key_and_time_are_the_records_own(name: str) -> None:
    codec = registry.codec(name)(KINDS["record"].read({"format": name}), ("a",), ())
    assert isinstance(codec, Encoder)
    check_codec(codec, codec.encode, numeric=1, categorical=0)
    good = codec.encode(b"key", 1_700_000_000_000, [1.5], [])
    check_codec_isolation(codec, [value for bad in BAD for value in (good, bad)])


@pytest.mark.parametrize("name", SCORERS)
def test_a_scorer_is_pure(name: str) -> None:
    engine = Engine(CONFIG.scoring, SPEC)
    try:
        check_scorer_pure(engine.load(blob(name)).scorer, SPEC.rows, len(SPEC.features), torch.from_numpy)
    finally:
        engine.close()
