"""The configuration: `load` and `parse` give a `Config`, whose sections other parts are typed with."""

from stream_ad.config.parts import Record, ScorerOptions, Threshold, ThresholdOptions, Train, Window
from stream_ad.config.rules import Calendar, Quiet, Rules
from stream_ad.config.schema import Config, load, parse
from stream_ad.config.sections import (
    Budget,
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

__all__ = [
    "Budget",
    "Calendar",
    "Config",
    "Features",
    "Incidents",
    "Kafka",
    "Models",
    "Quiet",
    "Record",
    "Redis",
    "Rules",
    "Run",
    "ScorerOptions",
    "Scoring",
    "Section",
    "Server",
    "Silence",
    "Sink",
    "Source",
    "Threshold",
    "ThresholdOptions",
    "Train",
    "Window",
    "load",
    "parse",
]
