"""The type of a field, from its values in a sample, and what it looks like."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import numpy as np

from stream_ad.batch import F64
from stream_ad.config.feature_kinds.row import Trait
from stream_ad.messages.phrases import number, number_range

FieldType: TypeAlias = Literal["number", "number_text", "text", "boolean", "mixed", "other", "empty"]
Section: TypeAlias = Literal["numeric", "categorical", "none"]

CONSTANT = "always "
MOSTLY_NUMBERS = 0.95
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NAME_LIKE = re.compile(r"(^|[._-])(id|uid|uuid|guid|key|no|nr|number|code|zip|postcode|phone|port|pid|ip|name)$", re.I)
_CAMEL_ID = re.compile(r"[a-z](Id|ID|Key|Code|No|Port)$")
_MOST_DISTINCT = 0.95  # share of different values above which a category says nothing
_MOST_CATEGORY_BYTES = 256  # the codec's limit
_LONG_TEXT_BYTES = 64
_SELDOM = 0.01
_HEAVY_TAIL = 8.0  # 99th percentile over median
_ENOUGH_STEPS = 20
_SMOOTH = 0.5  # median step of a key over the deviation of the field


def columns_of(documents: Sequence[dict[str, Any]]) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Dotted path -> the field's leaves [n], None = missing; and path -> reason, for fields that cannot be used."""
    columns: dict[str, list[Any]] = {}
    unusable: dict[str, str] = {}
    inner: set[str] = set()

    def walk(node: dict[str, Any], prefix: str, row: int) -> None:
        for name, leaf in node.items():
            path = prefix + name
            if not name or name in ("$key", "$timestamp"):
                unusable[path] = "its name is empty, or stands for the record's own key or time"
            elif isinstance(leaf, dict):
                inner.add(path)
                walk(leaf, f"{path}.", row)
            else:
                column = columns.setdefault(path, [None] * len(documents))
                if column[row] is None:  # objects come before a name that holds dots, as in `stream_ad.paths`
                    column[row] = leaf

    for row, document in enumerate(documents):
        walk(document, "", row)
    for path in sorted(inner & {name for name, leaves in columns.items() if any(leaf is not None for leaf in leaves)}):
        for name in [name for name in columns if name == path or name.startswith(f"{path}.")]:
            unusable[name] = f"{path} is an object in some records and a value in others"
    # a null where other records have an object is a missing object
    return {name: leaves for name, leaves in columns.items() if name not in unusable and name not in inner}, unusable


def type_of(name: str, leaves: Sequence[Any]) -> FieldType:
    """Of a field whose name is not that of names, a few texts among numbers are no part of its type."""
    kinds = Counter(type(leaf) for leaf in leaves if leaf is not None and leaf != "")
    types = {type(leaf) for leaf in leaves} - {type(None)}
    if not types:
        return "empty"
    if types <= {int, float}:
        return "number"
    if types == {bool}:
        return "boolean"
    if types <= {str, int, float}:
        texts = [leaf for leaf in leaves if isinstance(leaf, str) and leaf]
        if texts and all(_is_number(text) for text in texts):
            return "number_text"
        if not name_like(name) and kinds[int] + kinds[float] >= MOSTLY_NUMBERS * kinds.total():
            return "number"
        return "text" if types == {str} else "mixed"
    return "mixed" if types <= {str, int, float, bool} else "other"


def _is_number(text: str) -> bool:
    # a text with leading zeros is a name, though it looks like a number
    plain = text.lstrip("+-")
    named = len(plain) > 1 and plain[0] == "0" and plain[1].isdigit()
    return bool(_NUMBER.fullmatch(text)) and not named and math.isfinite(float(text))


def numbers_of(leaves: Sequence[Any]) -> list[Any]:
    """The leaves [n] of a number, text where it is one as numbers; None = missing, or no number."""
    return [_number(leaf) if isinstance(leaf, str) else leaf for leaf in leaves]


def _number(text: str) -> int | float | None:
    if not _is_number(text):
        return None
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def is_integer(leaf: object) -> bool:
    """Also 5.0: so ids come out of tables with gaps."""
    return type(leaf) is int or (type(leaf) is float and leaf.is_integer() and abs(leaf) <= 2.0**53)


def name_like(name: str) -> bool:
    """Whether a field with this name holds names, even if they are numbers."""
    return bool(_NAME_LIKE.search(name) or _CAMEL_ID.search(name))


