"""The guides for parts of one's own, followed word for word: written down, installed, named in a configuration."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"```(\w*)\n(.*?)```", re.S)


@dataclass(frozen=True)
class Guide:
    """A page with the code of a part, the code that tests it, an entry point and a configuration."""

    path: Path

    def code(self, language: str) -> list[str]:
        return [text for found, text in CODE.findall(self.path.read_text(encoding="utf-8")) if found == language]

    @property
    def entry_point(self) -> tuple[str, str, str]:
        """Group, name and class."""
        (text,) = self.code("ini")
        ((group, points),) = tomllib.loads(text)["project"]["entry-points"].items()
        ((name, target),) = points.items()
        return group, name, target

    def install(self, folder: Path) -> None:
        """As a package of its own in `folder`, which has to be on the path."""
        group, name, target = self.entry_point
        module = folder / (target.partition(":")[0].replace(".", "/") + ".py")
        module.parent.mkdir(exist_ok=True)
        module.write_text(self.code("python")[0], encoding="utf-8")
        about = folder / f"{name}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")


GUIDES = [
    guide for guide in map(Guide, sorted((ROOT / "docs").glob("writing-a-*.md"))) if guide.code("ini")
]  # of what is installed as a package
