"""The configuration: `load` and `parse` give a `Config`, whose sections other parts are typed with."""

from stream_ad.config.schema import Config, load, parse
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

__all__ = [
    "Config",
    "Features",
    "Incidents",
    "Kafka",
    "Models",
    "Record",
    "Redis",
    "Run",
    "Scoring",
    "Section",
    "Server",
    "Silence",
    "Sink",
    "Source",
    "Threshold",
    "Train",
    "Window",
    "load",
    "parse",
]
