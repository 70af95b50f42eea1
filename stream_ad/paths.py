"""Where a field is in a document: names joined by dots, be they names of objects in each other or of one field."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

Way: TypeAlias = tuple[str, ...]  # names from the document down to a field

_NOWHERE = object()
_MOST_NAMES = 6  # of a path that is read in every way; a longer one only as all objects or as one name


@lru_cache(maxsize=4096)
def ways(path: str) -> tuple[Way, ...]:
    """All readings of a path, objects in each other first: `a.b` is (a, b), or (a.b) where there is none."""
    names = path.split(".")
    if not all(names) or len(names) > _MOST_NAMES:
        return (tuple(names), (path,)) if all(names) else ((path,),)
    readings: list[Way] = [(names[0],)]
    for name in names[1:]:
        readings = [way for one in readings for way in ((*one, name), (*one[:-1], f"{one[-1]}.{name}"))]
    return tuple(sorted(readings, key=len, reverse=True))


def field(document: object, path: str, absent: object = None) -> object:
    """The field at a path in decoded JSON: the first reading that is not null. None = null; `absent` = nowhere."""
    leaves = [leaf for way in ways(path) if (leaf := _along(document, way)) is not _NOWHERE]
    return next((leaf for leaf in leaves if leaf is not None), None if leaves else absent)


def _along(node: object, way: Way) -> object:
    for name in way:
        if not isinstance(node, dict) or name not in node:
            return _NOWHERE
        node = node[name]
    return node
