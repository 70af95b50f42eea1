from __future__ import annotations

from pathlib import Path

import pytest

from stream_ad.service.memory_limit import spare_bytes

MIB = 1 << 20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal:  4096 kB\nMemFree:  1 kB\nMemAvailable:  2048 kB\n"}


def test_the_machine_alone(tmp_path: Path) -> None:
    assert spare_bytes(tree(tmp_path, MACHINE)) == 2 * MIB


def test_nothing_tells(tmp_path: Path) -> None:
    assert spare_bytes(tmp_path) is None


def test_a_group_of_version_2_less_the_files_it_can_drop(tmp_path: Path) -> None:
    group = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": f"{MIB}\n",
        "sys/fs/cgroup/memory.current": f"{MIB - 5000}\n",
        "sys/fs/cgroup/memory.stat": "anon 7\ninactive_file 3000\nactive_file 9\n",
    }
    assert spare_bytes(tree(tmp_path, {**MACHINE, **group})) == 8000


def test_the_narrowest_of_the_groups_around_us(tmp_path: Path) -> None:
    group = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/memory.max": "9000\n",
        "sys/fs/cgroup/outer/memory.current": "2000\n",
        "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        "sys/fs/cgroup/outer/inner/memory.current": "1000\n",
    }
    assert spare_bytes(tree(tmp_path, {**MACHINE, **group})) == 7000


def test_a_group_of_version_1_seen_from_within_a_container(tmp_path: Path) -> None:
    group = {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "6000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
    }
    assert spare_bytes(tree(tmp_path, {**MACHINE, **group})) == 3500


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_no_limit_is_none(tmp_path: Path, limit: str) -> None:
    group = {
        "proc/self/cgroup": "0::/\n3:memory:/\n",
        "sys/fs/cgroup/memory.max": limit,
        "sys/fs/cgroup/memory.current": "5",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": limit,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "5",
    }
    assert spare_bytes(tree(tmp_path, {**MACHINE, **group})) == 2 * MIB


def test_here() -> None:
    found = spare_bytes()
    assert found is not None
    assert found > 0
