"""`[rules]` and `[calendar]`: what the owner of a pipeline knows beforehand about its fields and its days."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator

from stream_ad.config.sections import Moment, Section

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIRST_YEAR, LAST_YEAR = 1970, 2100  # in which a date without a year lies
DAY_MINUTES = 24 * 60
_CLOCK = r"(\d{2}):(\d{2})"

Direction = Literal["up", "down", "both"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]


class Rules(Section):
    """What of a numeric field counts. A key is the field, as under `[features.numeric]`."""

    direction: dict[str, Direction] = Field(
        default_factory=dict, description='field -> `"up"` or `"down"`: the other way, no deviation counts'
    )
    least: dict[str, NotNegative] = Field(
        default_factory=dict, description="field -> a smaller deviation from what was expected counts as none"
    )
    least_share: dict[str, NotNegative] = Field(
        default_factory=dict, description="the same, as a share of what was expected: 0.2 = a fifth"
    )

    valid: dict[str, Range] = Field(
        default_factory=dict,
        description="field -> `[least, most]`: a value outside is told by the rule `range`, and is missing to features",
    )

    @field_validator("valid")
    @classmethod
    def _valid(cls, valid: dict[str, list[float]]) -> dict[str, list[float]]:
        for field, bounds in valid.items():
            if bounds[0] > bounds[1]:
                raise ValueError(f"{field}: the least valid value must not be above the most valid one")
        return valid

    def named(self) -> Iterator[tuple[str, str]]:
        """Each rule with each field that it names."""
        for rule in type(self).model_fields:
            for field in getattr(self, rule):
                yield rule, field


def as_text(value: Any) -> Any:
    """Dates of TOML, "2026-04-03", or "12-25" for that day of each year."""
    return [str(one) if isinstance(one, date) else one for one in value] if isinstance(value, list) else value


class Quiet(Section):
    """A time in which nothing is judged, learnt or told: from `start` to `end`, or again and again."""

    name: str = Field(min_length=1, max_length=200, description="of the window, for people")
    keys: list[str] = Field(
        default_factory=lambda: ["*"], description="keys that it holds for: `*` any text, `?` any character"
    )
    start: Moment | None = Field(None, description="of a single window; with `end`")
    end: Moment | None = Field(None, description="the first moment that does not belong to it")
    days: list[Weekday] = Field(default_factory=list, description="weekdays; neither they nor `dates`: every day")
    dates: Annotated[list[str], BeforeValidator(as_text)] = Field(
        default_factory=list, description='holidays: `"2026-04-03"`, or `"12-25"` for each year'
    )
    hours: str = Field(
        "", description='`"22:00-04:00"`, local time; one that crosses midnight belongs to its first day; empty = all'
    )
    timezone: str = Field("UTC", description="of days, dates and hours, as in `Europe/Berlin`")

    @field_validator("keys")
    @classmethod
    def _some(cls, keys: list[str]) -> list[str]:
        if not keys:
            raise ValueError('at least one pattern is expected; "*" is every key')
        return keys

    @field_validator("dates")
    @classmethod
    def _dates(cls, texts: list[str]) -> list[str]:
        for text in texts:
            if not days_of(text):
                raise ValueError(f'a date such as "2026-04-03" or "12-25" is expected, not {text!r:.40}')
        return texts

    @field_validator("hours")
    @classmethod
    def _hours(cls, text: str) -> str:
        minutes_of(text)
        return text

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):  # no such zone, a folder of zones, a name that is no path
            raise ValueError('a zone of the IANA database such as "Europe/Berlin" is expected') from None
        return name

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        repeated = bool(self.days or self.dates or self.hours)
        if (self.start is None) != (self.end is None):
            raise ValueError("start and end belong together: a single window has both")
        if (self.start is not None) == repeated:
            raise ValueError("either start and end are expected, or days, dates or hours")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError("start must lie before end")
        return self


class Calendar(Section):
    """Times in which nothing is judged, learnt or told: maintenance, holidays."""

    quiet: list[Quiet] = Field(default_factory=list, description="a table `[[calendar.quiet]]` for each; see below")


def minutes_of(hours: str) -> tuple[int, int]:
    """Minutes of the day at which a window begins and ends. Raises `ValueError`."""
    if not hours:
        return 0, DAY_MINUTES
    match = re.fullmatch(rf"\s*{_CLOCK}\s*-\s*{_CLOCK}\s*", hours, re.ASCII)
    if match:
        first, last = (int(match[at]) * 60 + int(match[at + 1]) for at in (1, 3))
        if all(int(match[at]) < 60 for at in (2, 4)) and first < DAY_MINUTES and last <= DAY_MINUTES and first != last:
            return first, last
    raise ValueError('hours such as "22:00-04:00" are expected, from 00:00 to 24:00')


def days_of(text: str) -> list[int]:
    """The days that a text means, since 1970-01-01; none where it is no date."""
    if match := re.fullmatch(r"(?:(\d{4})-)?(\d{2})-(\d{2})", text, re.ASCII):
        years = [int(match[1])] if match[1] else range(FIRST_YEAR, LAST_YEAR + 1)
        days = (_day(year, int(match[2]), int(match[3])) for year in years)
        return [day for day in days if day is not None]
    return []


def _day(year: int, month: int, day: int) -> int | None:
    try:
        return (date(year, month, day) - date(1970, 1, 1)).days
    except ValueError:  # as the 29th of February of most years
        return None


@functools.cache
def shifts_of(timezone: str) -> list[tuple[int, int]]:
    """Moments at which the zone's offset from UTC changes, and the offset from there on, both in ms.

    Beyond `FIRST_YEAR` and `LAST_YEAR` the nearest offset holds.
    """
    zone, minute = ZoneInfo(timezone), timedelta(minutes=1)

    def offset_ms(moment: datetime) -> int:
        return (moment.astimezone(zone).utcoffset() or timedelta()) // timedelta(milliseconds=1)

    day = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    found = [(0, offset_ms(day))]
    while day.year <= LAST_YEAR:
        following = day + timedelta(days=1)
        if offset_ms(following) != found[-1][1]:
            before, after = day, following  # the shift lies between them
            while after - before > minute:
                middle = before + (after - before) // 2 // minute * minute
                before, after = (middle, after) if offset_ms(middle) == found[-1][1] else (before, middle)
            found.append((round(after.timestamp()) * 1000, offset_ms(after)))
        day = following
    return found
