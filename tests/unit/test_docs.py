"""The documentation is true where a test can tell: generated parts, examples, links, commands."""

from __future__ import annotations

import importlib.util
import json
import re
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
    replayed(config, source, alerts, None, None, BUILT_IN_MODEL, swaps=False, told=lambda events: None)
    assert done.stdout
    assert done.stdout == alerts.read_text()


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
