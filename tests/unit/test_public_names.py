"""`import stream_ad`: a small list of names, and nothing loaded before it is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import stream_ad

ROOT = Path(__file__).resolve().parents[2]


def test_the_public_names_are_these() -> None:
    assert stream_ad.__all__ == [
        *("Assembly", "Config", "FileSource", "Judged", "LocalModels", "RawBatch", "StreamAdError", "__version__"),
        *("judge", "load", "parse", "read"),
    ]
    for name in stream_ad.__all__:
        value = getattr(stream_ad, name)
        if name != "__version__":
            assert getattr(importlib.import_module(value.__module__), name) is value


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert stream_ad.__version__ == project["version"]


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match="module 'stream_ad' has no attribute 'nothing'"):
        _ = stream_ad.nothing


def test_importing_the_package_loads_no_module_of_it_and_no_library() -> None:
    code = "import sys; before = set(sys.modules); import stream_ad; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    brought = {name.partition(".")[0] for name in done.stdout.split()}
    assert brought <= {"stream_ad", *sys.stdlib_module_names}
    assert [name for name in done.stdout.split() if name.startswith("stream_ad.")] == []
