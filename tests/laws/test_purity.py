"""What decides a verdict reaches no clock, randomness, socket, thread, logger or file, nor does what it imports.

import-linter sees imports; `np.random.random()` is an attribute of a library that folds need. So this reads the code
of the pure rooms and of all that they import of stream_ad, follows aliases, and names each exception with its reason.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "stream_ad"
ROOMS = ("fold", "codec", "state", "messages")

# a name stands for all that is within it
FORBIDDEN = {
    "a clock": ("time", "datetime", "sched", "numpy.datetime64('now')", "numpy.datetime64('today')"),
    "a random source": ("random", "secrets", "uuid", "numpy.random", "torch", "builtins.hash", "builtins.id"),
    "a thread or a process": ("threading", "multiprocessing", "concurrent", "asyncio", "queue", "subprocess", "signal"),
    "a socket": ("socket", "socketserver", "ssl", "select", "selectors", "http", "urllib.request"),
    "a logger": ("logging", "warnings", "builtins.print", "sys.stdout", "sys.stderr"),
    "a file": ("io", "pathlib", "tempfile", "shutil", "glob", "fcntl", "builtins.open", "builtins.input"),
    "the system": ("os", "posix", "ctypes"),
    "code by its name": (
        *("importlib", "sys.modules", "builtins.__import__", "builtins.eval", "builtins.exec", "builtins.compile"),
        *("builtins.globals", "builtins.vars"),
    ),
}

# module -> why it may, and the names, each alone and not what is within it
ALLOWED = {
    "stream_ad.border": ("names the file of a part that raised", {"pathlib.Path"}),
    "stream_ad.config.feature_kinds": (
        "loads the rows of its own table",
        {"importlib", "importlib.import_module"},
    ),
    "stream_ad": (
        "loads a public name, or the version, when it is asked for",
        {"importlib", "importlib.import_module", "importlib.metadata.version"},
    ),
    "stream_ad.config.environment": ("names the file in an error", {"pathlib.Path"}),
    "stream_ad.config.schema": (
        "reads the file before there is a fold",
        {"pathlib.Path", "os", "os.environ"},
    ),
    "stream_ad.config.rules": (
        "reads dates and zones from the configuration, and asks no clock for one",
        {f"datetime.{name}" for name in ("UTC", "date", "datetime", "timedelta")},
    ),
    "stream_ad.config.sections": (
        "reads dates from the configuration, and asks no clock for one",
        {f"datetime.{name}" for name in ("UTC", "date", "datetime", "datetime.fromisoformat", "timedelta")},
    ),
    "stream_ad.kernel": (
        "keeps compiled loops on disk under names that no other process uses, and compiles text that a table gives; "
        "a compiled loop reaches none of it",
        {
            "builtins.exec",
            "uuid",
            "uuid.uuid4",
            "fcntl",
            "fcntl.flock",
            "fcntl.LOCK_EX",
            "glob",
            "glob.escape",
            "pathlib.Path",
        },
    ),
    "stream_ad.registry": (
        "loads the part that the configuration names",
        {"importlib", "importlib.import_module", "importlib.metadata.entry_points"},
    ),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
BUILTINS = {name.removeprefix("builtins.") for names in FORBIDDEN.values() for name in names if "builtins." in name}


class Reading(ast.NodeVisitor):
    """The full names of what a module imports at run time, and of the attributes of that which it uses."""

    def __init__(self, source: str) -> None:
        self._names = {name: f"builtins.{name}" for name in BUILTINS}
        self.used: set[str] = set()
        tree = ast.parse(source)
        self._imports(tree)
        self.visit(tree)

    def _imports(self, node: ast.AST) -> None:
        """First, as a function may use what the module imports further down."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    self.used.add(alias.name)
                    top = alias.name.partition(".")[0]
                    self._names[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, "an import names its module in full"
                for alias in child.names:
                    assert alias.name != "*", "an import names what it brings"
                    self.used.add(f"{child.module}.{alias.name}")
                    self._names[alias.asname or alias.name] = f"{child.module}.{alias.name}"
            elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                self._imports(ast.Module(child.orelse, []))
            else:
                self._imports(child)

    def _resolved(self, node: ast.AST) -> str | None:
        match node:
            case ast.Name(id=name):
                return self._names.get(name)
            case ast.Attribute(value=inner, attr=name):
                owner = self._resolved(inner)
            case ast.Call(func=ast.Name(id="getattr"), args=[inner, ast.Constant(value=str(name)), *_]):
                owner = self._resolved(inner)
            case ast.Call(func=function, args=[ast.Constant(value=str(text)), *_]):
                return f"numpy.datetime64({text!r})" if self._resolved(function) == "numpy.datetime64" else None
            case _:
                return None
        return f"{owner}.{name}" if owner is not None else None

    def visit(self, node: ast.AST) -> None:
        full = self._resolved(node)
        if full is not None:
            self.used.add(full)
        super().visit(node)


def impurities(source: str) -> set[str]:
    """The full names that are forbidden."""
    names = [name for names in FORBIDDEN.values() for name in names]
    return {full for full in Reading(source).used for name in names if full == name or full.startswith(f"{name}.")}


def reached() -> list[str]:
    """The modules of the pure rooms, and those of stream_ad that come along when they are imported."""
    waiting = [name for name in MODULES if f"{name}.".startswith(tuple(f"stream_ad.{room}." for room in ROOMS))]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            for full in Reading(MODULES[name].read_text()).used:
                parts = full.split(".")
                prefixes = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
                waiting += [prefix for prefix in prefixes if prefix in MODULES]
    return sorted(seen)


@pytest.mark.parametrize("name", reached())
def test_no_module_of_the_pure_half_reaches_outside(name: str) -> None:
    _, allowed = ALLOWED.get(name, ("", set()))
    assert impurities(MODULES[name].read_text()) - allowed == set()


def test_what_is_imported_is_read_too() -> None:
    assert {"stream_ad", "stream_ad.batch", "stream_ad.kernel", "stream_ad.registry"} <= set(reached())
    assert not {"stream_ad.metrics", "stream_ad.io", "stream_ad.score", "stream_ad.build"} & set(reached())


def test_every_exception_is_still_needed() -> None:
    for name, (reason, allowed) in ALLOWED.items():
        assert reason
        assert name in reached()
        assert allowed <= impurities(MODULES[name].read_text()), name
        assert not set(name.split(".")) & set(ROOMS), "a fold or a codec has no exception"


@pytest.mark.parametrize(
    "line",
    [
        "from datetime import datetime; datetime.now()",
        "from datetime import datetime as d; d.utcnow()",
        "import datetime as dt; dt.date.today()",
        "import time; time.monotonic()",
        "from time import time_ns",
        "np.datetime64('now')",
        "numpy.datetime64('today', 'ms')",
        "import secrets; secrets.token_bytes()",
        "from uuid import uuid4; uuid4()",
        "import random",
        "np.random.random()",
        "numpy.random.default_rng()",
        "from numpy import random",
        "from numpy import random as noise",
        "from numpy.random import default_rng",
        "import numpy.random as r",
        "import numpy.random",
        "random_source = np.random",
        "getattr(np, 'random').random()",
        "import os; os.urandom(8)",
        "from os import urandom as bits",
        "hash('key')",
        "import torch; torch.rand(3)",
        "__import__('time').time()",
        "load = __import__",
        "import importlib; importlib.import_module('time')",
        "from importlib import import_module",
        "import sys; sys.modules['time'].time()",
        "eval('1')",
        "import socket",
        "from urllib import request",
        "import threading",
        "from concurrent.futures import ThreadPoolExecutor",
        "import subprocess",
        "import logging; logging.getLogger(__name__)",
        "print('here')",
        "open('/tmp/state')",
        "from pathlib import Path",
        "def step():\n    import time",
        "class Fold:\n    def step(self, at=np.random.random()): ...",
    ],
)
def test_one_line_in_a_fold_is_seen(line: str) -> None:
    fold = MODULES["stream_ad.fold.windows"].read_text() + "\nimport numpy\n"
    assert not impurities(fold)
    assert impurities(f"{fold}\n{line}\n")


def test_what_only_a_type_checker_imports_is_no_import() -> None:
    assert not impurities("if TYPE_CHECKING:\n    import torch")
    assert impurities("if not TYPE_CHECKING:\n    import torch")
    assert impurities("if TYPE_CHECKING:\n    pass\nelse:\n    import torch")


def test_names_of_its_own_are_no_builtins() -> None:
    assert not impurities("record.open(); self.time.now(); stamp.hash; columns.random")
