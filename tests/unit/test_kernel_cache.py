"""The cache of compiled loops holds what its index says, whoever compiles when, is killed, or finds the disk full."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

MODULE = """
    from stream_ad.kernel import kernel

    @kernel
    def add(a, b):
        return a + b
"""
# between reading the index and writing it there is time for others
SLOW = """
    import sys, time
    from pathlib import Path
    from numba.core.caching import IndexDataCacheFile

    load = IndexDataCacheFile._load_index

    def slowly(self):
        known = load(self)
        time.sleep(0.3)
        return known

    IndexDataCacheFile._load_index = slowly
    from loop import add
    Path(f"ready-{sys.argv[1]}").touch()
    while len(list(Path().glob("ready-*"))) < 3:
        time.sleep(0.01)
    one = {"int": 1, "float": 1.0, "complex": 1j}[sys.argv[1]]
    add(one, one)
"""
HITS = """
    from loop import add
    for one in (1, 1.0, 1j):
        for _ in range(3):
            assert add(one, one) == 2 * one
    print(sum(add.stats.cache_hits.values()), sum(add.stats.cache_misses.values()), len(add.signatures))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loop.py").write_text(dedent(MODULE))
    return tmp_path


def program(folder: Path, text: str, *arguments: str, most_bytes: int = -1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", dedent(text), *arguments],
        cwd=folder,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
    )


def said(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return text


def test_processes_that_compile_at_once_for_different_types(folder: Path) -> None:
    for process in [program(folder, SLOW, kind) for kind in ("int", "float", "complex")]:
        said(process)
    assert said(program(folder, HITS)) == "3 0 3\n", "one look into the cache for each type, and each of them fits"


def test_where_the_disk_was_full_nothing_old_is_taken_for_new(folder: Path) -> None:
    assert said(program(folder, HITS)) == "0 3 3\n"
    (folder / "loop.py").write_text(dedent(MODULE).replace("a + b", "b + a + 0"))
    assert said(program(folder, HITS, most_bytes=2000)) == "0 3 3\n"  # an index fits, code does not
    assert said(program(folder, HITS)) == "0 3 3\n"
    assert said(program(folder, HITS)) == "3 0 3\n"
    assert len(list((folder / "cache").rglob("*.nbc"))) == 3, "what is out of date is gone"
