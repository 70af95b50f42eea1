"""Whether a field names who an event belongs to, from its values in a sample."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stream_ad.propose.fields import FieldType, is_integer, name_like
from stream_ad.propose.times import ENOUGH

_SUFFIX = r"([._-]?(id|key|name|no|number))?$"
_WHO = re.compile(
    r"(^|[._-])(key|card|account|customer|user|client|device|sensor|host|hostname|machine|node|server|instance|"
    r"src_?ip|source_?ip|ip|station|vehicle|meter|asset|entity|unit|equipment|pump)" + _SUFFIX,
    re.I,
)
# the other side of an event: a key only where there is no better one
_WHOM = re.compile(
    r"(^|[._-])(merchant|terminal|shop|service|dst_?ip|destination_?ip|counterparty|payee)" + _SUFFIX, re.I
)
_UNIQUE = 0.95  # distinct share above which values do not repeat in any useful way


def key_of(leaf: object) -> bytes | None:
    if leaf is None:
        return None
    return str(int(leaf) if isinstance(leaf, float) and is_integer(leaf) else leaf).encode("utf-8", "replace")


def repeats(values: Sequence[object]) -> bool:
    return len(values) < 3 or len(set(values)) <= _UNIQUE * len(values)


def key_rank(name: str, leaves: Sequence[Any], field_type: FieldType) -> float:
    """How well a field would do as the key; 0 = not at all."""
    present = [leaf for leaf in leaves if leaf not in (None, "")]
    if field_type not in ("text", "number", "number_text", "mixed") or len(present) < ENOUGH * len(leaves):
        return 0.0
    if not present or not all(isinstance(leaf, str) or is_integer(leaf) for leaf in present):
        return 0.0
    if max(len(str(leaf).encode()) for leaf in present) > 1024:
        return 0.0
    if name == "key":
        return 4.0
    distinct = len(set(map(key_of, present)))
    named, id_like = 2.0 * bool(_WHO.search(name)) or 1.0 * bool(_WHOM.search(name)), name_like(name)
    if not repeats(present) or (field_type != "text" and not (named or id_like)):
        return 0.0
    rank = named + 0.5 * id_like + 0.25 * (2 <= distinct <= len(present) / 4)
    return (rank if distinct > 1 else min(rank, 0.1)) * len(present) / len(leaves)
