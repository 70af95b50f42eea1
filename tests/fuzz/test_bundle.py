"""Any bytes are the bundle that they were, or a `ModelError`; a right hash is no excuse, and no pickle is opened."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.errors import ModelError
from stream_ad.score.bundle import Bundle, Manifest
from stream_ad.score.engine import Engine
from tests.support.engines import HALF, guided, thorough
from tests.support.poison import changed
from tests.support.tiny_bundles import ARCHITECTURES, CONFIG, SPEC, F, W, bundle

REACHED = ("stream_ad.score.bundle", "stream_ad.config.features")
MOST_BYTES = 64 << 20  # of memory, whatever a header asks for


def forged(data: Any, tensors: dict[str, torch.Tensor]) -> bytes:
    """With the hash and the version that it should have, where these can be made at all."""
    try:
        return Bundle.of(Manifest(**{**data, "version": "", "sha256": ""}), tensors).to_bytes()
    except (TypeError, ValueError, OverflowError, OSError):
        return safetensors.torch.save(tensors, {"manifest": orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()})


def law(blob: bytes) -> Bundle | None:
    try:
        found, said = Bundle.from_bytes(blob, SPEC), ""
    except ModelError as error:
        found, said = None, str(error)
    if found is None:
        assert said.startswith("model"), said
        assert len(said) < 10_000
        return None
    again = Bundle.from_bytes(found.to_bytes(), SPEC)
    assert again.manifest == found.manifest
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in found.tensors.items())
    return found


def one(data: bytes) -> None:
    """A bundle as it is, or the manifest of one to which the rest is made."""
    if data[:1] != b"\0":
        law(data[1:])
        return
    try:
        manifest = orjson.loads(data[1:])
    except ValueError:
        return
    law(forged(manifest, bundle("autoencoder").tensors))


def seeds() -> list[bytes]:
    manifests = [b"\0" + bundle(kind).manifest.to_json().encode() for kind in ARCHITECTURES]
    return [*manifests, b"\1" + bundle("autoencoder").to_bytes()]


ODD: list[Any] = [None, True, -1, 0, 1, 3, 2**40, 2**63 - 1, 1e300, 0.5, "", "raw", [], [0], [-1, 2], {}, {"a": 1}]
ODD += [[2**40, 2**40], [0.5], ["3"], "x" * 1000, "[" * 5000, "{}", 10**17, -(10**17), "\x1b[2J", 10_000]
TENSORS = [torch.zeros(0), torch.zeros(1), torch.full((2,), float("nan")), torch.ones((3, 4), dtype=torch.float16)]
TENSORS += [torch.ones((3, 4), dtype=torch.int64), torch.ones((3, 4), dtype=torch.bool), torch.ones((1, 1, 12))]
TENSORS += [torch.full((3, 4), 1e38), torch.ones((3, 4), dtype=torch.float64)]


def any_blob(random: Random) -> bytes:
    """A bundle changed at one place, usually with its hash made right again."""
    whole = bundle(random.choice(list(ARCHITECTURES)))
    way = random.random()
    if way < 0.3:
        return changed(whole.to_bytes(), random)
    data: dict[str, Any] = orjson.loads(whole.manifest.to_json())
    tensors = dict(whole.tensors)
    if way < 0.45:
        tensors[random.choice([*tensors, "more"])] = random.choice(TENSORS)
    elif way < 0.6:
        spec = orjson.loads(data["spec"])
        part = random.choice([spec, spec, random.choice(spec["features"])])
        part[random.choice(list(part))] = random.choice(ODD)
        data["spec"] = orjson.dumps(spec).decode()
    elif way < 0.8:
        data["architecture"][random.choice([*data["architecture"], "more"])] = random.choice(ODD)
    elif way < 0.9:
        del data[random.choice(list(data))]
    else:
        data[random.choice([*data, "more"])] = random.choice(ODD)
    return forged(data, tensors)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_good_bundle_is_loaded(kind: str) -> None:
    found = law(bundle(kind).to_bytes())
    assert found is not None
    assert found.version == bundle(kind).version


class Opened:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was opened",))


def test_no_pickle_is_opened_wherever_it_lies() -> None:
    packed = pickle.dumps(Opened())
    saved = io.BytesIO()
    torch.save({"weights": Opened()}, saved)
    whole = bundle("autoencoder").to_bytes()
    for blob in (packed, saved.getvalue(), whole + packed, packed + whole, whole[:8] + packed, b"PK\x03\x04" + whole):
        assert law(blob) is None


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**40, 2**63, 2**64 - 1])
def test_no_header_makes_us_reserve_what_it_asks_for(size: int) -> None:
    header = {"__metadata__": {"manifest": bundle("autoencoder").manifest.to_json()}}
    header["a"] = {"dtype": "F32", "shape": [size, size], "data_offsets": [0, size]}  # type: ignore[dict-item]
    text = orjson.dumps(header)
    tracemalloc.start()
    try:
        for length in (len(text), size):
            assert law(length.to_bytes(8, "little") + text + b"\0" * 64) is None
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_any_change_keeps_the_law_and_what_is_loaded_scores() -> None:
    inputs = loaded = scored = 0
    engine = Engine(CONFIG.scoring, SPEC)
    known = {bundle(kind).version for kind in ARCHITECTURES}

    @thorough(HALF // 25 + 1)
    @given(st.integers(0, 2**64))
    def keeps(seed: int) -> None:
        nonlocal inputs, loaded, scored
        random = Random(seed)
        for _ in range(25):
            inputs += 1
            blob = any_blob(random)
            found = law(blob)
            if found is not None:
                loaded += 1
                if found.version not in known:
                    known.add(found.version)
                    scored += usable(engine, blob)

    try:
        keeps()
    finally:
        engine.close()
    assert inputs >= HALF
    assert loaded > 0.02 * inputs  # else this shows nothing
    assert scored > 10


def usable(engine: Engine, blob: bytes) -> bool:
    """What the loader lets pass is a scorer, or refused with a `ModelError` as well."""
    try:
        scorer = engine.load(blob)
    except ModelError:
        return False
    x = np.zeros((3, W, F), np.float32)
    return len(engine.submit(scorer, [x]).result()[0]) == 3


def test_whatever_bytes_reach_the_loader_keep_the_law(tmp_path: Path) -> None:
    guided("bundle", tmp_path)


def test_a_manifest_is_whole() -> None:
    assert set(orjson.loads(bundle("vae").manifest.to_json())) == set(asdict(bundle("vae").manifest))
