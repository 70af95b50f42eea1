"""Fields that look like a time or a number to people, and are neither to a reader of JSON: a category they are not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from stream_ad.batch import Strings
from stream_ad.codec.timestamps import of_iso

Test: TypeAlias = Callable[[str], object]

_MOSTLY = 0.8  # share of the values that look alike
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = r"\d{1,2}[:.h]\d{2}([:.m]\d{2}([.,]\d+)?)?s?(\s?[ap]\.?m\.?)?"
_YEAR = r"(19|20)\d\d"
_DAY = (
    rf"({_YEAR}[-/. ]\d{{1,2}}[-/. ]\d{{1,2}}|\d{{1,2}}[-/. ]{{1,2}}\d{{1,2}}[-/. ]{{1,2}}{_YEAR}"
    r"|(0[1-9]|[12]\d|3[01])[-/.](0[1-9]|[12]\d|3[01])[-/.]\d\d"
    rf"|(\w{{2,10}}\.?,?\s+)?\d{{1,2}}\.?[-/ ]{_MONTH}([-/ ]({_YEAR}|\d\d))?"
    rf"|(\w{{2,10}}\.?,?\s+)?{_MONTH}\s+\d{{1,2}}(,?\s+{_YEAR})?|{_YEAR}-?W\d\d(-?[1-7])?)"
)
_TIME = re.compile(rf"{_DAY}\s*([T,: ]\s*{_CLOCK}.{{0,24}})?", re.I | re.ASCII)
_COMPACT = re.compile(rf"{_YEAR}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(T?([01]\d|2[0-3])([0-5]\d){{1,2}}(\.?\d+)?Z?)?")
_OF_DAY = re.compile(rf"T?{_CLOCK}Z?", re.I | re.ASCII)
_SEPARATED = re.compile(
    r"[+-]?\d+,\d+|[+-]?\d{1,3}([,\u00a0\u2009\u202f '’]\d{3})+([.,]\d+)?|[+-]?\d{1,3}(\.\d{3})+,\d+", re.ASCII
)
_MEASURED = re.compile(
    r"[$€£¥]\s?[+-]?\d[\d.,]*|[+-]?\d[\d.,]*\s?([%°$€£¥‰µμΩ]\S{0,3}|[A-Za-z]{1,4}/[A-Za-z]{1,3}\d?)"
    r"|[+-]?\d[\d.,]*\s[A-Za-z]{1,4}\d?|[+-]?\d+[.,]\d+\s?[A-Za-z]{1,4}"
)


@dataclass(frozen=True, slots=True)
class Likeness:
    of_time: bool
    of_day: bool  # of a clock without a date
    why: str


def likeness_of(leaves: Sequence[Any]) -> Likeness | None:
    """What the field's values look like, and are not. Times that are ISO 8601 are no likeness where most are."""
    present = [leaf for leaf in leaves if leaf is not None and leaf != ""]
    texts = [leaf if type(leaf) is str else str(leaf) for leaf in present if type(leaf) in (str, int)]
    if not present or len(texts) < _MOSTLY * len(present):
        return None

    def example(test: Test) -> str | None:
        alike = [text for text in texts if test(text.strip())]
        return alike[0][:40] if len(alike) >= _MOSTLY * len(present) else None

    numbers = all(type(leaf) is int for leaf in present)
    if not numbers:
        read = int((of_iso(Strings.of([text.encode("utf-8", "replace") for text in texts])) >= 0).sum())
        if read >= _MOSTLY * len(present):
            whole = read == len(leaves) or read >= _MOSTLY * len(leaves)
            return None if whole else Likeness(True, False, f"holds times, but only {read} of {len(leaves)} records do")
        if shown := example(_TIME.fullmatch):
            return Likeness(True, False, f"looks like a time ({shown}) but is not ISO 8601")
        if shown := example(_OF_DAY.fullmatch):
            return Likeness(True, True, f"looks like a time of day ({shown}), which is no time without its date")
    if shown := example(_COMPACT.fullmatch):
        return Likeness(True, False, f"looks like a time ({shown}) but is not ISO 8601")
    if numbers:
        return None
    if shown := example(_SEPARATED.fullmatch):
        return Likeness(False, False, f"looks like a number ({shown}) but is not read as one: JSON has 1234.5")
    if shown := example(_MEASURED.fullmatch):
        return Likeness(False, False, f"looks like a number with its unit ({shown}), which is not read as one")
    return None
