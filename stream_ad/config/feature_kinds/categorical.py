"""Features of a category: how often it was seen, with its key or with all keys."""

from __future__ import annotations

import math

from stream_ad.config.feature_kinds.given import Burst, Category, Counts, formula
from stream_ad.config.feature_kinds.numeric import presence
from stream_ad.config.feature_kinds.reading import Indicator, Rise, Seen, Share
from stream_ad.config.feature_kinds.row import FeatureKind, Of, Role, State, Trait


@formula
def novelty(before: Counts) -> float:
    return 1.0 if before.times == 0 else 0.0


@formula
def frequency(before: Counts) -> float:
    return math.log((before.times + 0.5) / (before.values + 1.0))


@formula
def missing(category: Category) -> float:
    return 1.0 if category.missing else 0.0


@formula
def burst(now: Burst) -> float:
    """The root of (a - s/t)² t² / (s (t - 1)), 0 where a is below s/t (MIDAS: Bhatia et al., AAAI 2020; MStream:
    Bhatia et al., WWW 2021)."""
    excess = max(now.recent - now.times / now.ticks, 0.0)
    return excess * now.ticks / math.sqrt(now.times * max(now.ticks - 1.0, 1.0))


def text(novel: bool, seen: Seen) -> str | None:
    return seen.category


NOVELTY = FeatureKind(
    name="novelty",
    of=Of.CATEGORY,
    state=State.KEY_COUNTS,
    formula=novelty,
    reading=Indicator(
        "{category} never seen for this key",
        "{category} seen before, where new ones are usual",
        ("novel", "known"),
        text,
    ),
    role=Role.INDICATOR,
    about="1 where the key never had the category before, else 0",
    suits=frozenset({Trait.CATEGORY}),
    rank=1,
)
FREQUENCY = FeatureKind(
    name="frequency",
    of=Of.CATEGORY,
    state=State.KEY_COUNTS,
    formula=frequency,
    reading=Share("{category} in {share} % of the events of this key"),
    role=Role.MEASURE,
    about="log((times + 0.5) / (values + 1)) of the times the key had the category, and its values, before the event",
    suits=frozenset({Trait.CATEGORY}),
    rank=3,
)
NOVELTY_OVERALL = FeatureKind(
    name="novelty_overall",
    of=Of.CATEGORY,
    state=State.OVERALL_COUNTS,
    formula=novelty,
    reading=Indicator(
        "{category} never seen for any key",
        "{category} seen before, where new ones are usual",
        ("novel", "known"),
        text,
    ),
    role=Role.INDICATOR,
    about="1 where no key ever had the category before, else 0",
    rank=2,
)
FREQUENCY_OVERALL = FeatureKind(
    name="frequency_overall",
    of=Of.CATEGORY,
    state=State.OVERALL_COUNTS,
    formula=frequency,
    reading=Share("{category} in {share} % of the events of all keys"),
    role=Role.MEASURE,
    about="frequency over all keys",
    rank=4,
)
BURST_OVERALL = FeatureKind(
    name="burst_overall",
    of=Of.CATEGORY,
    state=State.BURST,
    formula=burst,
    reading=Rise("{category} more often in the latest events of all keys than in the long run"),
    role=Role.BESIDE,
    about="root of (a - s/t)² t² / (s (t - 1)): a is how often all keys had the category in the present tick, s in t "
    "ticks; a tick is as many events as a window has rows; 0 where a is below s/t",
    rank=5,
)
MISSING = FeatureKind(
    name="missing",
    of=Of.CATEGORY,
    state=State.CATEGORY,
    formula=missing,
    reading=Indicator("{field} is missing", "{field} is present, usually missing", ("missing", "present"), presence),
    role=Role.INDICATOR,
    about="1 where the category is missing, else 0",
    suits=frozenset({Trait.GAPS}),
    rank=0,
)
