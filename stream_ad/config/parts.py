"""The sections of `stream_ad.toml` that registered parts bring options to.

Such a section names its part (`train.scorer`) and has two groups of keys: those of every part of the kind, and
the options of the part that it names. A class declares its options as `Options`, a subclass of the section that
is common to its kind: `Record`, `Window`, `ThresholdOptions` or `ScorerOptions`.

Before parts had options of their own, all parts of a kind had the same keys: those of `Record`, `Window`,
`Threshold` and `Train`. A part that declares no options still gets them. Where the part that a section names has
no use for one of these keys, the key is left out and `Config.unused` says so, because files of that time hold
them for every part. Any other unknown key is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from stream_ad import registry
from stream_ad.config.sections import Duration, Moment, Section
from stream_ad.errors import ConfigError


class PartSection(Section):
    """A section whose part brings options to it."""

    _unused: tuple[str, ...] = PrivateAttr(())

    @property
    def unused(self) -> tuple[str, ...]:
        """Keys that were given and are left out."""
        return self._unused


class Record(PartSection):
    """How a record becomes an event."""

    format: str = Field("json", description="a registered codec")
    key: str = Field("$key", description="field that names who is watched, or `$key`: the record's key")
    timestamp: str = Field("$timestamp", description="field with the event time, or `$timestamp`: the record's own")
    timestamp_format: Literal["iso", "s", "ms", "us", "ns"] = Field(
        "iso", description="ISO 8601 (UTC where it names no zone), or a number since the epoch in that unit"
    )
    numbers_as_text: bool = Field(False, description='accept "12.5" where a number is meant')
    earliest: Moment = Field(
        946_684_800_000,
        description="records with an earlier event time are rejected: a clock that was reset, a wrong unit",
    )
    latest: Moment = Field(
        4_102_444_800_000,
        description="records from then on are rejected: one of them would make all that follow late",
    )
    max_key_bytes: int = Field(64, ge=1, le=1024, description="longer keys are rejected")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.earliest >= self.latest:
            raise ValueError("earliest must lie before latest")
        return self


class Window(PartSection):
    """What a score looks at."""

    rows: int = Field(16, ge=1, le=512, description="events per window; for `time` the most that are kept")
    kind: str = Field("count", description="count: the last `rows` events; time: those of the last `span`")
    span: Duration = Field(3_600_000, description="length of a time window")
    hop: int = Field(1, ge=1, description="score every so many events of a key")
    allowed_lateness: Duration = Field(0, description="how far the watermark trails the highest timestamp")
    late: Literal["accept", "drop", "reject"] = Field("accept", description="events behind the watermark")
    max_keys: int = Field(
        100_000, ge=1, le=100_000_000, description="keys per partition; beyond it the least recently seen is forgotten"
    )


class ThresholdOptions(PartSection):
    """What counts as anomalous."""

    kind: str = Field("ewma", description="a registered threshold")
    false_alarm_rate: float = Field(1e-4, gt=0, lt=0.5, description="flags per scored event on normal data")


class Threshold(ThresholdOptions):
    """For thresholds that declare no options. It does not change any more."""

    half_life_rows: float = Field(200.0, gt=0)
    prior_rows: float = Field(20.0, gt=0)
    escape_after: Duration = 1_800_000
    escape_rows: int = Field(30, ge=2)


class ScorerOptions(PartSection):
    """How models are built."""

    scorer: str = Field("ensemble", description="a registered trainable scorer")
    auto: bool = Field(True, description="`run` trains and promotes the first model by itself")
    min_events: int = Field(20_000, ge=256, description="events in the topic before the first model is trained")
    max_rows: int = Field(200_000, ge=256, description="windows used at most, evenly spaced in time")
    held_back: float = Field(0.2, gt=0, lt=0.9, description="last part of the time range: early stopping, calibration")
    seed: int = Field(0, description="of weights and sampling")


class Train(ScorerOptions):
    """For scorers that declare no options. It does not change any more."""

    epochs: int = Field(30, ge=1)
    hidden: list[int] = Field(default_factory=lambda: [64, 16])
    samples: int = Field(0, ge=0, le=256)


S = TypeVar("S", bound=PartSection)


@dataclass(frozen=True, slots=True)
class Kind(Generic[S]):
    """A kind of part, and the section that its parts bring options to."""

    name: str  # in the registry
    key: str  # of the section, which names the part
    common: type[S]  # the keys that every part of the kind has
    undeclared: type[S]  # for a part that declares no options

    def chosen(self, value: Mapping[str, Any]) -> str | None:
        """The part that the section names; None where that is no text."""
        name = value.get(self.key, self.common.model_fields[self.key].default)
        return name if isinstance(name, str) else None

    def model(self, name: str) -> type[S]:
        """The section as the part called `name` has it. Raises `ConfigError`."""
        declared = registry.options(self.name, name)
        if declared is None:
            return self.undeclared
        if not issubclass(declared, self.common):
            raise ConfigError(
                f"{registry.KEYS[self.name]}: {declared.__name__}, the options of {name}, must derive from "
                f"stream_ad.config.{self.common.__name__}"
            )
        return declared

    def read(self, value: Mapping[str, Any]) -> S:
        """The section from plain data. Raises `ValidationError`."""
        name = self.chosen(value)
        if name is None:
            return self.common.model_validate({self.key: value[self.key]})
        if not registry.has(self.name, name):
            # the name is not repeated: it may come from a variable, whose content is never shown
            raise self._wrong(value, f"no such {self.name}; there are: {', '.join(registry.names(self.name))}")
        try:
            model = self.model(name)
        except ConfigError as error:
            raise self._wrong(value, str(error).removeprefix(f"{registry.KEYS[self.name]}: ")) from None
        unused = tuple(key for key in value if key in self.undeclared.model_fields and key not in model.model_fields)
        section = model.model_validate({key: one for key, one in value.items() if key not in unused})
        section._unused = unused
        return section

    def adapted(self, section: S) -> S:
        """A section that was made for another part, as the part that it names takes it. Raises `ConfigError`."""
        values = dict(section)
        model = self.model(values[self.key])
        if isinstance(section, model):
            return section
        kept = {key: value for key, value in values.items() if key in model.model_fields}
        return model.model_construct(**kept)  # type: ignore[return-value]  # the plugin answers the bound of S

    def _wrong(self, value: Mapping[str, Any], text: str) -> ValidationError:
        problem = PydanticCustomError("part", "{text}", {"text": text})
        details = InitErrorDetails(type=problem, loc=(self.key,), input=value.get(self.key))
        return ValidationError.from_exception_data(self.name, [details])


SCORER = Kind("scorer", "scorer", ScorerOptions, Train)
KINDS: dict[str, Kind[Any]] = {
    "record": Kind("codec", "format", Record, Record),
    "window": Kind("window", "kind", Window, Window),
    "threshold": Kind("threshold", "kind", ThresholdOptions, Threshold),
    "train": SCORER,
}