def traits_of(
    name: str, leaves: Sequence[Any], field_type: FieldType, keys: Sequence[bytes | None]
) -> tuple[Section, set[Trait], str]:
    """The section for the field, what it looks like, and why; or "none" and why not."""
    present = [leaf for leaf in leaves if leaf is not None and leaf != ""]
    missing = 1 - len(present) / max(len(leaves), 1)
    if field_type == "empty" or not present:
        return "none", set(), "always empty"
    if field_type == "other":
        return "none", set(), "holds arrays"
    if missing > 1 - _SELDOM:
        return "none", set(), f"missing from {100 * missing:.1f} % of the records"
    distinct = len(set(map(str, present)))
    if distinct == 1:
        return "none", set(), f"{CONSTANT}{str(present[0])[:40]}"
    integers = all(map(is_integer, present))
    if field_type in ("number", "number_text") and not (name_like(name) and (integers or field_type == "number_text")):
        traits, why = _numeric(numbers_of(leaves), missing, distinct, keys)
        odd = 0 if field_type == "number_text" else sum(isinstance(leaf, str) for leaf in present)
        return "numeric", traits, f"{why}, {odd} are no numbers and rejected" if odd else why
    if any(type(leaf) is float and not is_integer(leaf) for leaf in present):
        return "none", set(), "sometimes a number, sometimes text"
    return _categorical(present, distinct, missing)


def _numeric(
    leaves: Sequence[Any], missing: float, distinct: int, keys: Sequence[bytes | None]
) -> tuple[set[Trait], str]:
    values = np.array([math.nan if leaf is None else float(leaf) for leaf in leaves])
    values = np.clip(values, -1e300, 1e300)
    known = values[~np.isnan(values)]
    low, median, high, most = np.quantile(known, [0, 0.5, 0.99, 1])
    trait, why = Trait.PLAIN, f"{number_range(low, most)}, median {number(median)}"
    steps, smooth = _course(values, keys)
    if len(steps) >= _ENOUGH_STEPS and min(steps) > 0:
        trait, why = Trait.COUNTER, f"{why}, only counts up: its steps are watched"
    elif distinct == 2:
        trait, why = Trait.SWITCH, f"{number(low)} or {number(most)}"
    elif low >= 0 and most > 10 and high > _HEAVY_TAIL * max(median, 1e-9):
        trait, why = Trait.LONG_TAIL, f"{why}, long tail"
    elif smooth:
        trait, why = Trait.SMOOTH, f"{why}, changes little from event to event"
    gaps, missing_why = _gaps(missing)
    return {trait, *gaps}, why + missing_why


def _gaps(missing: float) -> tuple[set[Trait], str]:
    why = f", {100 * missing:.2g} % missing" if missing > 0 else ""
    return {Trait.GAPS} if missing >= _SELDOM / 2 else set(), why


def _course(values: F64, keys: Sequence[bytes | None]) -> tuple[list[float], bool]:
    """The steps from each value of a key to its next, and whether they are small."""
    by_key: dict[bytes | None, list[float]] = {}
    for key, value in zip(keys, values.tolist(), strict=True):
        if not math.isnan(value):
            by_key.setdefault(key, []).append(value)
    steps = [after - before for series in by_key.values() for before, after in pairwise(series)]
    if len(steps) < _ENOUGH_STEPS:
        return steps, False
    spread = float(np.median([float(np.std(series)) for series in by_key.values() if len(series) > 2] or [0.0]))
    return steps, spread > 0 and float(np.median(np.abs(steps))) < _SMOOTH * spread


def _categorical(present: Sequence[Any], distinct: int, missing: float) -> tuple[Section, set[Trait], str]:
    texts = [str(leaf).encode("utf-8", "replace") for leaf in present]
    longest = max(map(len, texts))
    if longest > _MOST_CATEGORY_BYTES or sum(map(len, texts)) > _LONG_TEXT_BYTES * len(texts):
        return "none", set(), "long text"
    if len(texts) >= 3 and distinct > _MOST_DISTINCT * len(texts):
        return "none", set(), "nearly every record has a value of its own"
    gaps, missing_why = _gaps(missing)
    return "categorical", {Trait.CATEGORY, *gaps}, f"{distinct} different values{missing_why}"
