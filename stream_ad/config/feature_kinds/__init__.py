"""The table of feature kinds. The kernel, the alerts, `init` and the reference page follow it.

A new kind is a `FeatureKind` in a file of this folder, and a line here. docs/writing-a-feature.md is the guide.
"""

from __future__ import annotations

import importlib

from stream_ad.config.feature_kinds.row import FeatureKind, Of, Parameter, Trait

_ROWS = (
    "event:GAP",
    "event:COUNT",
    "event:JOINT",
    "event:TIME_OF_DAY",
    "event:DAY_OF_WEEK",
    "numeric:RAW",
    "numeric:LOG1P",
    "numeric:ZSCORE",
    "numeric:ZSCORE_LOG",
    "numeric:ZSCORE_OVERALL",
    "numeric:ZSCORE_DIFF",
    "numeric:ZSCORE_STD",
    "numeric:ZSCORE_DAILY",
    "numeric:ZSCORE_WEEKLY",
    "numeric:DIFF",
    "numeric:RATE",
    "windowed:MEAN",
    "windowed:STD",
    "windowed:MIN",
    "windowed:MAX",
    "windowed:EW_MEAN",
    "windowed:EW_STD",
    "windowed:SUM",
    "numeric:MISSING",
    "categorical:NOVELTY",
    "categorical:FREQUENCY",
    "categorical:NOVELTY_OVERALL",
    "categorical:FREQUENCY_OVERALL",
    "categorical:BURST_OVERALL",
    "categorical:MISSING",
)


def _row(text: str) -> FeatureKind:
    module, _, name = text.partition(":")
    row = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    if not isinstance(row, FeatureKind):
        raise TypeError(f"{__name__}: {text} is no FeatureKind")
    return row


KINDS: tuple[FeatureKind, ...] = tuple(map(_row, _ROWS))
BY_FEATURE = {(kind.of, feature): kind for kind in KINDS for feature in kind.features}
if len(BY_FEATURE) < sum(len(kind.features) for kind in KINDS):
    raise ValueError(f"{__name__}: two kinds of the same section have one name")


def kinds_of(of: Of) -> dict[str, FeatureKind]:
    """By the name that the configuration knows, in the order of the table."""
    return {kind.name: kind for kind in KINDS if kind.of is of}


def suited(of: Of, traits: set[Trait], span: str = "1h") -> list[str]:
    """The kinds that suit a sample with these traits, as the configuration lists them."""
    parameters = {None: "", Parameter.SPAN: f":{span}", Parameter.ROWS: ":50"}
    return [kind.name + parameters[kind.parameter] for kind in kinds_of(of).values() if kind.suits & traits]
