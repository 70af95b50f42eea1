import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np

from stream_ad import kernel as module
from stream_ad.kernel import kernel, prefetch


@kernel
def touched(array: np.ndarray, row: int) -> float:
    prefetch(array, row)
    return array[0, 0] / 0.0  # type: ignore[no-any-return]


def test_prefetch_is_a_hint_for_any_row_and_division_is_ieee() -> None:
    for row in (0, 2, -1, 10**9):
        assert touched(np.ones((3, 2)), row) == np.inf
    assert touched(np.ones((3, 2), order="F"), 1) == np.inf


def test_all_that_holds_loops_is_in_the_stamp_of_the_cache() -> None:
    package = Path(module.__file__).parent
    modules = [path for path in package.rglob("*.py") if "from stream_ad.kernel import" in path.read_text()]
    rooms = {path.relative_to(package).parts[0] for path in modules if path.parent != package}
    formulas = [path for path in package.rglob("*.py") if "@formula" in path.read_text()]
    assert rooms | {path.parent.relative_to(package).as_posix() for path in formulas} == set(module.ROOMS)


def test_an_edit_in_another_file_reaches_a_cached_loop(tmp_path: Path) -> None:
    package = tmp_path / "loops"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "kernel.py").write_bytes(Path(module.__file__).read_bytes())
    (package / "outer.py").write_text(
        dedent("""
        from loops.inner import number
        from loops.kernel import kernel

        @kernel
        def answer():
            return number()
        """)
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    program = "from loops.outer import answer; print(answer(), sum(answer.stats.cache_hits.values()))"
    told = []
    for number in (1, 1, 2):
        (package / "inner.py").write_text(
            f"from loops.kernel import kernel\n\n@kernel\ndef number():\n    return {number}\n"
        )
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        told.append(run.stdout.split())
    assert told == [[b"1", b"0"], [b"1", b"1"], [b"2", b"0"]]
