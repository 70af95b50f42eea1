"""Scores batches on a device while the caller goes on folding.

Rows go to the scorer in chunks of one fixed size, the last one filled up with absent rows.
So every matrix product has one shape, and a row's score does not depend, to the bit, on the
batch that it came in (measured: below about 12 rows it would). A scorer that is `Rowwise`
sees to that itself, and on the CPU gets a batch in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future as _Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from stream_ad import config, registry
from stream_ad.batch import F32, F64, Explanation
from stream_ad.config.features import FeatureSpec
from stream_ad.errors import ConfigError, ModelError
from stream_ad.protocols import BUILT_IN, ModelInfo, Scorer, is_rowwise
from stream_ad.score.bundle import Bundle
from stream_ad.score.signature import Trust
from stream_ad.score.statistical import Statistical

CPU_ROWS = 1024  # a chunk and the activations of a small network stay in the second-level cache
CUDA_ROWS = 4096  # fewer leave the device waiting for launches

Future: TypeAlias = _Future[list[F64]]
Explaining: TypeAlias = _Future[Explanation]


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A scorer on its device, warmed up."""

    version: str
    scorer: Scorer
    device: torch.device
    rowwise: bool


class Engine:
    """A thread that scores (on the CPU it does the work, for CUDA it feeds the device), and one that
    explains, so that an alert does not wait for what is being scored."""

    def __init__(self, scoring: config.Scoring, spec: FeatureSpec, trust: Trust | None = None) -> None:
        """Raises `ConfigError` where `scoring.device` cannot be had."""
        self.device = _device(scoring.device)
        self.spec = spec
        self._trust = trust
        self._scoring, self._explaining = (
            ThreadPoolExecutor(1, name, initializer=torch.set_num_threads, initargs=(1,))
            for name in ("scorer", "explainer")
        )

    def load(self, blob: bytes | None) -> Loaded:
        """A bundle, or the statistical scorer for None. Raises `ModelError` where it does not fit."""
        if blob is None:
            return self._tried(BUILT_IN, Statistical(self.spec), torch.device("cpu"))
        bundle = Bundle.from_bytes(blob, self.spec, self._trust)
        kind = registry.trainable(bundle.manifest.kind, f"model {bundle.version}")
        try:
            return self._tried(bundle.version, kind.of(bundle, self.device), self.device)
        except (IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"model {bundle.version}: cannot score: {error!r:.300}") from None

    def _tried(self, version: str, scorer: Scorer, device: torch.device) -> Loaded:
        """The first score compiles what is to be compiled, and shows whether the scorer can."""
        loaded = Loaded(version, scorer, device, is_rowwise(scorer))
        absent = np.full((1, self.spec.rows, len(self.spec.features)), np.nan, np.float32)
        self.submit(loaded, [absent]).result()
        return loaded

    def info(self, blob: bytes) -> ModelInfo:
        """What a registry keeps beside a bundle. Raises `ModelError`."""
        return Bundle.from_bytes(blob, self.spec, self._trust).info()

    def submit(self, loaded: Loaded, xs: Sequence[F32]) -> Future:
        """Scores of each [m_i,w,f] as [m_i]; the arrays must not change before the result is there."""
        return self._scoring.submit(self._score, loaded, xs)

    def explain(self, loaded: Loaded, x: F32) -> Explaining:
        """Of [k,w,f], row by row: in narrow products even the place of a row in its chunk shows in its last bits.

        x must not change before the result is there.
        """
        return self._explaining.submit(self._explain, loaded, x)

    def close(self) -> None:
        for threads in (self._scoring, self._explaining):
            threads.shutdown(cancel_futures=True)

    def _score(self, loaded: Loaded, xs: Sequence[F32]) -> list[F64]:
        sizes = [len(x) for x in xs]
        rows = sum(sizes)
        if not rows:
            return [np.zeros(0) for _ in xs]
        scores = (_on_cpu if loaded.device.type == "cpu" else _on_cuda)(loaded, xs, rows)
        return np.split(scores[:rows].astype(np.float64), np.cumsum(sizes)[:-1])

    def _explain(self, loaded: Loaded, x: F32) -> Explanation:
        parts = []
        row = torch.empty((1, *x.shape[1:]))
        for first in range(len(x)):
            _fill(row, [x], first)
            parts.append(loaded.scorer.explain(row.to(loaded.device)))
        if not parts:
            return Explanation(np.zeros_like(x), np.zeros_like(x), np.zeros(x.shape[2], np.float32))
        return Explanation(
            np.concatenate([part.contribution for part in parts]),
            np.concatenate([part.expected for part in parts]),
            parts[0].spread,
        )


def _device(name: str) -> torch.device:
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ConfigError(f'scoring.device: "cpu", "cuda" or "cuda:N" is expected, not {name!r}')
    if kind == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= found:
            raise ConfigError(
                f'scoring.device: {name} cannot be used, {found} CUDA devices are found; set it to "cpu", or install '
                "a driver and a build of torch that fit the device"
            )
        # the same products in the same precision and order on every run
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    return torch.device(name)


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


def _on_cpu(loaded: Loaded, xs: Sequence[F32], rows: int) -> F32:
    size = rows if loaded.rowwise else CPU_ROWS
    padded = torch.empty((-(-rows // size) * size, *xs[0].shape[1:]))
    _fill(padded, xs, 0)
    return np.concatenate([loaded.scorer.score(chunk).numpy() for chunk in torch.split(padded, size)])


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
                scores[first : first + CUDA_ROWS].copy_(loaded.scorer.score(x), non_blocking=True)
        stream.synchronize()
    result: F32 = scores.numpy()
    return result
