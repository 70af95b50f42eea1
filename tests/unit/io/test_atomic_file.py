"""A full disk: a clear error, no half of a file, no stack trace."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from stream_ad.io.atomic_file import replaced
from tests.support.waiting import WAIT_S

CONFIG = """
[source]
topic = "t"

[record]
key = "k"
timestamp = "t"
timestamp_format = "ms"

[features.numeric]
a = ["raw"]

[threshold]
false_alarm_rate = 0.4

[redis]
url = "redis://127.0.0.1:1/0"
"""


def limited(size: int, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """No file that it writes may be larger: a disk that is full, for one process alone."""
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env={**os.environ, **environ},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        check=False,
    )


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    (tmp_path / "stream_ad.toml").write_text(CONFIG)
    lines = [orjson.dumps({"k": f"key-{n % 5}", "t": 1_700_000_000_000 + 1000 * n, "a": n % 7}) for n in range(4000)]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("output", ["--alerts", "--scores"])
def test_a_replay_leaves_what_was_there(stream: Path, output: str) -> None:
    target = stream / "output"
    config, events = str(stream / "stream_ad.toml"), str(stream / "events.jsonl")
    replay = ["-m", "stream_ad", "replay", "--config", config, "--input", events, "--model", "statistical"]
    assert limited(10**9, *replay, output, str(target)).returncode == 0
    before = target.read_bytes()
    done = limited(len(before) // 2, *replay, output, str(target))
    assert done.returncode == 4, done.stderr
    assert done.stderr == f"error: {target}: cannot be written and is unchanged: File too large\n"
    assert target.read_bytes() == before
    assert sorted(path.name for path in stream.iterdir()) == ["events.jsonl", "output", "stream_ad.toml"]


def test_an_answer_that_cannot_be_written(tmp_path: Path) -> None:
    with (tmp_path / "answer").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "stream_ad", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)),
            check=False,
        )
    assert (done.returncode, done.stderr) == (4, "error: the answer cannot be written: File too large\n")


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    script = "from stream_ad.codec import guard; print(guard.safe(b'{}'))"
    done = limited(100, "-c", script, NUMBA_CACHE_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".nbc"] == []


def test_a_file_is_there_at_the_end_of_the_block_only(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with replaced(target) as part:
        part.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"

    def interrupted() -> None:
        with replaced(target) as half:
            half.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "new"


def test_what_is_no_plain_file_is_written_itself(tmp_path: Path) -> None:
    target, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(target)
    for path in (link, Path("/dev/null")):
        with replaced(path) as part:
            assert part == path
            part.write_text("there")
    assert target.read_text() == "there"
    assert link.is_symlink()


def test_a_link_that_waits_beside_the_file_is_not_followed(tmp_path: Path) -> None:
    other, target = tmp_path / "other", tmp_path / "file"
    other.write_text("precious")
    (tmp_path / "file.part").symlink_to(other)
    with replaced(target) as part:
        part.write_text("new")
    assert (other.read_text(), target.read_text()) == ("precious", "new")
    with replaced(target) as part, replaced(target) as another:
        assert part != another
        part.write_text("one")
        another.write_text("two")
    assert target.read_text() == "one"
