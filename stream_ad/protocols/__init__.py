"""The contracts of the kinds of part (`Fold`, `Window`, `Threshold`, `Codec`, `Scorer`), and the ports.

The section that a part gets holds the options that its class declares: see `stream_ad.config.parts`.

Laws that every part keeps (`stream_ad.testing` checks them):

1. Split invariance: `step(a ++ b)` equals `step(a); step(b)`, outputs and state, bit for bit.
2. Snapshot: a restored state behaves as the original, bit for bit.
3. Isolation: a malformed record is one reject and touches no neighbour.
4. Scoring is pure: same rows, same scores, whatever else is in the batch.
5. Keys are independent, except through pooled priors, which are folds of the log.
6. Borders are guarded: what a part raises, or answers against its contract, harms its own verdicts only.

A fold sees no clock, no network, no randomness and does not log. A part that cannot work raises a `StreamAdError`.
"""

from stream_ad.protocols.parts import (
    Bundled,
    Codec,
    Composed,
    Fold,
    Inference,
    Rowwise,
    Scorer,
    Threshold,
    Trainable,
    Window,
    is_rowwise,
)
from stream_ad.protocols.ports import (
    BUILT_IN,
    Listener,
    ModelInfo,
    ModelLog,
    ModelStore,
    Role,
    Sink,
    Source,
    StateStore,
    Swap,
    Wish,
)

__all__ = [
    "BUILT_IN",
    "Bundled",
    "Codec",
    "Composed",
    "Fold",
    "Inference",
    "Listener",
    "ModelInfo",
    "ModelLog",
    "ModelStore",
    "Role",
    "Rowwise",
    "Scorer",
    "Sink",
    "Source",
    "StateStore",
    "Swap",
    "Threshold",
    "Trainable",
    "Window",
    "Wish",
    "is_rowwise",
]
