"""Which features a pipeline computes: part of a model's identity.

A bundle carries the spec it was trained on; one that differs from the pipeline's is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from stream_ad.config import Config
from stream_ad.config.sections import duration_ms
from stream_ad.errors import ConfigError

# kind -> what its parameter is; None = it takes none
EVENT_KINDS: dict[str, str | None] = {"gap": None, "count": "span", "time_of_day": None, "day_of_week": None}
NUMERIC_KINDS: dict[str, str | None] = {
    "raw": None,
    "log1p": None,
    "diff": None,
    "rate": None,
    "zscore": None,
    "mean": None,
    "std": None,
    "min": None,
    "max": None,
    "ew_mean": "rows",
    "ew_std": "rows",
    "sum": "span",
    "missing": None,
}
CATEGORICAL_KINDS: dict[str, str | None] = {
    "novelty": None,
    "frequency": None,
    "novelty_overall": None,
    "frequency_overall": None,
    "missing": None,
}
CYCLIC = {"time_of_day", "day_of_week"}


@dataclass(frozen=True, slots=True)
class Feature:
    name: str  # as in "amount.zscore"; unique
    kind: str  # a key of the tables above; cyclic ones end in _sin and _cos
    field: str  # dotted path; "" for features of the event itself
    column: int  # of the field in EventBatch.values or .codes; -1 for the event itself
    parameter: float  # a span in ms, a half-life in rows, or 0


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    features: tuple[Feature, ...]
    numeric: tuple[str, ...]  # the d numeric fields, in order
    categorical: tuple[str, ...]  # the c categorical fields, in order
    rows: int  # w
    half_life_rows: float
    prior_rows: float

    @classmethod
    def of(cls, config: Config) -> FeatureSpec:
        """Raises `ConfigError` naming the key."""
        section = config.features
        numeric, categorical = tuple(section.numeric), tuple(section.categorical)
        for name in numeric:
            if name in categorical:
                raise ConfigError(f"features.categorical.{name}: is a numeric field already; keep one of the two")
        features: list[Feature] = []
        for text in section.event:
            features += _parsed(text, "", -1, EVENT_KINDS, "features.event")
        for column, name in enumerate(numeric):
            for text in section.numeric[name]:
                features += _parsed(text, name, column, NUMERIC_KINDS, f"features.numeric.{name}")
        for column, name in enumerate(categorical):
            for text in section.categorical[name]:
                features += _parsed(text, name, column, CATEGORICAL_KINDS, f"features.categorical.{name}")
        if not features:
            raise ConfigError(
                "features: nothing to look at; name at least one field under [features.numeric] or "
                "[features.categorical], or a feature under features.event"
            )
        seen: set[str] = set()
        for feature in features:
            if feature.name in seen:
                raise ConfigError(f"features: {feature.name} is listed twice; remove one")
            seen.add(feature.name)
        return cls(
            tuple(features), numeric, categorical, config.window.rows, section.half_life_rows, section.prior_rows
        )

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> FeatureSpec:
        data = json.loads(text)
        data["features"] = tuple(Feature(**feature) for feature in data["features"])
        data["numeric"], data["categorical"] = tuple(data["numeric"]), tuple(data["categorical"])
        return cls(**data)


def _parsed(text: str, field: str, column: int, kinds: dict[str, str | None], key: str) -> list[Feature]:
    kind, colon, parameter_text = text.partition(":")
    if kind not in kinds:
        raise ConfigError(f"{key}: no feature is called {kind!r}; there are: {', '.join(kinds)}")
    wanted = kinds[kind]
    parameter = 0.0
    if wanted is None and colon:
        raise ConfigError(f"{key}: {kind} takes no parameter (got {text!r})")
    if wanted == "span":
        try:
            parameter = float(duration_ms(parameter_text))  # type: ignore[arg-type]
        except ValueError as error:
            raise ConfigError(f"{key}: {kind} needs a span: {error}, as in {kind}:1h (got {text!r})") from None
        if parameter <= 0:
            raise ConfigError(f"{key}: {kind} needs a span above zero (got {text!r})")
    if wanted == "rows":
        try:
            parameter = float(parameter_text)
        except ValueError:
            parameter = 0.0
        if not 0 < parameter < 1e9:
            raise ConfigError(f"{key}: {kind} needs a half-life in rows, as in {kind}:50 (got {text!r})")
    prefix = f"{field}." if field else ""
    if kind in CYCLIC:
        return [Feature(f"{prefix}{kind}.{part}", f"{kind}_{part}", field, column, 0.0) for part in ("sin", "cos")]
    name = f"{prefix}{kind}" + (f".{parameter_text.strip()}" if parameter_text else "")
    return [Feature(name, kind, field, column, parameter)]
