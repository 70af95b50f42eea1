"""Scores batches on a device while the caller goes on folding.

The engine gives rows to the scorer in chunks of one fixed size, and fills the last chunk up with absent rows. So every
matrix product has one shape, and no bit of a row's score depends on the other rows of its batch (measured: with fewer
than about 12 rows it would). A `Rowwise` scorer keeps this law by itself, and on the CPU gets a batch in one piece.

This is also the scorer's border. A row gets the score NaN if the scorer raises for it, answers another shape, or a
score that is not finite. Such a row is not judged. Its neighbours keep their scores to the bit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future as _Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from stream_ad import config, registry
from stream_ad.batch import F32, F64, Explanation
from stream_ad.border import ContractBroken, Failed, check_array, isolated
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ConfigError, ModelError, StreamAdError
from stream_ad.protocols import BUILT_IN, ModelInfo, Scorer, is_rowwise
from stream_ad.score.bundle import Bundle
from stream_ad.score.signature import Trust
from stream_ad.score.statistical import Statistical

CPU_ROWS = 1024  # a chunk and the activations of a small network stay in the second-level cache
CUDA_ROWS = 4096  # with fewer the device waits for the launches of its kernels
FAULTS_S = 10.0  # between two lines of the log

log = logging.getLogger(__name__)

Future: TypeAlias = _Future[list[F64]]
CountFaults: TypeAlias = Callable[[str, str, int], None]
Explaining: TypeAlias = _Future[Explanation]


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A scorer on its device, warmed up."""

    version: str
    scorer: Scorer
    device: torch.device
    rowwise: bool


class Engine:
    """Has one thread that scores (on the CPU it computes, for CUDA it feeds the device) and one that explains, so that
    an alert does not wait for the batch that is being scored."""

    def __init__(
        self,
        scoring: config.Scoring,
        spec: FeatureSpec,
        trust: Trust | None = None,
        count_faults: CountFaults | None = None,
    ) -> None:
        """The engine calls `count_faults` with the version, "score" or "explanation", and the number of rows without a
        usable one. Raises `ConfigError` where the device of `scoring.device` is not there."""
        self.device = _device(scoring.device)
        self.spec = spec
        self._trust, self._count_faults = trust, count_faults
        self._scoring, self._explaining = (
            ThreadPoolExecutor(1, name, initializer=torch.set_num_threads, initargs=(1,))
            for name in ("scorer", "explainer")
        )
        self._logged_s = float("-inf")

    def load(self, blob: bytes | None) -> Loaded:
        """A bundle, or the statistical scorer for None. Raises `ModelError` where it does not fit."""
        if blob is None:
            return self._tried(BUILT_IN, Statistical(self.spec), torch.device("cpu"))
        bundle = Bundle.from_bytes(blob, self.spec, self._trust)
        kind = registry.bundled(bundle.manifest.kind, f"model {bundle.version}")
        try:
            return self._tried(bundle.version, kind.of(bundle, self.device), self.device)
        except StreamAdError:
            raise
        except Exception as error:
            raise ModelError(f"model {bundle.version}: cannot score: {error!r:.300}") from None

    def _tried(self, version: str, scorer: Scorer, device: torch.device) -> Loaded:
        """Scores once: this compiles the scorer's kernels, and shows whether the scorer works."""
        loaded = Loaded(version, scorer, device, is_rowwise(scorer))
        self._scoring.submit(self._answer_absent, loaded).result()
        return loaded

    def _answer_absent(self, loaded: Loaded) -> None:
        """Raises what the scorer raises for a row without values."""
        answer(loaded, [np.full((1, self.spec.rows, len(self.spec.features)), np.nan, np.float32)], 1)

    def info(self, blob: bytes) -> ModelInfo:
        """What a registry keeps beside the bundle. Raises `ModelError`."""
        return Bundle.from_bytes(blob, self.spec, self._trust).info()

    def submit(self, loaded: Loaded, xs: Sequence[F32]) -> Future:
        """Scores each [m_i,w,f] as [m_i], NaN where the scorer gives no usable score.

        The arrays must not change before the result is there. Where the scorer cannot score an absent row either, no
        row is to blame: then the result raises what the scorer raised.
        """
        return self._scoring.submit(self._score, loaded, xs)

    def explain(self, loaded: Loaded, x: F32) -> Explaining:
        """Explains x [k,w,f] row by row, since in narrow products the last bits depend on a row's place in its chunk.

        x must not change before the result is there. A row that cannot be explained has contributions of zero.
        """
        return self._explaining.submit(self._explain, loaded, x)

    def close(self) -> None:
        for threads in (self._scoring, self._explaining):
            threads.shutdown(cancel_futures=True)

    def _score(self, loaded: Loaded, xs: Sequence[F32]) -> list[F64]:
        sizes = [len(x) for x in xs]
        scores = np.full(sum(sizes), np.nan)
        failed: list[Failed] = []

        for outcome in isolated(len(scores), lambda first, last: answer(loaded, _cut(xs, first, last), last - first)):
            if isinstance(outcome, Failed):
                failed.append(outcome)
            else:
                scores[outcome.first : outcome.last] = outcome.answer
        if failed:
            self._answer_absent(loaded)
        scores[~np.isfinite(scores)] = np.nan
        missing = int(np.count_nonzero(np.isnan(scores)))
        if missing:
            self._tell(loaded, "score", missing, failed[-1].reason if failed else "a score is not finite")
        return np.split(scores, np.cumsum(sizes)[:-1]) if sizes else []

    def _explain(self, loaded: Loaded, x: F32) -> Explanation:
        k, w, f = x.shape
        explanation = Explanation(np.zeros_like(x), np.zeros_like(x), np.zeros((k, f), np.float32))
        failed: list[Failed] = []
        row = torch.empty((1, w, f))
        for at in range(k):
            _fill(row, [x], at)
            (outcome,) = isolated(1, lambda *_: explained(loaded, row.to(loaded.device)))
            if isinstance(outcome, Failed):
                failed.append(outcome)
                continue
            answered = outcome.answer
            explanation.contribution[at], explanation.expected[at] = answered.contribution[0], answered.expected[0]
            explanation.spread[at] = answered.spread
        if failed:
            self._answer_absent(loaded)
            self._tell(loaded, "explanation", len(failed), failed[-1].reason)
        return explanation

    def _tell(self, loaded: Loaded, what: str, rows: int, why: str) -> None:
        if self._count_faults is not None:
            self._count_faults(loaded.version, what, rows)
        now_s = time.monotonic()
        if now_s - self._logged_s >= FAULTS_S:
            self._logged_s = now_s
            log.warning("model %s: no usable %s of %d rows: %s", loaded.version, what, rows, why)


