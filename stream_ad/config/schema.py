"""The one schema of `stream_ad.toml`. Every error names the key and what to do.

A value is taken from the environment (`STREAM_AD__REDIS__URL`), else from the file, else from
the default. Secrets belong in the environment, or in a file named by `<option>.file` under
`[kafka.options]`; they are refused in the TOML file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from stream_ad.config.environment import overridden, refuse_secrets, variable_for
from stream_ad.config.sections import (
    Features,
    Incidents,
    Kafka,
    Models,
    Record,
    Redis,
    Run,
    Scoring,
    Section,
    Server,
    Silence,
    Sink,
    Source,
    Threshold,
    Train,
    Window,
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
    record: Record = Field(default_factory=Record)
    window: Window = Field(default_factory=Window)
    features: Features = Field(default_factory=Features)
    scoring: Scoring = Field(default_factory=Scoring)
    threshold: Threshold = Field(default_factory=Threshold)
    incidents: Incidents = Field(default_factory=Incidents)
    silence: Silence = Field(default_factory=Silence)
    train: Train = Field(default_factory=Train)
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
    try:
        return Config.model_validate(overridden(Config, data, environ))
    except ValidationError as error:
        lines = [_line(where, dict(problem), environ) for problem in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _line(where: str, problem: dict[str, Any], environ: Mapping[str, str]) -> str:
    path = problem["loc"]
    text = problem["msg"].removeprefix("Value error, ")
    if not path:
        return f"{where}: {text}"
    if path[:2] == ("kafka", "options") and len(path) > 2:
        # one line for an option, not one for each type that it might have been
        path, text = path[:3], "must be text, a number, true or false"
    if problem["type"] == "extra_forbidden":
        text = f"unknown key; known here: {', '.join(_known(path[:-1]))}"
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


def _known(path: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for part in path:
        model = model.model_fields[part].annotation
    return sorted(model.model_fields)
