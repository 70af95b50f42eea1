"""A row of the table of feature kinds. It refuses to be made where a piece is missing or does not fit the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from stream_ad.config.feature_kinds.given import FORMULAS
from stream_ad.config.feature_kinds.reading import OWN, Figure, Level, Reading, Rise, Share, Unit, phrases, placeholders


class Of(Enum):
    """What a feature is computed from: the part of `[features]` that lists it."""

    EVENT = "event"
    NUMBER = "numeric"
    CATEGORY = "categorical"


class Parameter(Enum):
    """What follows the colon in `kind:parameter`; the value is how the reference page writes it."""

    SPAN = "SPAN"
    ROWS = "ROWS"


class State(IntEnum):
    """The state that the featuriser keeps for a kind; it decides which tuple of `given` the formula gets.

    The list is closed, because each state has columns in snapshots and a place in the loop.
    """

    EVENT = auto()
    VALUE = auto()
    CATEGORY = auto()
    MOMENTS = auto()
    LOGARITHM = auto()
    CHANGE = auto()
    SPREAD = auto()
    DAILY = auto()
    WEEKLY = auto()
    OVERALL = auto()
    WINDOW = auto()
    TRACKER = auto()
    SPAN = auto()
    KEY_COUNTS = auto()
    OVERALL_COUNTS = auto()
    BURST = auto()
    JOINT = auto()


class Role(Enum):
    """How the statistical scorer judges a feature."""

    MEASURE = "by its deviation from the key's previous events"
    STANDARD = "as it is, a number of standard deviations"
    BESIDE = "as it is, a number of standard deviations; the level of all such adds to that of the other features"
    JOINT = "in place of all standard ones: the distance that they have together, of which 1 is usual"
    INDICATOR = "1 or 0, by how much rarer a 1 is among the key's previous events"
    CONTEXT = "not at all, unless there is nothing else"


class Trait(Enum):
    """A property of a sample; `stream-ad init` proposes the kinds that suit it."""

    PLAIN = "a number, none of the next four"
    COUNTER = "a number that only counts up"
    SWITCH = "a number that takes two values"
    LONG_TAIL = "a number with a long tail"
    SMOOTH = "a number that changes little from event to event"
    CATEGORY = "a category"
    GAPS = "a field that is missing now and then"
    TIMED = "events whose times are moments"
    IRREGULAR = "events at irregular intervals"
    DAYS = "events of several days; a sample cannot tell, so init names the kinds in a comment"


OF = {
    State.EVENT: {Of.EVENT},
    State.VALUE: {Of.NUMBER},
    State.CATEGORY: {Of.CATEGORY},
    State.MOMENTS: {Of.NUMBER},
    State.LOGARITHM: {Of.NUMBER},
    State.CHANGE: {Of.NUMBER},
    State.SPREAD: {Of.NUMBER},
    State.DAILY: {Of.NUMBER},
    State.WEEKLY: {Of.NUMBER},
    State.OVERALL: {Of.NUMBER},
    State.WINDOW: {Of.NUMBER},
    State.TRACKER: {Of.NUMBER},
    State.SPAN: {Of.EVENT, Of.NUMBER},
    State.KEY_COUNTS: {Of.CATEGORY},
    State.OVERALL_COUNTS: {Of.CATEGORY},
    State.BURST: {Of.CATEGORY},
    State.JOINT: {Of.EVENT},
}
SEASONAL = (State.DAILY, State.WEEKLY)
# those whose formulas get `Moments`
EXPECTING = (State.MOMENTS, State.LOGARITHM, State.CHANGE, State.SPREAD, *SEASONAL, State.OVERALL)
PARAMETER = {State.TRACKER: Parameter.ROWS, State.SPAN: Parameter.SPAN}  # what a state cannot do without
SUBJECT = {Of.EVENT: set[str](), Of.NUMBER: {"field"}, Of.CATEGORY: {"field", "category"}}  # of a phrase
LAST = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureKind:
    """All about one kind. Raises `ValueError` naming the kind and the piece.

    A cyclic kind's formula gives an angle in radians; it becomes two features, `_sin` and `_cos`.
    """

    name: str  # as the configuration writes it; unique among kinds of the same `of`
    of: Of
    state: State
    formula: Callable[..., float]  # its arguments: the tuple of `state`, then a parameter that the state does not take
    reading: Reading
    role: Role
    about: str  # for the reference page and the comments of `init`
    parameter: Parameter | None = None
    cyclic: bool = False
    suits: frozenset[Trait] = frozenset()  # samples for which `init` proposes it
    rank: int = LAST  # of a field's features with about the same share, an alert names the one with the lowest rank

    def __post_init__(self) -> None:
        for wrong in self._contradictions():
            raise ValueError(f"feature kind {self.name}: {wrong}")

    def _contradictions(self) -> Iterator[str]:
        if not self.name.isidentifier():
            yield "name: only letters, digits and _"
        if not self.about.strip():
            yield "about: is empty"
        if self.formula not in FORMULAS:
            yield "formula: decorate it with @formula"
        if self.of not in OF[self.state]:
            yield f"state: {self.state.name} is not kept of {self.of.name}"
        if self.parameter is not PARAMETER.get(self.state, self.parameter):
            yield f"parameter: {self.state.name} needs {PARAMETER[self.state].name}"
        if isinstance(self.reading, Level) and self.of is not Of.NUMBER:
            yield "reading: only a number has a Level"
        if isinstance(self.reading, Share | Rise) and self.of is not Of.CATEGORY:
            yield f"reading: only a category has a {type(self.reading).__name__}"
        if isinstance(self.reading, Figure) and self.reading.unit is Unit.FIELD and self.of is not Of.NUMBER:
            yield "reading: only a number has a unit of the field; say Unit.SECONDS or Unit.NONE"
        own = OWN.get(type(self.reading), set())
        known = SUBJECT[self.of] | own | ({"parameter"} if self.parameter else set())
        for phrase in phrases(self.reading):
            names = placeholders(phrase)
            if not phrase.strip() or not own <= names <= known:
                yield f"reading: {phrase!r} has to say {sorted(own)} and knows {sorted(known)}"
            if self.of is not Of.EVENT and not names & SUBJECT[self.of]:
                yield f"reading: {phrase!r} does not name the field"

    @property
    def takes_parameter(self) -> bool:
        """Whether the formula takes the parameter (ms or rows); otherwise the state takes it, or there is none."""
        return self.parameter is not None and self.state not in PARAMETER

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What follows the name in each `Feature.kind` of it."""
        return ("_sin", "_cos") if self.cyclic else ("",)

    @property
    def features(self) -> list[str]:
        """Every `Feature.kind` of it."""
        return [f"{self.name}{suffix}" for suffix in self.suffixes]

    @property
    def written(self) -> str:
        """As in `count:SPAN`."""
        return f"{self.name}:{self.parameter.value}" if self.parameter else self.name