def _device(name: str) -> torch.device:
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ConfigError(f'scoring.device: "cpu", "cuda" or "cuda:N" is expected, not {name!r}')
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise ConfigError(
                f'scoring.device: {name} cannot be used, {count} CUDA devices are found; set it to "cpu", or install '
                "a driver and a build of torch that fit the device"
            )
        # the same products in the same precision and order on every run
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    return torch.device(name)


def _cut(xs: Sequence[F32], first: int, last: int) -> list[F32]:
    """Rows `first` to `last` of all of `xs` in a row."""
    parts = []
    for x in xs:
        parts.append(x[max(first, 0) : max(last, 0)])
        first, last = first - len(x), last - len(x)
    return parts


def _fill(chunk: Tensor, xs: Sequence[F32], first: int) -> int:
    """Rows from `first` on of all of `xs` in a row into `chunk`, the rest absent. How many there were."""
    target, filled = chunk.numpy(), 0
    for x in xs:
        if first < len(x) and filled < len(target):
            part = x[first : first + len(target) - filled]
            target[filled : filled + len(part)] = part
            filled += len(part)
        first = max(first - len(x), 0)
    target[filled:] = np.nan
    return filled


def answer(loaded: Loaded, xs: Sequence[F32], rows: int) -> F32:
    """Scores [rows] of all `xs`. Raises what the scorer raises; memory of the device is the machine's matter."""
    try:
        return (_on_cpu if loaded.device.type == "cpu" else _on_cuda)(loaded, xs, rows)[:rows]
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error


def _chunk_scores(loaded: Loaded, x: Tensor) -> Tensor:
    """float32 [n] of x [n,w,f]. Raises `ContractBroken` for another shape or for what are no numbers."""
    scores: object = loaded.scorer.score(x)
    if not isinstance(scores, Tensor) or scores.shape != x.shape[:1] or not scores.is_floating_point():
        given = f"{scores.dtype}{list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise ContractBroken(f"gives {given} as scores of {len(x)} rows")
    return scores.to(torch.float32)


def explained(loaded: Loaded, row: Tensor) -> Explanation:
    """Of [1,w,f]. Raises `ContractBroken` for other shapes, and for what is not finite."""
    try:
        given = loaded.scorer.explain(row)
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    parts = [np.asarray(part, np.float32) for part in (given.contribution, given.expected, given.spread)]
    each = row.shape[2:] if parts[2].ndim == 1 else (1, *row.shape[2:])
    for part, shape in zip(parts, (row.shape, row.shape, each), strict=True):
        check_array("a part of the explanation", part, np.float32, tuple(shape))
        if not np.isfinite(part).all():
            raise ContractBroken("the explanation is not finite")
    return Explanation(*parts)


def _on_cpu(loaded: Loaded, xs: Sequence[F32], rows: int) -> F32:
    size = rows if loaded.rowwise else CPU_ROWS
    padded = torch.empty((-(-rows // size) * size, *xs[0].shape[1:]))
    _fill(padded, xs, 0)
    return np.concatenate([_chunk_scores(loaded, chunk).numpy() for chunk in torch.split(padded, size)])


def _on_cuda(loaded: Loaded, xs: Sequence[F32], rows: int) -> F32:
    """Two pinned buffers: one is filled while the other is on its way to the device."""
    shape = (CUDA_ROWS, *xs[0].shape[1:])
    chunks = -(-rows // CUDA_ROWS)
    with torch.cuda.device(loaded.device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        staged = [torch.empty(shape, pin_memory=True) for _ in range(min(chunks, 2))]
        copied = [torch.cuda.Event() for _ in staged]  # type: ignore[no-untyped-call]
        scores = torch.empty(chunks * CUDA_ROWS, pin_memory=True)
        # weights were copied on the default stream
        stream.wait_stream(torch.cuda.default_stream())
        with torch.cuda.stream(stream):
            for index in range(chunks):
                slot, first = index % 2, index * CUDA_ROWS
                copied[slot].synchronize()  # returns at once for an event that was never recorded
                _fill(staged[slot], xs, first)
                x = staged[slot].to(loaded.device, non_blocking=True)
                copied[slot].record(stream)
                scores[first : first + CUDA_ROWS].copy_(_chunk_scores(loaded, x), non_blocking=True)
        stream.synchronize()
    result: F32 = scores.numpy()
    return result
