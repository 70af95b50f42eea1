"""Any arguments and any files end with a documented exit code and a word on what was wrong, never a stack trace."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest
import typer.main
from hypothesis import given
from hypothesis import strategies as st

from stream_ad import __main__
from stream_ad.cli import commands
from stream_ad.cli.alerts import _parsed
from stream_ad.cli.app import EXIT_CODES
from tests.support.engines import ROOT, RUNS, guided, thorough
from tests.support.poison import any_row, changed
from tests.support.tiny_bundles import bundle

REACHED = ("stream_ad.__main__", "stream_ad.cli.inputs", "stream_ad.cli.init", "stream_ad.propose.toml",
           "stream_ad.propose.infer", "stream_ad.io.tables", "stream_ad.io.files")  # fmt: skip
GUIDED = RUNS // 20  # each reads a whole file
# whoever asks for Kafka is told at once that the option is unknown; nobody listens on port 1
ENVIRON = {"STREAM_AD__KAFKA__OPTIONS__NO_SUCH": "1", "STREAM_AD__REDIS__URL": "redis://127.0.0.1:1/0"}
FOLDER = TemporaryDirectory()
HERE = Path(FOLDER.name)
CONFIG = (ROOT / "tests" / "data" / "domains" / "network.toml").read_bytes()
CODES = commands.COMMANDS
ROWS = [{"timestamp": number, "key": "http", "f0": number % 7, "f1": 0.5, "f2": -1e-3} for number in range(20)]
LINES = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)
CSV = b"timestamp,key,f0,f1,f2\n" + b"".join(b"%d,http,%d,0.5,-0.001\n" % (row, row % 7) for row in range(20))
COMMAND = typer.main.get_command(commands.app)  # once: making it takes longer than most of what is asked here


def parquet() -> bytes:
    columns: dict[str, Any] = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    columns["tags"] = pa.array([[("a", 1)]] * 20, pa.map_(pa.string(), pa.int64()))
    columns["raw"] = [b"\xff\x00"] * 20
    columns["big"] = pa.array([2**64 - 1] * 20, pa.uint64())
    written = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), written)
    return written.getvalue()


FILES = {"a.csv": CSV, "a.jsonl": LINES, "a.json.gz": gzip.compress(LINES, mtime=0), "a.parquet": parquet()}
FILES["a.safetensors"] = bundle("autoencoder").to_bytes()


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    before = dict(os.environ), Path.cwd(), commands.app
    os.environ.update(ENVIRON)
    os.chdir(HERE)
    commands.app = COMMAND  # type: ignore[assignment]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        os.chdir(before[1])
        commands.app = before[2]


def asked(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `stream-ad` with these arguments."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    with surroundings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            sys.argv = ["stream-ad", *arguments]
            __main__.main()
            code: Any = 0
        except SystemExit as ending:
            code = ending.code or 0
        finally:
            sys.argv = argv
    return code, out.getvalue(), err.getvalue()


def law(*arguments: str) -> int:
    code, out, err = asked(*arguments)
    assert code in EXIT_CODES, f"{arguments}: exit code {code}"
    if arguments and arguments[0] in CODES:
        assert code in CODES[arguments[0]], f"{arguments}: exit code {code} is not among those that its help tells"
    assert "Traceback" not in err + out
    if code and not (arguments[:1] == ("check",) and "--json" not in arguments):
        assert (err + out).strip(), f"{arguments}: not a word"
    if code == 2 and err:
        # of a file's key, an option, or a command
        assert re.search(r"error: .+: .+|Usage: |─ Error ─", err), err
    for line in err.splitlines():
        assert line.isprintable() or "\t" in line, repr(line)
    if code == 0 and "--json" in arguments and "--help" not in arguments:
        orjson.loads(out)
    return code


def written(name: str, content: bytes) -> str:
    (HERE / name).write_bytes(content)
    return name


WORDS = [
    *("init", "check", "train", "alerts", "replay", "produce", "models", "list", "show", "add", "promote", "shadow"),
    *("--config", "-c", "--json", "--input", "-i", "--topic", "--force", "-o", "--output", "--limit", "-n", "--from"),
    *(
        "--to",
        "--model",
        "--label",
        "--only",
        "--warm-up",
        "--jobs",
        "--partitions",
        "--scores",
        "--alerts",
        "--rejects",
        "--rate",
        "--workers",
        "--help",
        "--",
    ),
    *("a.csv", "a.jsonl", "a.toml", "nowhere.toml", ".", "/", "", "-", "-1", "0", "9" * 30, "1e9", "nan", "x" * 300),
    *("2026-01-01", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "statistical", "\u2028", "\x1b[2J", "é"),
]


def any_question(random: Random) -> tuple[str, ...]:
    """Mostly wrong arguments, for these are answered fast; some files that are nearly right."""
    way = random.random()
    if way < 0.75:
        count = random.randrange(6)
        return random.choice(
            ["init", "replay", "evaluate", "models", "check", "alerts", "train", "produce", "nobody"]
        ), *(random.choice(WORDS) for _ in range(count))
    if way < 0.985:
        config = written("b.toml", changed(CONFIG, random))
        asks = [("replay", "--input", "nowhere.csv"), ("models", "add", "nowhere"), ("alerts",), ("replay", "-i", "t")]
        return *random.choice(asks), "--config", config
    name = random.choice(list(FILES))
    content = FILES[name]
    if name == "a.jsonl" and random.random() < 0.5:
        content = b"\n".join((any_row(random).value or b"") for _ in range(20))
    file = written(f"b{name[1:]}", changed(content, random) if random.random() < 0.8 else content)
    json = random.choice([(), ("--json",)])
    if name == "a.safetensors":
        return "models", *random.choice([("add", file), ("list",), ("show", "v")]), "--config", "a.toml", *json
    if random.random() < 0.7:
        return "init", "--input", file, "--output", "c.toml", "--force", *json
    return "replay", "--input", file, "--config", "a.toml", "--rejects", "r.jsonl", "--scores", "s.csv", *json


@pytest.fixture(scope="module", autouse=True)
def files() -> None:
    prepare()


def prepare() -> None:
    written("a.toml", CONFIG)
    for name, content in FILES.items():
        written(name, content)


def one(data: bytes) -> None:
    """Words, a number for each; then what is in the file that the last command reads."""
    if not (HERE / "a.toml").exists():
        prepare()
    head, _, content = data.partition(b"\x1e")
    if content:
        name = list(FILES)[len(head) % len(FILES)]
        law("init", "--input", written(f"d{name[1:]}", content), "--output", "d.toml", "--force")
    else:
        law(*[WORDS[number % len(WORDS)] for number in head[:8]])


def seeds() -> list[bytes]:
    found = [bytes([WORDS.index(word) for word in words]) for words in (["init", "-i", "a.csv"], ["models", "list"])]
    return found + [bytes(at) + b"\x1e" + content for at, content in enumerate(FILES.values()) if len(content) < 4000]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("init", "--input", "a.csv", "-o", "e.toml", "--force"), 0, ""),
        (("init", "--input", "a.parquet", "-o", "e.toml", "--force", "--json"), 0, ""),
        (("replay", "--input", "a.csv", "--config", "a.toml", "--json"), 0, ""),
        (("models", "add", "a.csv", "--config", "a.toml"), 5, "not a bundle"),
        (("models", "add", "a.safetensors", "--config", "a.toml"), 5, "made for other features"),
        (("models", "list", "--config", "a.toml"), 3, "redis.url"),
        (("replay", "--input", "nowhere.csv", "--config", "a.toml"), 4, "nowhere.csv"),
        (("replay", "--input", "x" * 300, "--config", "a.toml"), 2, "kafka.options.no.such"),
        (("replay", "--input", "a/" * 3000, "--config", "a.toml"), 4, "no such file"),
        (("replay", "--input", ".", "--config", "a.toml"), 4, "--input"),
        (("replay", "-i", "t", "--from", "0001-01-01T00:00:00+23:59", "--config", "a.toml"), 2, "no.such"),
        (("replay", "-i", "t", "--to", "yesterday", "--config", "a.toml"), 2, "--to"),
        (("replay", "--input", "a.csv", "--config", "a.toml", "--scores", "no/where.csv"), 2, "--scores"),
        (("replay", "--input", "a.csv", "--config", "a.toml", "--alerts", "no/where.csv"), 4, "no/where.csv"),
        (("replay", "--input", "a.csv", "--config", "."), 2, "cannot be read"),
        (("init", "--input", "a.csv", "-o", "no/where.toml"), 2, "--output"),
        (("init", "--input", "a.csv", "-o", "x" * 300), 2, "--output"),
        (("init", "--input", "x" * 300 + ".csv", "-o", "e.toml", "--force"), 4, "cannot be read"),
        (("init", "--input", ".", "-o", "e.toml", "--force"), 4, "format"),
        (("nobody",), 2, "No such command"),
        (("alerts", "--limit", "many"), 2, "--limit"),
    ],
)
def test_what_is_asked_is_answered_with_its_code(arguments: tuple[str, ...], code: int, said: str) -> None:
    found, _, err = asked(*arguments)
    assert found == code, err
    assert said in err
    law(*arguments)


def test_a_replay_of_poison_rejects_it_and_goes_on() -> None:
    random = Random(1)
    poison = [(any_row(random).value or b"").replace(b"\n", b" ") for _ in range(200)]
    lines = [line for pair in zip(LINES.splitlines() * 10, poison, strict=True) for line in pair]
    name = written("poison.jsonl", b"\n".join(lines))
    code, out, _ = asked("replay", "--input", name, "--config", "a.toml", "--rejects", "r.jsonl", "--json")
    assert code == 0
    rejects = [orjson.loads(line) for line in (HERE / "r.jsonl").read_bytes().splitlines()]
    result = orjson.loads(out)
    assert result["rejects"] == len(rejects)
    assert result["events"] + result["rejects"] == sum(bool(line.strip()) for line in lines)
    assert all(line["reason"] and line["offset"] >= 0 for line in rejects)


@pytest.mark.parametrize(
    "value", [None, b"", b"\xff", b"[]", b"{}", b'{"summary": 1, "deep": ' + b"[" * 900 + b"]" * 900 + b"}"]
)
def test_what_is_no_alert_of_ours_is_passed_over(value: bytes | None) -> None:
    assert _parsed(value, None) is None


def test_any_arguments_and_files_keep_the_law() -> None:
    inputs = 0
    codes: set[int] = set()

    @thorough((RUNS - GUIDED) // 25 + 1)
    @given(st.integers(0, 2**64))
    def keeps(seed: int) -> None:
        nonlocal inputs
        random = Random(seed)
        for _ in range(25):
            inputs += 1
            codes.add(law(*any_question(random)))

    keeps()
    assert inputs >= RUNS - GUIDED
    assert codes >= {0, 2, 3, 4, 5}  # else this shows nothing


def test_whatever_bytes_reach_the_commands_keep_the_law(tmp_path: Path) -> None:
    guided("cli", tmp_path, GUIDED)
