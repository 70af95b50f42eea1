"""The list of a pipeline's features, which is part of a model's identity.

A bundle holds the spec that it was trained on; a pipeline refuses a bundle with another spec.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass

from stream_ad.config import Config
from stream_ad.config.feature_kinds import BY_FEATURE, kinds_of
from stream_ad.config.feature_kinds.row import EXPECTING, FeatureKind, Of, Parameter, State
from stream_ad.config.sections import Features, duration_ms
from stream_ad.errors import ConfigError

BETWEEN = " + "  # the names of the two fields of a pair


@dataclass(frozen=True, slots=True)
class Feature:
    name: str  # as in "amount.zscore"; unique
    kind: str  # one of `FeatureKind.features`
    field: str  # dotted path; "" for features of the event itself
    column: int  # of the field in EventBatch.values or .codes, of a pair behind the latter; -1 for the event itself
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
        numeric, categorical = tuple(section.numeric), categorical_fields(section)
        for name in numeric:
            if name in categorical:
                raise ConfigError(f"features.categorical.{name}: is a numeric field already; keep one of the two")
        features: list[Feature] = []
        for text in section.event:
            features += _parsed(text, "", -1, Of.EVENT, "features.event")
        for column, name in enumerate(numeric):
            for text in section.numeric[name]:
                features += _parsed(text, name, column, Of.NUMBER, f"features.numeric.{name}")
        pairs = [name for name, texts in section.categorical.items() if BETWEEN in name and texts]
        for column, name in enumerate([*categorical, *pairs]):
            for text in section.categorical.get(name, []):
                features += _parsed(text, name, column, Of.CATEGORY, f"features.categorical.{name}")
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
        spec = cls(
            tuple(features), numeric, categorical, config.window.rows, section.half_life_rows, section.prior_rows
        )
        if spec.has_joint and len(numeric) < 2:
            raise ConfigError("features.event: joint looks at fields together; name two under [features.numeric]")
        spec._check_rules(config)
        return spec

    @property
    def has_joint(self) -> bool:
        return any(self.kind_of(feature).state is State.JOINT for feature in self.features)

    def _check_rules(self, config: Config) -> None:
        """Raises `ConfigError` for a rule that could not be kept."""
        for rule, field in config.rules.named():
            key = f"rules.{rule}.{field}"
            if field not in self.numeric:
                known = ", ".join(self.numeric) or "none"
                raise ConfigError(f"{key}: no such field under [features.numeric]; there are: {known}")
            for feature in self.features:
                made_of_many = self.kind_of(feature).state in (State.TRACKER, State.SPAN)
                if feature.field == field and made_of_many and rule != "valid":
                    raise ConfigError(
                        f"{key}: {feature.name} is made of many values, of which it cannot be said what was expected; "
                        "remove that feature or the rule"
                    )

    def kind_of(self, feature: Feature) -> FeatureKind:
        if feature.column < 0:
            return BY_FEATURE[Of.EVENT, feature.kind]
        return BY_FEATURE[Of.NUMBER if feature.field in self.numeric else Of.CATEGORY, feature.kind]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The columns of the two categorical fields of each pair that has features."""
        categories = [feature for feature in self.features if self.kind_of(feature).of is Of.CATEGORY]
        names = dict.fromkeys(feature.field for feature in categories if feature.column >= len(self.categorical))
        halves = (name.split(BETWEEN) for name in names)
        return tuple((self.categorical.index(first), self.categorical.index(second)) for first, second in halves)

    @property
    def expected(self) -> tuple[tuple[State, int], ...]:
        """What a mean and a deviation are expected of: the d fields, then what else features need of a field.

        (state, column) each; those of `State.OVERALL` come last, since nothing is kept of a key for them.
        """
        pairs = dict.fromkeys((State.MOMENTS, column) for column in range(len(self.numeric)))
        for feature in self.features:
            state = self.kind_of(feature).state
            if state in EXPECTING:
                pairs[state, feature.column] = None
        return tuple(sorted(pairs, key=lambda pair: pair[0] is State.OVERALL))

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


def categorical_fields(section: Features) -> tuple[str, ...]:
    """The categorical fields: those that are listed, then others that pairs are made of. Raises `ConfigError`."""
    names = [name for name in section.categorical if BETWEEN not in name]
    for pair in section.categorical:
        if BETWEEN in pair:
            halves = pair.split(BETWEEN)
            if len(set(halves)) < len(halves) or len(halves) != 2 or not all(halves):
                raise ConfigError(f'features.categorical.{pair!r}: a pair is two different fields, as in "a + b"')
            names += halves
    return tuple(dict.fromkeys(names))


def _parsed(text: str, field: str, column: int, of: Of, key: str) -> list[Feature]:
    name, colon, parameter_text = text.partition(":")
    kinds = kinds_of(of)
    if name not in kinds:
        raise ConfigError(f"{key}: no feature is called {name!r}; there are: {', '.join(kinds)}")
    kind = kinds[name]
    if kind.parameter is None and colon:
        raise ConfigError(f"{key}: {name} takes no parameter (got {text!r})")
    parameter = 0.0 if kind.parameter is None else _parameter(kind.parameter, parameter_text, text, name, key)
    parts = [f"{field}." if field else "", name, f".{parameter_text.strip()}" if parameter_text else ""]
    return [
        Feature("".join([*parts, suffix.replace("_", ".")]), f"{name}{suffix}", field, column, parameter)
        for suffix in kind.suffixes
    ]


def _parameter(parameter: Parameter, parameter_text: str, text: str, name: str, key: str) -> float:
    value = 0.0
    if parameter is Parameter.SPAN:
        try:
            value = float(duration_ms(parameter_text))  # type: ignore[arg-type]
        except ValueError as error:
            raise ConfigError(f"{key}: {name} needs a span: {error}, as in {name}:1h (got {text!r})") from None
        if value <= 0:
            raise ConfigError(f"{key}: {name} needs a span above zero (got {text!r})")
        return value
    with contextlib.suppress(ValueError):
        value = float(parameter_text)
    if not 0 < value < 1e9:
        raise ConfigError(f"{key}: {name} needs a half-life in rows, as in {name}:50 (got {text!r})")
    return value
