"""Two engines over one law: hypothesis writes inputs, atheris (libFuzzer) follows what they reach in the code.

A surface is a test module of this folder with `one(data)`, which raises where the law is broken, `seeds()`,
and `REACHED`, the modules whose branches guide atheris. `make fuzz` asks for longer, with new seeds.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[2]
RUNS = 10_000  # inputs for each surface, both engines together
HALF = RUNS // 2
SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))  # of atheris for each surface, instead of a number of runs
HAS_ATHERIS = importlib.util.find_spec("atheris") is not None


def thorough(examples: int) -> settings:
    """So many examples, or more where there is more time."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples * max(1, SECONDS // 5), suppress_health_check=checks, database=None)


def guided(surface: str, folder: Path, runs: int = HALF) -> None:
    """Runs atheris over the surface in a process of its own, which it ends itself. Fails with the input it found."""
    if not HAS_ATHERIS:
        pytest.skip("atheris has no wheel for this machine")
    seed = 1 if os.environ.get("CI") and not SECONDS else random.SystemRandom().randrange(1, 2**31)
    corpus = folder / "corpus"
    corpus.mkdir()
    seeds: list[bytes] = importlib.import_module(f"tests.fuzz.test_{surface}").seeds()
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    limit = [f"-max_total_time={SECONDS}"] if SECONDS else [f"-atheris_runs={runs}"]
    crashes = ROOT / "out" / "fuzz" / surface
    crashes.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.support.engines", surface, str(corpus), *limit, f"-seed={seed}"]
    command += [
        "-timeout=60",
        "-rss_limit_mb=4096",
        f"-max_len={max(4096, *map(len, seeds))}",
        f"-artifact_prefix={crashes}/",
    ]
    print(f"\n{surface}: atheris, seed {seed}, {f'{SECONDS} s' if SECONDS else f'{runs} runs'}", flush=True)
    said = _followed(command)
    crash = re.search(r"Test unit written to (\S+)", said)
    assert crash is None, f"seed {seed}: {crash[1]} holds {Path(crash[1]).read_bytes()!r}\n{said[-3000:]}"  # type: ignore[index]
    done = re.search(r"Done (\d+)", said)
    assert done, said[-3000:]
    print(f"{surface}: {done[1]} inputs", flush=True)
    assert int(done[1]) >= (1 if SECONDS else runs), f"only {done[1]} of {runs} inputs\n{said[-2000:]}"


def _followed(command: list[str]) -> str:
    """All that the process says; shown as it goes where the run is long."""
    said = []
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if SECONDS and ("pulse" in line or "NEW" in line):
            print(f"  {line.rstrip()}", flush=True)
    said.append(f"exit code {process.wait()}")
    return "".join(said)


def _instrument(atheris: Any, module: ModuleType) -> None:
    """Functions only: what numba compiles must stay as it is."""
    found: list[FunctionType] = []
    for thing in vars(module).values():
        members: Iterable[Any] = vars(thing).values() if isinstance(thing, type) else [thing]
        for member in members:
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                found.append(function)
    for function in found:
        atheris.instrument_func(function)


def main(surface: str, arguments: list[str]) -> None:
    import atheris

    module = importlib.import_module(f"tests.fuzz.test_{surface}")
    one: Callable[[bytes], None] = module.one
    for data in module.seeds():
        one(data)  # loads and compiles what is loaded late
    for name in module.REACHED:
        _instrument(atheris, importlib.import_module(name))
    atheris.Setup([surface, *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
