"""The contracts of the kinds of part.

The section that a part gets holds the options that its class declares: see `stream_ad.config.parts`. The laws
that every part keeps stand in `stream_ad.protocols`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from stream_ad.batch import (
    F32,
    F64,
    EventBatch,
    Explanation,
    KeyedBatch,
    RawBatch,
    RejectBatch,
    Scores,
    Verdicts,
    WindowBatch,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stream_ad import config
    from stream_ad.config.features import FeatureSpec
    from stream_ad.score.bundle import Bundle
    from stream_ad.score.train import Fitted, Progress

S = TypeVar("S")
O_contra = TypeVar("O_contra", bound="config.ScorerOptions", contravariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
B_co = TypeVar("B_co", covariant=True)


class Fold(Protocol[S, A_contra, B_co]):
    """A step over the log with state.

    The state is a dataclass whose fields are numpy arrays and nothing else (a scalar is an
    array of one row). Fields made by `stream_ad.fold.state.per_key()` have one row per slot;
    a row of zeros, or whatever a previous key left there, is forgotten when an event is
    `fresh`, so only used slots are written to a snapshot.
    """

    def init(self, capacity: int) -> S:
        """State for `capacity` keys; memory is reserved lazily (`np.zeros`)."""
        ...

    def step(self, state: S, batch: A_contra) -> B_co:
        """Changes `state` and nothing else."""
        ...


@runtime_checkable
class Window(Fold[Any, KeyedBatch, WindowBatch], Protocol):
    """Which events of its key a score looks at."""

    def __init__(self, section: config.Window, fields: int) -> None:
        """`fields`: d, the number of numeric fields. Raises `ConfigError`."""


@runtime_checkable
class Threshold(Fold[Any, Scores, Verdicts], Protocol):
    """Which scores are flagged."""

    def __init__(self, section: config.ThresholdOptions) -> None: ...

    def carry(self, state: Any, old: F64, new: F64) -> None:
        """A new model judges from here on; `old`, `new` [r] are both models' scores of the same recent windows."""


@runtime_checkable
class Codec(Protocol):
    """How records become events."""

    def __init__(self, record: config.Record, numeric: Sequence[str], categorical: Sequence[str]) -> None:
        """`numeric` (d) and `categorical` (c) are the fields wanted, as dotted paths. Raises `ConfigError`."""

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        """Every record is in exactly one of the two; order is kept."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A model: stateless at scoring time; scoring never learns. A bundle makes it (`Trainable.of`)."""

    def score(self, x: Tensor) -> Tensor:
        """float32 [n,w,f], NaN = absent or missing -> float32 [n], higher = more anomalous.

        Calibrated: on normal data about mean 0 and standard deviation 1. Always finite.
        """
        ...

    def explain(self, x: Tensor) -> Explanation:
        """[k,w,f] -> contribution and expected value per lag and feature; flagged rows only."""
        ...


@runtime_checkable
class Rowwise(Scorer, Protocol):
    """A scorer that says whether a row's bits depend on that row alone, for any n; else n is always the same."""

    @property
    def rowwise(self) -> bool: ...


def is_rowwise(scorer: Scorer) -> bool:
    return isinstance(scorer, Rowwise) and scorer.rowwise


class Inference(Protocol):
    """The models, by version, of those who judge. Raises `ModelError` where a version cannot be loaded."""

    def score(self, version: str, xs: Sequence[F32]) -> Sequence[F64]:
        """Scores of each [m_i,w,f] as [m_i]. A row's score does not depend on the other rows."""
        ...

    def explain(self, version: str, x: F32) -> Explanation:
        """Of [k,w,f]."""
        ...


@runtime_checkable
class Bundled(Protocol):
    """A scorer's class that a bundle can hold."""

    @classmethod
    def shapes(cls, architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Of every tensor in a bundle of this architecture."""

    @classmethod
    def of(cls, bundle: Bundle, device: torch.device) -> Scorer: ...


@runtime_checkable
class Trainable(Bundled, Protocol[O_contra]):
    """One that learns, and that `train` can build."""

    @classmethod
    def fit(cls, x: Tensor, held: Tensor, options: O_contra, progress: Progress) -> Fitted:
        """x [n,w,f] earlier rows to learn from, held [h,w,f] later ones to stop and calibrate by."""


@runtime_checkable
class Composed(Bundled, Protocol[O_contra]):
    """One that `train` builds of others, some of which need to know the features."""

    @classmethod
    def compose(cls, x: Tensor, held: Tensor, spec: FeatureSpec, options: O_contra, progress: Progress) -> Fitted:
        """As `Trainable.fit`."""
