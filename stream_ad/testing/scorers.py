"""The laws of a scorer: scoring and explaining are pure (4), and pass the engine's border (6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from stream_ad.batch import F32
from stream_ad.border import ContractBroken
from stream_ad.protocols import Scorer, is_rowwise

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 256
EXPLAINED_ROWS = 32
EMPTY_ROW = 3


def check_scorer_pure(scorer: Scorer, w: int, f: int, tensor: Callable[[F32], Tensor]) -> None:
    """The same rows get the same scores, bit for bit, in any batch of a multiple of 16 rows, or of
    any number of rows where the scorer is `rowwise`, and through the engine.

    (Smaller batches may take other matrix kernels; the engine pads.) Also: scores and explanations are finite,
    whatever is missing; a row without values scores 0; the contributions of a row sum to 1; and neither the input nor
    the scorer changes. `tensor` is `torch.from_numpy`, with
    `.to(device)` where the scorer wants it.
    """
    if w < 1 or f < 1:
        raise AssertionError(f"rows of [{w},{f}] hold no values: the law sees nothing")
    x = _rows(w, f)

    def score(rows: F32) -> F32:
        given = tensor(rows.copy())
        result: F32 = scorer.score(given).detach().cpu().numpy()
        assert given.cpu().numpy().tobytes() == rows.tobytes(), "the scorer writes to its input"
        return result

    scores = score(x)
    assert scores.shape == (ROWS,), f"{list(scores.shape)} scores for {ROWS} rows"
    assert scores.dtype == np.float32, f"scores are {scores.dtype}, not float32"
    strange = np.flatnonzero(~np.isfinite(scores))
    assert not len(strange), f"the scores of rows {strange.tolist()} are not finite"
    for size in (16, 48, 64, 128, *((1, 3, 100, 255) if is_rowwise(scorer) else ())):
        for first in range(0, ROWS - size + 1, size):
            part, expected = score(x[first : first + size]), scores[first : first + size]
            wrong = np.flatnonzero(part != expected)
            assert not len(wrong), (
                f"row {first + wrong[0]} scores {part[wrong[0]]} among {size} rows, {expected[wrong[0]]} among {ROWS}"
            )
    order = np.random.default_rng(1).permutation(ROWS)
    assert (score(x[order]) == scores[order]).all(), "scores depend on the order of the rows"
    _check_in_engine(scorer, x, scores, tensor)
    assert (score(x) == scores).all(), "the scorer learns while it scores"
    assert scores[EMPTY_ROW] == 0, f"a row without values scores {scores[EMPTY_ROW]}, not 0"


def _check_in_engine(scorer: Scorer, x: F32, expected: F32, tensor: Callable[[F32], Tensor]) -> None:
    """Scores and explains as a worker does."""
    from stream_ad.score.engine import Loaded, answer, explained

    loaded = Loaded("law", scorer, tensor(x[:1]).device, is_rowwise(scorer))
    assert (answer(loaded, [x[:100], x[100:]], ROWS) == expected).all(), "the engine gets other scores"
    for row in range(EXPLAINED_ROWS):
        try:
            one, again = (explained(loaded, tensor(x[row : row + 1].copy())) for _ in range(2))
        except ContractBroken as error:
            raise AssertionError(f"row {row}: {error}") from None
        share = one.contribution.sum(dtype=np.float64)
        assert abs(share - 1.0) < 1e-4, f"the contributions of row {row} sum to {share:.6g}, not to 1"
        for name in ("contribution", "expected", "spread"):
            same = np.array_equal(getattr(one, name), getattr(again, name))
            assert same, f"the {name} of row {row} is another one the second time"


def _rows(w: int, f: int) -> F32:
    """[256,w,f]: noise, in which lags are absent, values missing, one row is empty and one is far out."""
    x = np.random.default_rng(0).normal(size=(ROWS, w, f)).astype(np.float32)
    x[1::4, : w // 2] = np.nan
    x[2::4, :, 0] = np.nan
    x[EMPTY_ROW] = np.nan
    x[7] *= np.float32(1e6)
    return x
