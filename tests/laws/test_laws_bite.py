"""Each law fails for a part that breaks it, and for a batch in which it would see nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_ad import registry
from stream_ad.batch import F64, EventBatch, Explanation, RawBatch, RejectBatch, Scores, Verdicts
from stream_ad.codec.json import JsonCodec
from stream_ad.config import Record
from stream_ad.config.parts import KINDS
from stream_ad.fold.state import per_key
from stream_ad.fold.thresholds.ewma import EwmaThreshold
from stream_ad.score.statistical import Statistical
from stream_ad.testing import (
    check_carry,
    check_codec,
    check_codec_isolation,
    check_keys_independent,
    check_scorer_pure,
    check_snapshot,
    check_split_invariance,
    check_threshold,
    judged_stream,
    scores,
)
from tests.support.judged import verdicts
from tests.support.models import SPEC

ROOT = Path(__file__).resolve().parents[2]
CAPACITY = 6
OPTIONS = KINDS["threshold"].read({"kind": "ewma"})
RECORD = Record(key="k", timestamp="t", timestamp_format="ms")
W, F = SPEC.rows, len(SPEC.features)


class Ewma(EwmaThreshold):
    def __init__(self) -> None:
        super().__init__(OPTIONS)


# ── folds ────────────────────────────────────────────────────────────────────────────────────


class PerBatch(Ewma):
    """Frozen during a batch: the classical way to break the law."""

    def step(self, state: Any, batch: Scores) -> Verdicts:
        state.pool[0] += 1
        return super().step(state, batch)


class Keeping(Ewma):
    """Keeps something outside its state."""

    seen = 0

    def step(self, state: Any, batch: Scores) -> Verdicts:
        p_value = 0.5 / (1 + self.seen + np.arange(len(batch)))
        self.seen += len(batch)
        return replace(super().step(state, batch), p_value=p_value)


@dataclass
class Cut:
    total: F64 = per_key()  # [capacity]  no row of it belongs to a slot, so those beyond the used slots are lost


class Forgetting:
    """Has a field in its state that no snapshot keeps."""

    def init(self, capacity: int) -> Cut:
        return Cut(np.zeros(capacity))

    def step(self, state: Cut, batch: Scores) -> Verdicts:
        p = []
        for _ in range(len(batch)):
            state.total[-1] += 1.0
            p.append(1e-4 / (1.0 + state.total[-1]))
        return verdicts(batch, p)

    def carry(self, state: Cut, old: F64, new: F64) -> None:
        pass


class Nosy(Ewma):
    """Looks at the row of another key."""

    def step(self, state: Any, batch: Scores) -> Verdicts:
        shown = []
        slots = batch.features.windows.keyed.slot[batch.features.row]
        for slot in slots:
            state.key[slot, 0] += 1.0
            shown.append(1e-4 / (1.0 + state.key[slot - 1, 0]))
        return verdicts(batch, shown)


class Impure(Ewma):
    """Its `carry` depends on how often it was called."""

    asked = 0

    def carry(self, state: Any, old: F64, new: F64) -> None:
        self.asked += 1
        state.pool[1] += self.asked


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (PerBatch, "cut at .*: "),
        (Keeping, "restored after .*: output: p_value"),
        (Forgetting, "restored after .*: output: p_value"),
        (Nosy, "without the other keys: output: p_value"),
        (Impure, "restored after .*: "),
    ],
)
def test_a_threshold_that_breaks_a_law_is_seen(part: type[Any], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_threshold(part)


def test_a_sound_threshold_passes() -> None:
    check_threshold(Ewma, seeds=[0])


NOTHING = judged_stream(0).features.windows.keyed.events.slice(0, 0)
UNSCORED = scores([0, 1, 0, 1], [], row=[])
UNFLAGGED = scores([0, 1, 0, 1], np.zeros(4))
NONE = np.zeros(0)


@pytest.mark.parametrize(
    "vacuous",
    [
        lambda: check_threshold(Ewma, seeds=[]),
        lambda: check_split_invariance(Ewma, scores([], []), [0], CAPACITY),
        lambda: check_split_invariance(Ewma, NOTHING, [0], CAPACITY),
        lambda: check_split_invariance(Ewma, UNSCORED, [2], CAPACITY),
        lambda: check_split_invariance(Ewma, UNFLAGGED, [2], CAPACITY),
        lambda: check_split_invariance(Ewma, judged_stream(0), [], CAPACITY),
        lambda: check_split_invariance(Ewma, judged_stream(0), [0, 400, 1000], CAPACITY),
        lambda: check_snapshot(Ewma, scores([], []), 0, CAPACITY),
        lambda: check_snapshot(Ewma, UNSCORED, 2, CAPACITY),
        lambda: check_snapshot(Ewma, UNFLAGGED, 2, CAPACITY),
        lambda: check_snapshot(Ewma, judged_stream(0), 0, CAPACITY),
        lambda: check_snapshot(Ewma, judged_stream(0), 400, CAPACITY),
        lambda: check_keys_independent(Ewma, scores([0, 0, 0], np.zeros(3)), 2, CAPACITY),
        lambda: check_keys_independent(Ewma, UNSCORED, 2, CAPACITY),
        lambda: check_carry(Ewma, UNFLAGGED, NONE, NONE, CAPACITY),
    ],
)
def test_a_law_of_folds_that_sees_nothing_fails(vacuous: Any) -> None:
    with pytest.raises(AssertionError, match="the law sees nothing"):
        vacuous()


# ── codecs ───────────────────────────────────────────────────────────────────────────────────


class Dropping(JsonCodec):
    """Loses the second record of a batch."""

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        events, rejects = super().decode(raw)
        return events.take(np.flatnonzero(events.row != 1)), rejects


class Touching(JsonCodec):
    """A malformed record makes the numbers of its neighbours missing."""

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        events, rejects = super().decode(raw)
        values = events.values * (np.nan if len(rejects) else 1.0)
        return replace(events, values=values), rejects


class Strict(JsonCodec):
    """One malformed record rejects its whole batch."""

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        events, rejects = super().decode(raw)
        if not len(rejects):
            return events, rejects
        return events.slice(0, 0), RejectBatch(raw, list(range(len(raw))), ["bad_json: one of them"] * len(raw))


class Rounding(JsonCodec):
    """Gives other numbers than were written."""

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        events, rejects = super().decode(raw)
        return replace(events, values=np.rint(events.values)), rejects


class Deaf(JsonCodec):
    """Rejects all that it is given: with records of another format a law would see no event."""

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        events, _ = super().decode(raw)
        return events.slice(0, 0), RejectBatch(raw, list(range(len(raw))), ["bad_json: deaf"] * len(raw))


def codec_law(part: type[JsonCodec]) -> None:
    codec = part(RECORD, ("a",), ("c",))
    check_codec(codec, codec.encode, 1, 1)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (Dropping, "keys do not come back|became rows"),
        (Touching, "among others: values"),
        (Strict, "is a reject among others .* alone an event"),
        (Rounding, "numbers do not come back"),
        (Deaf, "of the codec's own format is a reject"),
    ],
)
def test_a_codec_that_breaks_the_law_is_seen(part: type[JsonCodec], told: str) -> None:
    codec_law(JsonCodec)
    with pytest.raises(AssertionError, match=told):
        codec_law(part)


@pytest.mark.parametrize(
    "values", [[], [b"{"], [b'{"k":"a","t":1700000000000}']], ids=["no record", "no event", "no reject"]
)
def test_a_law_of_codecs_that_sees_nothing_fails(values: Sequence[bytes]) -> None:
    codec = JsonCodec(RECORD, (), ())
    with pytest.raises(AssertionError, match="the law sees nothing"):
        check_codec_isolation(codec, values)
    with pytest.raises(AssertionError, match="the law sees nothing"):
        check_codec(codec, codec.encode, 0, 0, seeds=[])


# ── scorers ──────────────────────────────────────────────────────────────────────────────────


class Relative(Statistical):
    """Goes by the mean of the batch."""

    def score(self, x: Tensor) -> Tensor:
        result = super().score(x)
        return result - result.mean()


class Learning(Statistical):
    """Drifts while it scores."""

    calls = 0

    def score(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().score(x) + self.calls


class NotFinite(Statistical):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x) + x[:, -1, 0]  # NaN where that is missing


class Wide(Statistical):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x)[:, None]


class Writing(Statistical):
    def score(self, x: Tensor) -> Tensor:
        x[0] = 0.0
        return super().score(x)


class Suspicious(Statistical):
    def score(self, x: Tensor) -> Tensor:
        return super().score(x) + 1.0


class Double(Statistical):
    def explain(self, x: Tensor) -> Explanation:
        explanation = super().explain(x)
        return Explanation(2 * explanation.contribution, explanation.expected, explanation.spread)


class Mute(Statistical):
    def explain(self, x: Tensor) -> Explanation:
        told = super().explain(x)
        return Explanation(told.contribution[:, :, 1:], told.expected, told.spread)


class Unsure(Statistical):
    calls = 0

    def explain(self, x: Tensor) -> Explanation:
        self.calls += 1
        told = super().explain(x)
        return Explanation(told.contribution, told.expected + np.float32(self.calls), told.spread)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (Relative, "among 16 rows"),
        (Learning, "among 16 rows"),
        (NotFinite, "are not finite"),
        (Wide, r"\[256, 1\] scores for 256 rows"),
        (Writing, "writes to its input"),
        (Suspicious, "a row without values scores 1.0, not 0"),
        (Double, "the contributions of row 0 sum to 2, not to 1"),
        (Mute, "row 0: a part of the explanation is float32"),
        (Unsure, "the expected of row 0 is another one"),
    ],
)
def test_a_scorer_that_breaks_a_law_is_seen(part: type[Statistical], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_scorer_pure(part(SPEC), W, F, torch.from_numpy)


@pytest.mark.parametrize(("w", "f"), [(0, F), (W, 0)])
def test_a_law_of_scorers_that_sees_nothing_fails(w: int, f: int) -> None:
    with pytest.raises(AssertionError, match="the law sees nothing"):
        check_scorer_pure(Statistical(SPEC), w, f, torch.from_numpy)


# ── plug-ins ─────────────────────────────────────────────────────────────────────────────────

# registered, and not known to any test
PLUGIN = """
from stream_ad.codec.json import JsonCodec as Codec
from stream_ad.fold.thresholds.ewma import EwmaThreshold as Threshold
from stream_ad.fold.windows import CountWindow as Window
from stream_ad.score.reconstruction.autoencoder import Autoencoder as Scorer
"""
LAWS = (
    "test_registered_parts.py::test_a_threshold_keeps_the_laws[new]",
    "test_registered_parts.py::test_a_codec_keeps_the_law_with_records_of_its_own[new-ms]",
    "test_registered_parts.py::test_a_codec_keeps_the_law_where_key_and_time_are_the_records_own[new]",
    "test_registered_parts.py::test_a_scorer_is_pure[new]",
    "test_scorer_laws.py::test_a_score_is_the_same_bits_alone_and_in_any_batch_at_any_position[cpu-new]",
    "test_fold_laws.py::test_judges_keep_the_laws[threshold new]",
    "test_fold_laws.py::test_a_threshold_keeps_keys_apart[new]",
    "test_fold_laws.py::test_a_swap_of_models_is_a_function_of_the_state[new]",
    "test_fold_laws.py::test_keys_windows_and_features_keep_the_laws[new]",
)


def test_whatever_is_registered_is_under_the_laws_without_a_further_line(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    info = tmp_path / "plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    points = "".join(f"[stream_ad.{kind}]\nnew = plugin:{kind.title()}\n" for kind in registry.BUILT_IN)
    (info / "entry_points.txt").write_text(points)
    suites = sorted({f"tests/laws/{law.partition('::')[0]}" for law in LAWS})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-k", "new", "-p", "no:cacheprovider", *suites]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert {f"tests/laws/{law}" for law in LAWS} <= set(done.stdout.splitlines()), done.stdout + done.stderr
