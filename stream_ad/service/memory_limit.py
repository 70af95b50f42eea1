"""How much memory is still available, on the machine and within the control groups of this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

UNLIMITED = 1 << 60  # control groups of version 1 write "no limit" as a number of about this size


def spare_bytes(root: Path = Path("/")) -> int | None:
    """The least that the machine and our control groups leave; None where neither is known."""
    spare = [*_machine(root), *_groups(root)]
    return min(spare) if spare else None


def _machine(root: Path) -> Iterator[int]:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _groups(root: Path) -> Iterator[int]:
    """The limit of each group less its use. Cached files that are not in use do not count: the kernel can drop them."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = root / "sys/fs/cgroup/memory"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in [group, *group.parents] if group.is_relative_to(base) else []:
            limit, used = _text(folder / names[0]).strip(), _text(folder / names[1]).strip()
            if limit.isdigit() and used.isdigit() and int(limit) < UNLIMITED:
                yield max(0, int(limit) - int(used) + _statistic(folder / "memory.stat", names[2]))
            if folder == base:
                break


def _statistic(file: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in _text(file).splitlines() if line.startswith(f"{name} ")), 0)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
