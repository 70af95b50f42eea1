"""The one schema of `stream_ad.toml`. Every error names the key and what to do.

A value is taken from the environment (`STREAM_AD__REDIS__URL`), else from the file, else from
the default. Secrets belong in the environment, or in a file named by `<option>.file` under
`[kafka.options]`; they are refused in the TOML file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args, get_origin

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from stream_ad.config.environment import overridden, refuse_secrets, variable_for
from stream_ad.config.parts import KINDS, PartSection, Record, ScorerOptions, ThresholdOptions, Window
from stream_ad.config.rules import Calendar, Rules
from stream_ad.config.sections import (
    Features,
    Incidents,
    Kafka,
    Models,
    Redis,
    Run,
    Scoring,
    Section,
    Server,
    Silence,
    Sink,
    Source,
)
from stream_ad.errors import ConfigError


class Config(Section):
    """One pipeline."""

    pipeline: str = Field(
        "stream_ad",
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        max_length=200,
        description="name: the consumer group, the prefix of topics and Redis keys",
    )
    kafka: Kafka = Field(default_factory=Kafka)
    source: Source = Field(default_factory=Source)
    sink: Sink = Field(default_factory=Sink)
    redis: Redis = Field(default_factory=Redis)
    record: SerializeAsAny[Record] = Field(default_factory=Record, validate_default=True)
    window: SerializeAsAny[Window] = Field(default_factory=Window, validate_default=True)
    features: Features = Field(default_factory=Features)
    rules: Rules = Field(default_factory=Rules)
    calendar: Calendar = Field(default_factory=Calendar)
    scoring: Scoring = Field(default_factory=Scoring)
    threshold: SerializeAsAny[ThresholdOptions] = Field(default_factory=ThresholdOptions, validate_default=True)
    incidents: Incidents = Field(default_factory=Incidents)
    silence: Silence = Field(default_factory=Silence)
    train: SerializeAsAny[ScorerOptions] = Field(default_factory=ScorerOptions, validate_default=True)
    models: Models = Field(default_factory=Models)
    run: Run = Field(default_factory=Run)
    server: Server = Field(default_factory=Server)

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
            name = data.get("pipeline", "stream_ad")
            sink, redis = data.setdefault("sink", {}), data.setdefault("redis", {})
            if isinstance(sink, dict):
                for role in ("alerts", "rejects"):
                    sink[role] = sink.get(role) or f"{name}.{role}"
            if isinstance(redis, dict):
                redis["prefix"] = redis.get("prefix") or f"stream_ad:{name}"
        return data

    @field_validator(*KINDS, mode="wrap")
    @classmethod
    def _with_options(cls, value: object, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        kind = KINDS[str(info.field_name)]
        if isinstance(value, PartSection):
            return kind.adapted(read(value))
        return kind.read(value) if isinstance(value, dict) else read(value)

    @model_validator(mode="after")
    def _topics(self) -> Self:
        """What is written must not be read again: a reject would be rejected for ever."""
        keys = ("source.topic", "sink.alerts", "sink.rejects", "pipeline (its .models)", "pipeline (its .bundles)")
        named: dict[str, str] = {}
        for key, topic in zip(keys, (self.source.topic, *self.outputs), strict=True):
            if topic in named:
                raise ValueError(f"{named[topic]}, {key}: both name topic {topic!r}; each needs one of its own")
            named[topic] = key
        return self

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.models.verify_keys and self.train.auto and not self.models.signing_key:
            raise ValueError(
                "train.auto: what `run` trains would be refused, since models.verify_keys asks for a signature; "
                "set train.auto = false and sign elsewhere, or set models.signing_key"
            )
        if self.record.timestamp in self.sink.redact:
            raise ValueError("sink.redact: the event time cannot be redacted, every alert tells it")
        return self

    @property
    def unused(self) -> list[str]:
        """A line for each key that the chosen parts have no use for."""
        sections: dict[str, PartSection] = {name: getattr(self, name) for name in KINDS}
        return [
            f"{name}.{key}: the {KINDS[name].name} {KINDS[name].chosen(dict(section))} does not use it; remove it"
            for name, section in sections.items()
            for key in section.unused
        ]

    @property
    def outputs(self) -> tuple[str, str, str, str]:
        """All topics that the pipeline writes."""
        return (self.sink.alerts, self.sink.rejects, self.models_topic, self.bundles_topic)

    @property
    def models_topic(self) -> str:
        return f"{self.pipeline}.models"

    @property
    def bundles_topic(self) -> str:
        return f"{self.pipeline}.bundles"


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Reads and checks the file. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; `stream-ad init` writes one from a sample of your data, --config names another"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # of TOML, or of a number with thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    refuse_secrets(path, data)
    return parse(data, environ, where=str(path))


def parse(data: dict[str, Any], environ: Mapping[str, str] | None = None, where: str = "config") -> Config:
    """Checks plain data, with overrides from `environ`. Raises `ConfigError`."""
    environ = environ or {}
    merged = overridden(data, environ, _is_table)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        lines = [_line(where, dict(problem), merged, environ) for problem in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _line(where: str, problem: dict[str, Any], data: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    path = problem["loc"]
    text = problem["msg"].removeprefix("Value error, ")
    if not path:
        return f"{where}: {text}"
    if path[:2] == ("kafka", "options") and len(path) > 2:
        # one line for an option, not one for each type that it might have been
        path, text = path[:3], "must be text, a number, true or false"
    if problem["type"] == "extra_forbidden":
        text = _unknown(path, data)
    key = ".".join(str(part) for part in path)
    if variable := variable_for(path, environ):
        text += f" (set by {variable})"
    elif problem["type"] != "extra_forbidden" and path[0] not in ("kafka", "redis", "models"):  # may hold secrets
        text += f" (got {_short(problem['input'])})"
    return f"{where}: {key}: {text}".replace("\n", "\\n")


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _unknown(path: Sequence[str], data: Mapping[str, Any]) -> str:
    known = sorted(_fields(path[:-1], data))
    kind = KINDS.get(path[0]) if len(path) > 1 else None
    if kind is None:
        return f"unknown key; known here: {', '.join(known)}"
    common = sorted(kind.common.model_fields)
    own = ", ".join(key for key in known if key not in common) or "none"
    return (
        f"the {kind.name} {kind.chosen(data[path[0]])} has no such option; it has: {own}; "
        f"any {kind.name} has: {', '.join(common)}"
    )


def _fields(path: Sequence[str], data: Mapping[str, Any]) -> Mapping[str, FieldInfo]:
    """What may stand at `path`, with the parts that `data` names."""
    if not path:
        return Config.model_fields
    model: object = Config.model_fields[path[0]].annotation if path[0] in Config.model_fields else None
    if len(path) > 2 and isinstance(model, type) and issubclass(model, Section):  # a table of a list of them
        model = get_args(model.model_fields[path[1]].annotation)[0]
    section = data.get(path[0])
    if path[0] in KINDS and isinstance(section, dict) and (name := KINDS[path[0]].chosen(section)):
        try:
            model = KINDS[path[0]].model(name)
        except ConfigError:
            return {}  # the part is not there: who reads the section says so
    return model.model_fields if isinstance(model, type) and issubclass(model, Section) else {}


def _is_table(path: Sequence[str], data: Mapping[str, Any]) -> bool:
    """Whether a list or a table belongs there."""
    field = _fields(path[:-1], data).get(path[-1]) if len(path) < 3 else None  # no section stands in a section
    return field is not None and get_origin(field.annotation) in (list, dict)
