"""Every row of the table of feature kinds is carried through: parsed, computed, explained, judged, proposed, listed."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stream_ad.batch import Explanation, FeatureBatch
from stream_ad.config import feature_kinds, parse
from stream_ad.config.feature_kinds import KINDS, kinds_of, suited
from stream_ad.config.feature_kinds.categorical import BURST_OVERALL, FREQUENCY, NOVELTY
from stream_ad.config.feature_kinds.event import COUNT, GAP
from stream_ad.config.feature_kinds.numeric import RATE, RAW, ZSCORE
from stream_ad.config.feature_kinds.reading import Figure, Indicator, Level, Moment, Rise, Share, Unit, phrases
from stream_ad.config.feature_kinds.row import FeatureKind, Of, Parameter, Role, State
from stream_ad.config.features import FeatureSpec
from stream_ad.fold.features.featuriser import Featuriser
from stream_ad.fold.keys import Keys
from stream_ad.fold.windows import CountWindow
from stream_ad.messages.explain import Contributor, contributors
from stream_ad.score.statistical import Statistical
from tests.support.batches import Row, events

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
START_MS = 1_700_000_000_000
WARM = 60  # events after which every key and the pool know something
FIELD = {Of.EVENT: "", Of.NUMBER: "v", Of.CATEGORY: "c"}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.of.value}.{kind.name}")


def spec_of(kind: FeatureKind, **others: Any) -> FeatureSpec:
    text = kind.name + {None: "", Parameter.SPAN: ":1m", Parameter.ROWS: ":3"}[kind.parameter]
    listed = [text] if kind.of is Of.EVENT else {FIELD[kind.of]: [text]}
    if kind.state is State.JOINT:
        others = {"numeric": {"v": ["raw"], "w": ["raw"]}}
    return FeatureSpec.of(parse({"window": {"rows": 8}, "features": {"event": [], kind.of.value: listed, **others}}))


def featured(spec: FeatureSpec, scale: float = 1.0, stretch: int = 1) -> FeatureBatch:
    """400 events of three keys; some values and categories are missing, some are new."""
    rng = np.random.default_rng(7)
    rows: list[Row] = []
    for i in range(400):
        value = rng.normal(50.0, 9.0) if rng.random() > 0.1 else float("nan")
        category = rng.choice(["", "x", "y", f"new-{i}"], p=[0.1, 0.6, 0.2, 0.1])
        ts_ms = START_MS + (i * 700 + int(rng.integers(0, 600))) * stretch
        rows.append(
            (f"k{rng.integers(3)}", ts_ms, [scale * value] * len(spec.numeric), [category] * len(spec.categorical))
        )
    window = parse({"window": {"rows": spec.rows}}).window
    keys, windows, features = Keys(window, 64), CountWindow(window, len(spec.numeric)), Featuriser(spec)
    keyed = keys.step(keys.init(8), events(rows))
    return features.step(features.init(8), windows.step(windows.init(8), keyed))


def told(spec: FeatureSpec, batch: FeatureBatch, expected: float | None = None) -> list[Contributor]:
    """Of each warm event with a feature: what an alert says, where `expected` (as it was: None) and ±1 was expected."""
    known = np.flatnonzero(~np.isnan(batch.x[:, -1, 0]))
    rows = known[known >= WARM]
    contribution = np.zeros((len(rows), *batch.x.shape[1:]), np.float32)
    contribution[:, -1, 0] = 1.0
    usual = batch.x[rows] if expected is None else np.full_like(batch.x[rows], expected)
    spread = np.ones(batch.x.shape[2], np.float32)
    return [found[0] for found in contributors(batch, rows, Explanation(contribution, usual, spread), spec)]


@every_kind
def test_the_configuration_knows_it(kind: FeatureKind) -> None:
    spec = spec_of(kind)
    mine = spec.features[: len(kind.features)]
    assert [feature.kind for feature in mine] == kind.features
    assert all(spec.kind_of(feature) is kind for feature in mine)
    assert all((feature.parameter > 0) is (kind.parameter is not None) for feature in mine)
    assert FeatureSpec.from_json(spec.to_json()) == spec


@every_kind
def test_the_kernel_computes_it(kind: FeatureKind) -> None:
    newest = featured(spec_of(kind)).x[:, -1]
    for column in newest.T:
        known = column[~np.isnan(column)]
        assert len(known) > 300, "it is NaN on events that have a value and a category"
        assert len(np.unique(known)) > 1, "it is the same for all events"


@every_kind
def test_the_reference_page_lists_it(kind: FeatureKind) -> None:
    about = kind.about.replace("|", "\\|")
    row = f"| `{kind.of.value}` | `{kind.written}` | {about} | {kind.role.name.lower()} |"
    assert row in REFERENCE.read_text(encoding="utf-8").splitlines(), "run `make docs`"


@every_kind
def test_an_alert_says_it_in_its_own_words(kind: FeatureKind) -> None:
    spec = spec_of(kind)
    patterns = [re.sub(r"\\\{\w+\\\}", ".+", re.escape(phrase)) for phrase in phrases(kind.reading)]
    texts = [one.text for one in told(spec, featured(spec), expected=0.5)]
    assert len(texts) > 200
    for text in texts:
        assert any(re.match(pattern, text) for pattern in patterns), text
    for pattern in patterns:
        assert any(re.match(pattern, text) for text in texts), pattern
    assert all(FIELD[kind.of] in text for text in texts)


@every_kind
def test_an_alert_says_it_in_units_of_the_record(kind: FeatureKind) -> None:
    spec, reading = spec_of(kind), kind.reading
    batch = featured(spec)
    found = told(spec, batch)
    observed = [one.observed for one in found]
    if isinstance(reading, Level):
        values = batch.windows.values[WARM:, -1, 0]
        assert observed == values[~np.isnan(values)].tolist()
        # where a value as it was had been expected, the way back from the feature leads to it
        np.testing.assert_allclose([one.expected for one in found], observed, rtol=1e-4)
    elif isinstance(reading, Figure):
        seen = np.array(observed, float)
        by_value = [one.observed for one in told(spec, featured(spec, scale=4.0))]
        np.testing.assert_allclose(by_value, seen * (4.0 if reading.unit is Unit.FIELD else 1.0), rtol=1e-4)
        if reading.unit is Unit.SECONDS:
            by_time = [one.observed for one in told(spec, featured(spec, stretch=4))]
            np.testing.assert_allclose(by_time, 4.0 * seen, rtol=1e-4)
    elif isinstance(reading, Share):
        assert all(one.expected is not None and 0.0 < one.expected <= 1.0 for one in found)
        assert {"x", "y"} < set(observed)
    elif isinstance(reading, Rise):
        assert {"x", "y"} < set(observed)
        assert {one.direction for one in told(spec, batch, expected=0.5)} == {"frequent", "rare"}
    elif isinstance(reading, Moment):
        assert all(str(one.observed) in one.text for one in found)
    else:
        assert isinstance(reading, Indicator)
        assert {one.direction for one in told(spec, batch, expected=0.5)} == set(reading.directions)


@every_kind
def test_the_statistical_scorer_knows_its_role(kind: FeatureKind) -> None:
    spec = spec_of(kind, **({} if kind.of is Of.NUMBER else {"numeric": {"w": ["raw"]}}))
    if kind.of is Of.NUMBER:
        spec = spec_of(kind, categorical={"w": ["frequency"]})
    mine = [spec.kind_of(feature) is kind for feature in spec.features]
    usual = np.zeros((1, spec.rows, len(spec.features)), np.float32)
    changed = usual.copy()
    changed[:, -1, mine] = 1.0
    scorer = Statistical(spec)
    moved = float(scorer.score(torch.from_numpy(changed))[0]) != float(scorer.score(torch.from_numpy(usual))[0])
    assert moved is (kind.role is not Role.CONTEXT)
    assert scorer.explain(torch.from_numpy(usual)).spread[0, mine].all() == (
        kind.role in (Role.STANDARD, Role.BESIDE, Role.JOINT)
    )


@every_kind
def test_init_proposes_it_for_what_suits_it(kind: FeatureKind) -> None:
    for trait in kind.suits:
        listed = suited(kind.of, {trait})
        assert kind.name in [text.partition(":")[0] for text in listed]
        section = listed if kind.of is Of.EVENT else {"f": listed}
        assert FeatureSpec.of(parse({"features": {"event": [], kind.of.value: section}})).features


def test_every_kind_of_the_folder_is_a_row_of_the_table() -> None:
    modules = [
        importlib.import_module(f"{feature_kinds.__name__}.{module.name}")
        for module in pkgutil.iter_modules(feature_kinds.__path__)
    ]
    made = [value for module in modules for value in vars(module).values() if isinstance(value, FeatureKind)]
    assert len(made) == len(KINDS)
    assert {id(kind) for kind in made} == {id(kind) for kind in KINDS}
    assert sum(len(kinds_of(of)) for of in Of) == len(KINDS)


def plain(field: Any) -> float:
    return float(field.value)


@pytest.mark.parametrize(
    ("kind", "piece", "wrong"),
    [
        (RAW, "name", {"name": "two words"}),
        (RAW, "about", {"about": " "}),
        (RAW, "formula", {"formula": plain}),
        (RAW, "state", {"state": State.SPAN, "of": Of.CATEGORY}),
        (GAP, "state", {"state": State.MOMENTS}),
        (NOVELTY, "state", {"state": State.WINDOW}),
        (COUNT, "parameter", {"parameter": None}),
        (RATE, "parameter", {"state": State.TRACKER}),
        (RATE, "reading", {"reading": Figure("", RATE.reading.inverse)}),  # type: ignore[union-attr]
        (RATE, "reading", {"reading": Figure("a change", RATE.reading.inverse)}),  # type: ignore[union-attr]
        (RATE, "reading", {"reading": Figure("{field} in {parameter}", RATE.reading.inverse)}),  # type: ignore[union-attr]
        (GAP, "reading", {"reading": ZSCORE.reading}),
        (GAP, "reading", {"reading": Figure("time", GAP.reading.inverse)}),  # type: ignore[union-attr]
        (FREQUENCY, "reading", {"reading": Share("{category} is rare")}),
        (RATE, "reading", {"reading": FREQUENCY.reading}),
        (RATE, "reading", {"reading": BURST_OVERALL.reading}),
    ],
)
def test_a_row_with_a_wrong_piece_cannot_be_made(kind: FeatureKind, piece: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"feature kind .*: {piece}: "):
        replace(kind, **wrong)


@pytest.mark.parametrize("piece", ["name", "of", "state", "formula", "reading", "role", "about"])
def test_a_row_without_a_piece_cannot_be_made(piece: str) -> None:
    pieces = {name: getattr(RAW, name) for name in ("name", "of", "state", "formula", "reading", "role", "about")}
    FeatureKind(**pieces)
    del pieces[piece]
    with pytest.raises(TypeError, match=piece):
        FeatureKind(**pieces)
