"""Builds a bundle from windows: the scorer learns from earlier rows, and later rows calibrate and judge it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stream_ad import config, registry
from stream_ad.batch import F32, I64
from stream_ad.config.features import FeatureSpec
from stream_ad.config.parts import SCORER
from stream_ad.errors import InputError
from stream_ad.protocols import Composed, Scorer, Trainable
from stream_ad.score.bundle import Bundle, Manifest
from stream_ad.score.statistical import Statistical

__all__ = ["Fitted", "Progress", "Trainable", "split", "train"]

MIN_ROWS = 64  # held back; fewer cannot calibrate a score
QUALITY_ROWS = 20_000  # scored, and
EXPLAINED_ROWS = 2_000  # explained for the report

Progress = Callable[[int, float, float], None]  # epoch (from 0), training loss, held-back loss


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a trainable scorer learnt."""

    architecture: Mapping[str, Any]  # numbers, text and lists of them
    tensors: Mapping[str, Tensor]
    curve: tuple[tuple[float, float], ...]  # training and held-back loss of each epoch
    held_loss: float
    baseline_loss: float  # of predicting each feature's median


def split(ts_ms: I64, held_back: float) -> tuple[I64, I64]:
    """Rows to learn from and rows held back, each in order of time.

    The last `held_back` of the time range, kept between 5 % and 50 % of the rows where traffic
    is uneven. Rows of one millisecond are never split.
    """
    order = np.argsort(ts_ms, kind="stable")
    times = ts_ms[order]
    cut_ms = times[-1] - held_back * (times[-1] - times[0])
    first = int(np.searchsorted(times, cut_ms, "right"))
    first = min(max(first, len(times) // 2), len(times) - len(times) // 20)
    first = int(np.searchsorted(times, times[min(first, len(times) - 1)], "left"))
    return order[:first], order[first:]


def train(
    x: F32,
    ts_ms: I64,
    spec: FeatureSpec,
    options: config.ScorerOptions,
    source: str,
    created_ms: int,
    progress: Progress | None = None,
) -> Bundle:
    """x [n,w,f] windows and ts_ms [n] their events' times -> a bundle. Deterministic on one machine's CPU.

    Raises `InputError` where there is too little to learn from, `ConfigError` for a scorer that
    cannot be trained.
    """
    wanted = (spec.rows, len(spec.features))
    if x.shape[1:] != wanted or len(x) != len(ts_ms):
        raise ValueError(f"x {x.shape}, ts_ms {ts_ms.shape} for [w,f] = {wanted}")
    scorer = registry.trainable(options.scorer)
    options = SCORER.adapted(options)
    useful = np.isfinite(x[:, -1]).any(axis=1)
    x, ts_ms = x[useful], ts_ms[useful]
    if len(x) < 2 * MIN_ROWS:
        raise InputError(f"training from {source}: {len(x)} usable rows, at least {2 * MIN_ROWS} are needed; read more")
    past, later = split(ts_ms, options.held_back)
    if min(len(past), len(later)) < MIN_ROWS:
        raise InputError(
            f"training from {source}: {len(past)} rows to learn from and {len(later)} held back, at least {MIN_ROWS} "
            f"of each are needed; read more or change train.held_back ({options.held_back:g})"
        )
    held = torch.from_numpy(x[later])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one thread adds in one order, and small networks gain nothing from more
    try:
        learnt = torch.from_numpy(x[past])
        if issubclass(scorer, Composed):
            fitted = scorer.compose(learnt, held, spec, options, progress or _silent)
        else:
            fitted = scorer.fit(learnt, held, options, progress or _silent)
    finally:
        torch.set_num_threads(threads)
    manifest = Manifest(
        kind=options.scorer,
        architecture=dict(fitted.architecture),
        spec=spec.to_json(),
        source=source,
        first_ms=int(ts_ms.min()),
        last_ms=int(ts_ms.max()),
        rows=len(x),
        metrics={
            "held_loss": fitted.held_loss,
            "baseline_loss": fitted.baseline_loss,
            "epochs": float(len(fitted.curve)),
            "rows_train": float(len(past)),
            "rows_held": float(len(later)),
        },
        quality={},
        created_ms=created_ms,
    )
    draft = Bundle.of(manifest, fitted.tensors)
    quality = _quality(fitted, scorer.of(draft, torch.device("cpu")), Statistical(spec), held[-QUALITY_ROWS:])
    return Bundle.of(replace(manifest, quality=quality), fitted.tensors)


def _silent(epoch: int, loss: float, held_loss: float) -> None: ...


def _quality(fitted: Fitted, scorer: Scorer, statistical: Scorer, held: Tensor) -> dict[str, list[float]]:
    """What the report draws: losses by epoch, histograms of held-back scores, each feature's share of the error."""
    edges = np.linspace(-6.0, 14.0, 81)
    counts = {
        name: np.histogram(np.clip(one.score(held).numpy(), edges[0], edges[-1]), edges)[0].astype(float).tolist()
        for name, one in (("scores", scorer), ("statistical_scores", statistical))
    }
    explained = scorer.explain(held[-EXPLAINED_ROWS:])
    return {
        "train_loss": [loss for loss, _ in fitted.curve],
        "held_loss": [loss for _, loss in fitted.curve],
        "score_edges": edges.tolist(),
        **counts,
        "feature_share": explained.contribution.sum(1).mean(0).astype(float).tolist(),
        "feature_spread": np.atleast_2d(explained.spread).astype(float).mean(0).tolist(),
    }
