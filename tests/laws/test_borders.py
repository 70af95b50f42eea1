"""Law 6: what comes out of a part is checked where it enters, and harms nothing but that part's own verdicts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stream_ad import config, metrics
from stream_ad.batch import EventBatch, Explanation, RawBatch, RejectBatch, Strings
from stream_ad.codec.border import GuardedCodec
from stream_ad.codec.json import JsonCodec
from stream_ad.errors import ConfigError, ConnectionFailed
from stream_ad.fold.thresholds.ewma import EwmaThreshold
from stream_ad.fold.windows import CountWindow
from stream_ad.io.memory import MemorySource, Record
from stream_ad.protocols import BUILT_IN
from stream_ad.score import engine as engines
from stream_ad.score.engine import CPU_ROWS, Engine, Loaded
from stream_ad.score.statistical import Statistical
from stream_ad.state.border import GuardedThreshold, GuardedWindow
from tests.support.batches import raw_batch
from tests.support.in_memory import life
from tests.support.judged import scores
from tests.support.models import CONFIG, SPEC, windows

BAD = 777.0  # where the newest lag's first feature has this value, the scorer fails
CPU = torch.device("cpu")
X = windows(1500, seed=5)[0]

Fault = Callable[[Tensor, Tensor], Any]  # scores, which rows are bad -> what the scorer answers


def raising(result: Tensor, bad: Tensor) -> Tensor:
    if bad.any():
        raise ValueError(f"a value is {BAD}")
    return result


FAULTS: dict[str, Fault] = {
    "raises": raising,
    "NaN": lambda result, bad: torch.where(bad, torch.nan, result),
    "infinite": lambda result, bad: torch.where(bad, -torch.inf, result),
    "too large for float32": lambda result, bad: torch.where(bad, 1e300, result.double()),
    "too few rows": lambda result, bad: result[~bad],
    "another shape": lambda result, bad: result[:, None] if bad.any() else result,
    "no tensor": lambda result, bad: result.tolist() if bad.any() else result,
    "whole numbers": lambda result, bad: result.long() if bad.any() else result,
}


class Faulty(Statistical):
    """The built-in scorer, that fails for bad rows."""

    fault: Fault = staticmethod(raising)

    def score(self, x: Tensor) -> Tensor:
        return self.fault(super().score(x), x[:, -1, 0] == BAD)  # type: ignore[no-any-return]

    def explain(self, x: Tensor) -> Explanation:
        raising(x, x[:, -1, 0] == BAD)
        return super().explain(x)


def faulty(fault: Fault) -> Loaded:
    scorer = Faulty(SPEC)
    scorer.fault = fault  # type: ignore[method-assign]
    return Loaded("faulty", scorer, CPU, rowwise=False)


def counted(answer: str, version: str = "faulty") -> float:
    return metrics.SCORER_FAULTS.labels(version, answer)._value.get()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(CONFIG.scoring, SPEC, count_faults=metrics.scorer_faults)
    yield engine
    engine.close()


# ── the scorer ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FAULTS)
@settings(max_examples=10)
@given(
    sizes=st.lists(st.integers(0, CPU_ROWS), min_size=1, max_size=3),
    bad=st.lists(st.integers(0, 3 * CPU_ROWS), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_a_row_that_fails_has_no_score_and_its_neighbours_keep_theirs(
    engine: Engine, name: str, sizes: list[int], bad: list[int], seed: int
) -> None:
    x = X[np.random.default_rng(seed).integers(0, len(X), sum(sizes) + 1)]
    rows = sorted({one % len(x) for one in bad})
    x[rows, -1, 0] = BAD
    parts = np.split(x, np.cumsum(sizes))
    before = counted("score")
    got = engine.submit(faulty(FAULTS[name]), parts).result()
    expected = engine.submit(Loaded("sound", Statistical(SPEC), CPU, rowwise=False), parts).result()
    assert [len(part) for part in got] == [len(part) for part in parts]
    wanted = np.concatenate(expected)
    wanted[rows] = np.nan
    assert np.concatenate(got).tobytes() == wanted.tobytes()
    assert counted("score") == before + len(rows)


def test_a_row_that_cannot_be_explained_has_no_contributions_and_its_neighbours_keep_theirs(engine: Engine) -> None:
    x = X[:40].copy()
    x[[3, 4], -1, 0] = BAD
    before = counted("explanation")
    got = engine.explain(faulty(raising), x).result()
    sound = engine.explain(Loaded("sound", Statistical(SPEC), CPU, rowwise=False), x).result()
    others = np.delete(np.arange(40), [3, 4])
    assert not got.contribution[[3, 4]].any()
    assert np.array_equal(got.contribution[others], sound.contribution[others])
    assert np.array_equal(got.expected[others], sound.expected[others])
    assert np.array_equal(got.spread[others], sound.spread[others])
    assert counted("explanation") == before + 2


@pytest.mark.parametrize(
    "change",
    [
        lambda told: Explanation(told.contribution[:, :, 1:], told.expected, told.spread),
        lambda told: Explanation(told.contribution, told.expected * np.nan, told.spread),
        lambda told: Explanation(told.contribution, told.expected, told.spread[:-1]),
        lambda told: None,
    ],
    ids=["fewer features", "NaN", "a short spread", "nothing"],
)
def test_an_explanation_of_another_shape_is_none(engine: Engine, change: Callable[[Explanation], Explanation]) -> None:
    scorer = Statistical(SPEC)
    explain = scorer.explain
    scorer.explain = lambda x: change(explain(x))  # type: ignore[method-assign]
    got = engine.explain(Loaded("faulty", scorer, CPU, rowwise=False), X[:2]).result()
    assert not got.contribution.any()
    assert np.isfinite(got.expected).all()


def always(error: Exception) -> Fault:
    def fault(result: Tensor, bad: Tensor) -> Tensor:
        raise error

    return fault


def test_a_scorer_that_can_score_nothing_any_more_is_no_fault_of_the_rows(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="the device is gone"):
        engine.submit(faulty(always(RuntimeError("the device is gone"))), [X[:5]]).result()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError(), ConnectionFailed("away")])
def test_what_speaks_of_the_machine_is_no_verdict_on_a_row(engine: Engine, error: Exception) -> None:
    calls = 0

    def fault(result: Tensor, bad: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:  # once: were a row blamed for it, its verdict would depend on the hour
            raise error
        return result

    with pytest.raises((MemoryError, ConnectionFailed)):
        engine.submit(faulty(fault), [X[:5]]).result()


# ── the codec ────────────────────────────────────────────────────────────────────────────────

FIELDS = (("a", "b"), ("c",))
RECORD = config.Record(key="k", timestamp="t", timestamp_format="ms")
POISON = b'"poison"'


def record(number: int, kind: str) -> bytes | None:
    if kind == "reject":
        return b"{"
    good = {"k": f"k{number % 3}", "t": 1_700_000_000_000 + number, "a": number, "b": -1.5, "c": f"c{number % 2}"}
    return orjson.dumps(good | ({"note": "poison"} if kind == "poison" else {}))


CODEC_FAULTS: dict[str, Callable[[EventBatch, RejectBatch], Any]] = {
    "loses a record": lambda events, rejects: (events.slice(1, len(events)), rejects),
    "infinite": lambda events, rejects: (_with(events, values=events.values + np.inf), rejects),
    "another type": lambda events, rejects: (_with(events, values=events.values.astype(np.float32)), rejects),
    "fewer fields": lambda events, rejects: (_with(events, values=events.values[:, 1:]), rejects),
    "no categories": lambda events, rejects: (_with(events, cats=()), rejects),
    "time out of reach": lambda events, rejects: (_with(events, ts_ms=events.ts_ms + 2**50), rejects),
    "another offset": lambda events, rejects: (_with(events, offset=events.offset + 1), rejects),
    "a key too long": lambda events, rejects: (_with(events, key=Strings.of([b"x" * 65] * len(events))), rejects),
    "a key without an end": lambda events, rejects: (
        _with(events, key=Strings(events.key.data[:1], events.key.start)),
        rejects,
    ),
    "nothing": lambda events, rejects: None,
}


def _with(events: EventBatch, **changed: Any) -> EventBatch:
    columns = {name: getattr(events, name) for name in EventBatch.__slots__}
    return EventBatch(**(columns | changed))


class FaultyCodec(JsonCodec):
    fault: Callable[[EventBatch, RejectBatch], Any] | None = None

    def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
        answer = super().decode(raw)
        if not any(POISON in (value or b"") for value in raw.value):
            return answer
        if self.fault is None:
            raise ValueError("poison")
        return self.fault(*answer)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["raises", *CODEC_FAULTS])
@settings(max_examples=25)
@given(kinds=st.lists(st.sampled_from(["good", "good", "good", "reject", "poison"]), max_size=60))
def test_a_record_that_a_codec_cannot_deal_with_is_one_reject(name: str, kinds: list[str]) -> None:
    faulty = FaultyCodec(RECORD, *FIELDS)
    if name != "raises":
        faulty.fault = CODEC_FAULTS[name]
    raw = raw_batch([record(number, kind) for number, kind in enumerate(kinds)])
    events, rejects = GuardedCodec(faulty, RECORD, 2, 1).decode(raw)
    sound, refused = JsonCodec(RECORD, *FIELDS).decode(raw)
    kept = np.array([kinds[row] != "poison" for row in sound.row], bool)
    for column in ("row", "offset", "ts_ms", "values", "codes"):
        assert getattr(events, column).tobytes() == getattr(sound, column)[kept].tobytes(), column
    assert events.key.tolist() == [key for key, keep in zip(sound.key.tolist(), kept, strict=True) if keep]
    assert events.cats[0].tolist() == [cat for cat, keep in zip(sound.cats[0].tolist(), kept, strict=True) if keep]
    told = dict(zip(rejects.row, rejects.reason, strict=True))
    assert list(told) == [row for row, kind in enumerate(kinds) if kind != "good"]
    for row, reason in zip(refused.row, refused.reason, strict=True):
        assert told.pop(row) == reason
    assert all(reason.startswith("codec_error: ") and "poison" not in reason for reason in told.values())


def test_a_codec_that_cannot_work_at_all_ends_the_run() -> None:
    class Away(JsonCodec):
        def decode(self, raw: RawBatch) -> tuple[EventBatch, RejectBatch]:
            raise ConnectionFailed("record.format: the schema registry does not answer")

    with pytest.raises(ConnectionFailed, match="schema registry"):
        GuardedCodec(Away(RECORD, *FIELDS), RECORD, 2, 1).decode(raw_batch([b"{}"]))


# ── folds ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"p_value": np.zeros(1)}, r"p_value is float64\[1\] where float64\[4\] is expected"),
        ({"flag": np.zeros(4)}, "flag is float64"),
        ({"threshold": np.full(4, np.nan)}, "threshold is not finite"),
        ({"p_value": np.zeros(4)}, r"p_value is not in \(0, 1\]"),
    ],
)
def test_a_threshold_that_breaks_its_contract_ends_the_run_and_is_named(changed: dict[str, Any], told: str) -> None:
    class Wrong(EwmaThreshold):
        def step(self, state: Any, batch: Any) -> Any:
            verdicts = super().step(state, batch)
            columns = {name: getattr(verdicts, name) for name in type(verdicts).__slots__}
            return type(verdicts)(**(columns | changed))

    guarded = GuardedThreshold(Wrong(CONFIG.threshold))
    with pytest.raises(ConfigError, match=f"threshold.kind: Wrong breaks its contract: {told}"):
        guarded.step(guarded.init(2), scores([0, 1, 0, 1], np.zeros(4)))


def test_a_threshold_that_cannot_be_carried_over_ends_the_run_and_is_named() -> None:
    class Uncarried(EwmaThreshold):
        def carry(self, state: Any, old: Any, new: Any) -> None:
            raise ZeroDivisionError

    guarded = GuardedThreshold(Uncarried(CONFIG.threshold))
    with pytest.raises(ConfigError, match=r"threshold\.kind: Uncarried .* raised ZeroDivisionError"):
        guarded.carry(guarded.init(2), np.zeros(1), np.zeros(1))


def test_a_fold_that_raises_ends_the_run_and_is_named() -> None:
    class Raising(CountWindow):
        def step(self, state: Any, batch: Any) -> Any:
            raise IndexError("secret")

    guarded = GuardedWindow(Raising(CONFIG.window, 2))
    with pytest.raises(
        ConfigError, match=r"window\.kind: Raising .* raised IndexError at test_borders\.py:\d+"
    ) as told:
        guarded.step(guarded.init(2), scores([0], np.zeros(1)).features.windows.keyed)
    assert "secret" not in str(told.value)


# ── the run ──────────────────────────────────────────────────────────────────────────────────

RUN = config.parse(
    {
        "source": {"topic": "t"},
        "record": {"key": "k", "timestamp": "t", "timestamp_format": "ms"},
        "window": {"rows": 6, "max_keys": 10},
        "features": {"event": [], "numeric": {"a": ["raw"]}},
        "threshold": {"false_alarm_rate": 1e-3},
    }
)
ODD = 900.0  # an outlier, for which no reasons can be given


def log(rows: int = 1200) -> list[Record]:
    noise = np.random.default_rng(4)
    values = noise.normal(10, 1, rows)
    values[300::50] = BAD
    values[310::100] = ODD
    values[360::100] = 400.0
    return [
        Record(None, orjson.dumps({"k": f"k{number % 3}", "t": 1_700_000_000_000 + 1000 * number, "a": value}))
        for number, value in enumerate(values.tolist())
    ]


class Unreliable(Statistical):
    """Raises or answers NaN for bad rows, and cannot explain odd ones."""

    def score(self, x: Tensor) -> Tensor:
        result, bad = super().score(x), x[:, -1, 0] == BAD
        if bad.sum() == 1:
            raise ValueError("bad")
        return torch.where(bad, torch.nan, result)

    def explain(self, x: Tensor) -> Explanation:
        raising(x, x[:, -1, 0] == ODD)
        return super().explain(x)


def alerts_of(
    monkeypatch: pytest.MonkeyPatch,
    scorer: type[Statistical],
    poll_rows: int,
    source: type[MemorySource] = MemorySource,
) -> list[dict[str, Any]]:
    monkeypatch.setattr(engines, "Statistical", scorer)
    return [orjson.loads(one.value or b"") for one in life(RUN, log(), poll_rows, source).published["alerts"]]


def test_a_scorer_that_fails_for_some_rows_stops_nothing_and_poisons_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = counted("score", BUILT_IN)
    alerts = alerts_of(monkeypatch, Unreliable, poll_rows=1000)
    values = [orjson.loads(one.value or b"")["a"] for one in log()]
    flagged = [one for one in alerts if one["phase"] == "opened"]
    about = {values[one["position"]["offset"]] for one in flagged}
    assert {ODD, 400.0} <= about  # judged to the end, beside the bad rows
    assert BAD not in about
    assert max(one["position"]["offset"] for one in flagged) > 1000
    assert counted("score", BUILT_IN) == before + values.count(BAD)
    for one in flagged:
        unexplained = values[one["position"]["offset"]] == ODD
        assert (one["contributors"] == []) == unexplained
        assert one["summary"].endswith("the model gives no reasons.") == unexplained
    for poll_rows in (1, 7):  # whoever the neighbours are
        assert alerts_of(monkeypatch, Unreliable, poll_rows) == alerts


def test_a_slow_answer_delays_verdicts_and_changes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Event()

    class Slow(Statistical):
        """Does not answer before everything is read."""

        def score(self, x: Tensor) -> Tensor:
            if not torch.isnan(x).all():
                assert read.wait(60)
            return super().score(x)

    class Read(MemorySource):
        def finished(self) -> bool:
            done = super().finished()
            if done:
                read.set()
            return done

    slow = alerts_of(monkeypatch, Slow, 100, Read)
    assert slow
    assert slow == alerts_of(monkeypatch, Statistical, 100)
