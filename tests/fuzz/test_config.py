"""Any file and any environment are a configuration, or an error that names the file and the key or the line."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad import registry
from stream_ad.config import Config, load
from stream_ad.config.features import FeatureSpec
from stream_ad.config.parts import KINDS
from stream_ad.errors import ConfigError
from stream_ad.state import assemble
from tests.support.engines import HALF, ROOT, guided, thorough
from tests.support.poison import changed

ROOMS = ("schema", "environment", "sections", "parts", "features")
REACHED = ("stream_ad.config", *(f"stream_ad.config.{name}" for name in ROOMS))
FOLDER = TemporaryDirectory()
FILE = Path(FOLDER.name) / "stream_ad.toml"
MOST_TEXT = 4000
EXAMPLES = [path.read_bytes() for path in sorted((ROOT / "tests" / "data" / "domains").glob("*.toml"))]
EXAMPLES.append((ROOT / "deploy" / "stream_ad.toml").read_bytes())
SECTIONS = {name: field.annotation for name, field in Config.model_fields.items() if name != "pipeline"}
PATHS = [(name, key) for name, section in SECTIONS.items() for key in section.model_fields]  # type: ignore[union-attr]
PARTS = [(section, part) for section, kind in KINDS.items() for part in registry.names(kind.name)]
PATHS += [(section, key) for section, part in PARTS for key in KINDS[section].model(part).model_fields]
ODD: list[Any] = [
    *(None, True, 0, 1, -1, 2**31, 2**63, -(2**70), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "a", "x" * 500, "\0", "\x7f\x80", "\ufffd", "\U0001f600", "\u2028", "a.b", "..", "$key", "$timestamp"),
    *("1s", "5m", "9" * 400 + "d", "1e9s", "-1s", "٣s", "1.5h", "999999999999999d", "2000-01-01", "0001-01-01", "iso"),
    *(
        "9999-12-31T23:59:59+00:01",
        "0001-01-01T00:00:00+23:59",
        "2026-02-30",
        "autoencoder",
        "half_space_trees",
        "nobody",
    ),
    *(
        [],
        [""],
        ["raw"],
        ["raw", "raw"],
        ["ew_mean:5"],
        ["sum:"],
        [[]],
        [1, 2**70],
        [float("nan")],
        ["gap", "count:1h"],
    ),
    *({}, {"a": ["raw"]}, {"a.b": ["raw"], "a": ["raw"]}, {"": [""]}, {"x": {"y": {}}}, {"a.b": "c"}),
    *(
        date(1970, 1, 1),
        datetime(2500, 1, 1, tzinfo=UTC),
        "redis://host/0",
        "raw",
        ["novelty"],
        "count",
        "time",
    ),
]


def written(value: Any) -> str:
    """As in TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "null" if value is None else str(value).lower()


def check(content: bytes, environ: dict[str, str]) -> Config | None:
    FILE.write_bytes(content)
    try:
        config, said = load(FILE, environ), ""
        assert FeatureSpec.of(config).features
        assemble.codec(config)
    except ConfigError as error:
        config, said = None, str(error)
    if config is None:
        for line in said.split("\n") if str(FILE) in said else [said]:
            assert re.fullmatch(rf"({re.escape(str(FILE))}: )?[^ ]+.*: .+", line, re.S), line
            assert line.replace("\n", "").isprintable(), repr(line)
            assert len(line) < MOST_TEXT, line[:200]
    return config


def one(data: bytes) -> None:
    text, *rest = data.split(b"\x1e")
    environ = {}
    for pair in rest:
        name, _, value = pair.partition(b"=")
        environ["STREAM_AD__" + name.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
    check(text, environ)


def seeds() -> list[bytes]:
    odd = [f"[{section}]\n{key} = {written(ODD[at % len(ODD)])}\n" for at, (section, key) in enumerate(PATHS)]
    return [*EXAMPLES, *(text.encode() for text in odd), b"\x1eREDIS__URL=redis://h\x1eWINDOW=1\x1e__=[[\x1eA__B=1"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (b"a = " + b"[" * 10_000, "not valid TOML"),
        (b"a = " + b"{a=" * 10_000, "not valid TOML"),
        (b"[" + b"a." * 2000 + b"a]", "unknown key"),
        (b"[train]\nseed = " + b"9" * 10_000_000, "not valid TOML"),
        (b"[train]\nseed = " + b"9" * 4000, "train.seed"),
        (b"pipeline = '" + b"x" * 10_000_000 + b"'", "pipeline"),
        (b"pipeline = '\xff'", "cannot be read"),
        (b"pipeline = '\\ud800'\npipeline = 1", "end of document"),
        (b"\x1f\x8b\x08\x00", "cannot be read"),
        (b"[window]\nrows = nan", "window.rows"),
        (b"[window]\nspan = '" + b"9" * 400 + b"d'", "window.span"),
        (b"[record]\nearliest = 0001-01-01T00:00:00+23:59", "record.earliest"),
        (b"[kafka.options]\n'a' = {b = 1}", "kafka.options.a"),
        (b"[window]\nrows = 2\nrows = 3", "end of document"),
    ],
)
def test_a_file_that_no_editor_would_write_is_an_error_that_names_its_place(text: bytes, hint: str) -> None:
    FILE.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load(FILE, {})
    assert str(FILE) in str(caught.value)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < MOST_TEXT
    check(text, {})


def test_a_variable_that_is_no_toml_is_an_error_that_names_it() -> None:
    for text in ("[" * 10_000, "9" * 10_000, "[nan, ", "1\nb = 2"):
        environ = {"STREAM_AD__TRAIN__HIDDEN": text}
        with pytest.raises(ConfigError, match=r"train\.hidden.*STREAM_AD__TRAIN__HIDDEN"):
            load(ROOT / "deploy" / "stream_ad.toml", environ)


@pytest.mark.parametrize("name", ["REDIS__URL", "WINDOW__LATE", "RECORD__TIMESTAMP_FORMAT", "PIPELINE", "A\udcff"])
def test_a_variable_that_is_no_text_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"STREAM_AD__{name[0]}.*: this variable is not UTF-8"):
        load(ROOT / "deploy" / "stream_ad.toml", {f"STREAM_AD__{name}": "\udcff"})


def test_any_value_at_any_key_keeps_the_law() -> None:
    inputs = good = 0

    @thorough(HALF // 25 + 1)
    @given(st.integers(0, 2**64))
    def keeps(seed: int) -> None:
        nonlocal inputs, good
        random = Random(seed)
        for _ in range(25):
            inputs += 1
            environ = {}
            tables: dict[str, list[str]] = {}
            for _ in range(random.randint(1, 3)):
                section, key = random.choice(PATHS)
                if random.random() < 0.2:
                    environ[f"STREAM_AD__{section}__{key}".upper()] = written(random.choice(ODD))
                else:
                    tables.setdefault(section, []).append(f"{key} = {written(random.choice(ODD))}\n")
            text = "".join(f"[{name}]\n{''.join(lines)}" for name, lines in tables.items()).encode()
            if random.random() < 0.3:
                text = changed(random.choice(EXAMPLES), random)
            good += check(text, environ) is not None

    keeps()
    assert inputs >= HALF
    assert 0.03 * inputs < good < 0.7 * inputs  # else this shows nothing


def test_whatever_bytes_reach_the_configuration_keep_the_law(tmp_path: Path) -> None:
    guided("config", tmp_path)
