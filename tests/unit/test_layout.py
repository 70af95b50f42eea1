"""The size and order of the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "stream_ad").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
UNITS = ROOT / "tests" / "unit"
WITH_MODULES = {"support", "simulation", "chaos"}  # folders of tests that hold more than tests
MOST_LINES = 300
LONGER: set[str] = set()  # a file that must be longer is named here, with the reason
MOST_FUNCTION_LINES = 70  # from `def` to the last line, signature and docstring included, decorators not


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES or name(path) in LONGER, f"{lines} lines; split it along what it is about"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_function_is_seen_at_one_glance(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MOST_FUNCTION_LINES, f"{node.name}: {lines} lines; split it along what it does"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, "a module needs a docstring"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_nothing_is_called_by_a_word_that_says_nothing(path: Path) -> None:
    empty = ("Manager", "Helper", "Utils", "Util", "Base")
    assert path.stem not in {"utils", "util", "helpers", "common", "misc", "base"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith(empty), f"{node.name} does not say what it is"


def test_exceptions_are_still_needed() -> None:
    assert {name(path) for path in MODULES if len(path.read_text().splitlines()) > MOST_LINES} >= LONGER


@pytest.mark.parametrize("path", sorted({path.parent for path in UNITS.rglob("test_*.py")}), ids=name)
def test_unit_tests_stand_in_the_folders_of_the_package(path: Path) -> None:
    room = ROOT / "stream_ad" / path.relative_to(UNITS)
    assert room.is_dir(), f"there is no {name(room)} that is tested here"


def test_what_tests_share_stands_in_one_place() -> None:
    found = {name(path) for path in TESTS if not path.name.startswith(("test_", "conftest", "__init__"))}
    assert {path for path in found if path.split("/")[1] not in WITH_MODULES} == set()


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_no_test_takes_anything_from_another(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None and path.parent.name != "support":
            assert not node.module.rpartition(".")[2].startswith("test_"), f"{node.module}: move it to tests/support"
