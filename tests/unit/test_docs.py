"""The documentation is true where a test can tell: generated parts, examples, links, commands."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import typer.main

from stream_ad.cli.commands import app
from stream_ad.config import load, parse
from stream_ad.config.environment import ENV_PREFIX
from stream_ad.io.files import FileSource
from stream_ad.jobs.backtest import replayed
from stream_ad.protocols import BUILT_IN as BUILT_IN_MODEL
from tests.support.guides import CODE, ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_architecture_names_every_room_and_the_steps_of_a_record_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "stream_ad"
    entries = {path.name + "/" * path.is_dir() for path in package.iterdir() if not path.name.startswith(("_", "py."))}
    assert {entry for entry in entries if f"`{entry}`" not in page} == set()
    steps = re.findall(r"`([a-z_/]+\.py): (\w+)`", page)
    assert len(steps) > 10
    for file, function in steps:
        assert f"def {function}(" in (package / file).read_text(encoding="utf-8"), f"{file} has no {function}"


def test_generated_pages_are_up_to_date() -> None:
    for path, wanted in generator().pages().items():
        assert path.read_text(encoding="utf-8") == wanted, f"{name(path)} is stale: run `make docs`"


def test_no_metric_and_no_key_is_left_without_words() -> None:
    made = generator()
    rows = [line for line in (made.configuration() + made.metrics_table()).splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [row for row in rows if row.split("|")[-2].strip() == ""] == []


@pytest.mark.usefixtures("guides")
@pytest.mark.parametrize("path", PAGES, ids=name)
def test_toml_examples_are_valid_configurations(path: Path) -> None:
    for language, text in CODE.findall(path.read_text(encoding="utf-8")):
        if language == "toml":
            parse(tomllib.loads(text))


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    text = CODE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{name(path)}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_in_the_documentation_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    commands = typer.main.get_command(app)
    known = set(getattr(commands, "commands", {}))
    # `stream-ad NAME`, at the start of a code span or of a line of a code block
    assert set(re.findall(r"(?:^|`|\$ )stream-ad ([a-z]+)", text, flags=re.M)) <= known
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.M)) <= targets


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_test_that_is_named_as_proof_exists(path: Path) -> None:
    for file, _, function in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", path.read_text(encoding="utf-8")):
        assert (ROOT / file).exists(), f"{name(path)} names {file}"
        assert f"def {function}" in (ROOT / file).read_text(encoding="utf-8"), f"{name(path)} names {function}"


def test_the_notebook_of_the_guide_says_what_a_replay_says_without_its_shell(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (code,) = [text for language, text in CODE.findall(guide) if language == "python"]
    (tmp_path / "stream_ad.toml").write_text(
        '[record]\nkey = "k"\ntimestamp = "t"\ntimestamp_format = "s"\n[window]\nrows = 4\nmax_keys = 10\n'
        '[features.numeric]\na = ["raw", "zscore"]\n[threshold]\nfalse_alarm_rate = 2e-3\n'
        '[redis]\nurl = "redis://127.0.0.1:1"\nwait = "1ms"\n'
    )
    noise = np.random.default_rng(1)
    values = [noise.normal(10) + (60 if at % 100 == 99 else 0) for at in range(1000)]
    rows = [{"k": f"pump-{at % 5}", "t": 1_700_000_000 + at, "a": value} for at, value in enumerate(values)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shell = ("prometheus_client", "confluent_kafka", "redis", "stream_ad.metrics", "stream_ad.runtime")
    code += f"\nimport sys\nassert not [name for name in {shell} if name in sys.modules]\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = load(tmp_path / "stream_ad.toml", {})
    source, alerts = FileSource(tmp_path / "events.jsonl", config), tmp_path / "alerts.jsonl"
    replayed(config, source, alerts, None, None, BUILT_IN_MODEL, swaps=False, progress=lambda events: None)
    assert done.stdout
    assert done.stdout == alerts.read_text()


FEATURED = """
import numpy as np, orjson, torch
from stream_ad.config import Window, parse
from stream_ad.config.features import FeatureSpec
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.keys import Keys
from stream_ad.fold.windows import CountWindow
from stream_ad.messages.explain import contributors
from stream_ad.score.statistical import Statistical
from tests.support.batches import events

window = Window(rows=8)
spec = FeatureSpec.of(parse({"window": {"rows": 8}, "features": {"event": [], "numeric": {"amount": ["multiple"]}}}))
keys, windows, features = Keys(window, 64), CountWindow(window, 1), Featuriser(spec)
values = [9.0, 11.0] * 20 + [None, 80.0]
keyed = keys.step(keys.init(4), events([("k", 1_700_000_000_000 + i, [value]) for i, value in enumerate(values)]))
batch = features.step(features.init(4), windows.step(windows.init(4), keyed))
explanation = Statistical(spec).explain(torch.from_numpy(batch.x[-1:]))
(told,) = contributors(batch, np.array([len(values) - 1]), explanation, spec)[0]
print(orjson.dumps([batch.x[:, -1, 0].tolist(), batch.base[:, 0, 0].tolist(), told.text]).decode())
"""


def test_the_feature_of_the_guide_is_one_file_and_one_line(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "writing-a-feature.md").read_text(encoding="utf-8")
    (code,) = [text for language, text in CODE.findall(guide) if language == "python"]
    (line,) = [text for language, text in CODE.findall(guide) if language == ""]
    for folder in ("stream_ad", "docs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "data"))
    kinds = tmp_path / "stream_ad" / "config" / "feature_kinds"
    (kinds / "multiple.py").write_text(code, encoding="utf-8")
    table = (kinds / "__init__.py").read_text(encoding="utf-8")
    (kinds / "__init__.py").write_text(table.replace("_ROWS = (\n", f"_ROWS = (\n{line}"), encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    laws = ("-m", "pytest", "tests/laws/test_feature_laws.py", "-p", "no:cacheprovider", "-k")
    red = run(*laws, "multiple and reference")
    assert "run `make docs`" in red.stdout, red.stdout + red.stderr
    assert run("docs/generate.py").returncode == 0
    green = run(*laws, "multiple or table")
    assert green.returncode == 0, green.stdout + green.stderr

    done = run("-c", FEATURED)
    assert done.returncode == 0, done.stderr
    x, mean, text = json.loads(done.stdout)
    values = [9.0, 11.0] * 20 + [None, 80.0]
    for feature, value, expected in zip(x, values, mean, strict=True):
        assert feature == (pytest.approx(value / expected) if value is not None and expected is not None else None)
    assert f"`{text}`" in guide


# deploy/


def test_the_compose_file_keeps_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_deployed_configuration_is_valid_with_the_composed_environment() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    environ = dict(re.findall(rf'^\s+({ENV_PREFIX}\w+): "?([^"\n]+)"?$', text, flags=re.M))
    assert environ
    config = load(ROOT / "deploy" / "stream_ad.toml", environ)
    assert config.kafka.brokers.startswith("kafka:")
    assert config.redis.url.startswith("redis://redis:")
    assert config.server.host == "0.0.0.0"
