"""Files that must not become the model: each is refused with its reason, and the old version goes on judging."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import orjson
import torch

from stream_ad.config import Config, Redis, load
from stream_ad.config.features import FeatureSpec
from stream_ad.io.redis.stores import RedisModelStore
from stream_ad.protocols import ModelInfo
from stream_ad.score.bundle import Bundle
from tests.conftest import Committed
from tests.support.keys import key_pair
from tests.support.pipelines import Program
from tests.support.waiting import until

CONFIG = """
pipeline = "{name}"
kafka.brokers = "{brokers}"
redis.url = "{redis}"
source.topic = "in-{name}"
record = {{ key = "card", timestamp = "ts", timestamp_format = "ms" }}
window.rows = 4
features = {{ event = [], numeric = {{ amount = ["log1p", "zscore"] }} }}
train = {{ auto = false, epochs = 1, min_events = 256 }}
server.port = 0
models = {{ verify_keys = ["{public}"], signing_key = "{private}" }}
"""


class Bait:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._trace,))


def bad_bundles(
    good: Bundle, private: Path, stranger: Path, config: Config, trace: Path
) -> dict[str, tuple[bytes, str]]:
    """What stands in the registry, and what has to be said of it."""
    later = dataclasses.replace(good.manifest, created_ms=good.manifest.created_ms + 1000)
    next_one = Bundle.of(later, good.tensors)
    signed = next_one.signed(str(private)).to_bytes()
    name = sorted(good.tensors)[0]
    shape = Bundle.of(later, good.tensors | {name: torch.zeros(3)}).signed(str(private))
    features = config.features.model_copy(update={"numeric": {"amount": ["log1p", "diff"]}})
    spec = FeatureSpec.of(config.model_copy(update={"features": features}))
    other_spec = Bundle.of(dataclasses.replace(later, spec=spec.to_json()), good.tensors).signed(str(private))
    tampered = bytearray(signed)
    tampered[-1] ^= 1
    return {
        "tampered": (bytes(tampered), "does not fit its sha256"),
        "truncated": (signed[: len(signed) // 2], "damaged"),
        "cut-in-its-header": (signed[:50], "not a bundle, or cut short (50 bytes)"),
        "wrong-shape": (shape.to_bytes(), f"{name}: [3] where"),
        "wrong-features": (other_spec.to_bytes(), "made for other features"),
        "pickle": (pickle.dumps(Bait(trace)), "a pickle"),
        "unsigned": (next_one.to_bytes(), "not signed"),
        "signed-by-another": (next_one.signed(str(stranger)).to_bytes(), "fits none of models.verify_keys"),
        "under-another-name": (signed, f"what is stored under this name is {next_one.version}"),
    }


def test_a_worker_refuses_every_bad_bundle_and_judges_on(
    kafka: str, redis_url: str, name: str, tmp_path: Path, committed: Committed
) -> None:
    private, public = key_pair(tmp_path, "ours")
    stranger, _ = key_pair(tmp_path, "stranger")
    file = tmp_path / "stream_ad.toml"
    file.write_text(CONFIG.format(name=name, brokers=kafka, redis=redis_url, private=private, public=public))
    program = Program(file, name, kafka)
    program("produce", "--input", str(rows(tmp_path / "in.jsonl", 0)))
    program("train", "--promote", "--output", str(tmp_path / "good"))
    config = load(file, {})
    store = RedisModelStore(Redis(url=redis_url, prefix=config.redis.prefix))
    good = Bundle.from_bytes((tmp_path / "good").read_bytes(), FeatureSpec.of(config))
    assert good.signature
    trace = tmp_path / "opened"
    bad = bad_bundles(good, private, stranger, config, trace)
    (tmp_path / "pickle").write_bytes(bad["pickle"][0])
    assert "a pickle" in program("models", "add", str(tmp_path / "pickle"), code=5)
    log = tmp_path / "run.log"
    with program.running("run", log=log):
        until(lambda: alerts(committed, name))
        for version, (blob, reason) in bad.items():
            store.put(ModelInfo(version, "autoencoder", 0, version, len(blob), {}), blob)
            store.promote(version)
            until(
                lambda version=version: f"model {version} is refused, {good.version} goes on" in log.read_text(),
                state=lambda version=version: version,
            )
            (line,) = [line for line in log.read_text().splitlines() if f"model {version} is refused" in line]
            assert reason in line
        before = len(alerts(committed, name))
        program("produce", "--input", str(rows(tmp_path / "more.jsonl", 1)))
        until(lambda: len(alerts(committed, name)) > before)
    assert {alert["model"] for alert in alerts(committed, name)} == {good.version}
    assert not trace.exists()


def rows(path: Path, part: int) -> Path:
    """Of ten keys, one of them off at the end."""
    found = [
        {"card": f"c{i % 10}", "ts": 1_700_000_000_000 + (part * 600 + i) * 1000, "amount": 20 + i % 7}
        for i in range(600)
    ]
    found[-1 - part]["amount"] = 90_000
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in found))
    return path


def alerts(committed: Committed, name: str) -> list[dict[str, object]]:
    return [orjson.loads(row.value() or b"") for row in committed(f"{name}.alerts")]
