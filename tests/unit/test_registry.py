"""Plug-ins are found with their options, and one that cannot keep its contract is refused with a reason."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_ad import config, registry
from stream_ad.config import parse
from stream_ad.config.features import FeatureSpec
from stream_ad.config.parts import KINDS
from stream_ad.errors import ConfigError, ModelError
from stream_ad.score.bundle import Bundle, Manifest
from stream_ad.state import assemble

Install = Callable[[str, str, str], None]
FEATURES = {"numeric": {"a": ["raw"]}}
LISTED = [(section, name) for section, kind in KINDS.items() for name in registry.OPTIONS[kind.name]]

# as they were written before parts had options of their own
OLD_THRESHOLD = """
class Part:
    def __init__(self, section):
        self.level = section.half_life_rows * section.false_alarm_rate
    def init(self, capacity): ...
    def step(self, state, batch): ...
    def carry(self, state, old, new): ...
"""
OLD_SCORER = """
from stream_ad.config import Train
from stream_ad.score.train import Fitted, Progress

class Part:
    @classmethod
    def fit(cls, x, held, options: Train, progress: Progress) -> Fitted: ...
    @classmethod
    def shapes(cls, architecture): return {}
    @classmethod
    def of(cls, bundle, device): return cls()
    def score(self, x): ...
    def explain(self, x): ...
"""
OPTIONS = """
from pydantic import Field
from stream_ad.config import {section}

class Options({section}):
    grain: int = Field(3, ge=1)
    steps: list[int] = [1]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package of one module that offers its class `Part` under a name."""

    def installed(kind: str, name: str, code: str) -> None:
        module = f"plugin_{name}"
        (tmp_path / f"{module}.py").write_text(code)
        about = tmp_path / f"{module}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[stream_ad.{kind}]\n{name} = {module}:Part\n")
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, module, raising=False)

    monkeypatch.syspath_prepend(str(tmp_path))
    return installed


def refused(data: dict[str, Any], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(data, environ)
    return str(caught.value)


@pytest.mark.parametrize(("section", "name"), LISTED)
def test_options_that_are_listed_are_those_of_the_class(
    section: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = KINDS[section].model(name)
    monkeypatch.delitem(registry.OPTIONS[KINDS[section].name], name)
    assert KINDS[section].model(name) is listed


def test_reading_a_configuration_imports_neither_torch_nor_numba() -> None:
    code = """
import sys
from stream_ad import registry
from stream_ad.config import parse
from stream_ad.config.parts import KINDS
for section, kind in KINDS.items():
    for name in registry.OPTIONS[kind.name]:
        parse({section: {kind.key: name}})
print(sorted({"torch", "numba"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("section", "base", "code"),
    [("threshold", "ThresholdOptions", OLD_THRESHOLD), ("train", "ScorerOptions", OLD_SCORER)],
)
def test_a_plug_in_brings_its_options(install: Install, section: str, base: str, code: str) -> None:
    kind = KINDS[section]
    install(kind.name, "mine", OPTIONS.format(section=base) + code + "    Options = Options\n")
    variables = {f"STREAM_AD__{section.upper()}__STEPS": "[2, 5]"}
    options = getattr(parse({section: {kind.key: "mine", "grain": 7}}, variables), section)
    assert (options.grain, options.steps) == (7, [2, 5])
    assert f"{section}.grain: Input should be greater" in refused({section: {kind.key: "mine", "grain": 0}})
    assert f"{section}.grian: the {kind.name} mine has no such option; it has: grain, steps; " in refused(
        {section: {kind.key: "mine", "grian": 7}}
    )
    other = refused({section: {"grain": 7}})
    assert f"config: {section}.grain: the {kind.name} " in other
    assert "has no such option; it has: e" in other


def test_an_old_threshold_gets_the_section_as_it_was(install: Install) -> None:
    install("threshold", "old", OLD_THRESHOLD)
    made = parse({"features": FEATURES, "threshold": {"kind": "old", "half_life_rows": 50, "false_alarm_rate": 0.01}})
    assert type(made.threshold) is config.Threshold
    assert made.unused == []
    assemble.folds(made, FeatureSpec.of(made), capacity=2)
    assert registry.threshold("old")(made.threshold).level == 0.5  # type: ignore[attr-defined]


def test_an_old_scorer_gets_the_section_as_it_was(install: Install) -> None:
    install("scorer", "old", OLD_SCORER)
    made = parse({"train": {"scorer": "old", "epochs": 3, "samples": 4}})
    assert type(made.train) is config.Train
    assert (made.train.epochs, made.train.hidden, made.train.samples, made.unused) == (3, [64, 16], 4, [])
    assert registry.trainable("old").shapes({}) == {}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "plug-in 'bad' (plugin_bad:Part) cannot be loaded: No module named 'no_such_module'"),
        ("Part = 5", "threshold 'bad' is no class but 5"),
        (OLD_THRESHOLD.replace("carry", "carries"), "bad is no threshold: Part lacks carry (see Threshold in"),
        (OLD_THRESHOLD + "    Options = dict\n", "bad: its Options must be a pydantic model"),
        (
            OPTIONS.format(section="ScorerOptions") + OLD_THRESHOLD + "    Options = Options\n",
            "Options, the options of bad, must derive from stream_ad.config.ThresholdOptions",
        ),
    ],
)
def test_a_plug_in_that_does_not_fit_is_refused_with_the_reason(install: Install, code: str, said: str) -> None:
    install("threshold", "bad", code)
    assert f"config: threshold.kind: {said}" in refused({"threshold": {"kind": "bad"}})
    with pytest.raises(ConfigError) as caught:
        KINDS["threshold"].model("bad")
    assert str(caught.value).startswith(f"threshold.kind: {said}")


def test_what_a_scorer_lacks_is_said_where_it_is_needed(install: Install) -> None:
    install("scorer", "unfit", OLD_SCORER.replace("def fit", "def fits").replace("def of", "def off"))
    install("scorer", "mute", OLD_SCORER.replace("def explain", "def explains"))
    with pytest.raises(ConfigError, match=r"train\.scorer: unfit has nothing to train: Part lacks fit, of; choose"):
        registry.trainable("unfit")
    assert "train.scorer: mute is no scorer: Part lacks explain" in refused({"train": {"scorer": "mute"}})
    manifest = Manifest("mute", {"w": 1, "f": 1}, "", "", 0, 0, 0, {}, {}, 0)
    bundle = Bundle.of(manifest, {})
    with pytest.raises(ModelError, match=rf"model {bundle.version}: mute is no scorer: Part lacks explain"):
        Bundle.from_bytes(bundle.to_bytes(), None)


def test_a_part_that_is_not_there_is_refused_with_those_that_are(install: Install) -> None:
    install("scorer", "mine", OLD_SCORER)
    text = refused({"train": {"scorer": "psychic", "epochs": 3}})
    known = ", ".join(registry.names("scorer"))
    assert "mine" in known
    assert text == f"config: train.scorer: no such scorer; there are: {known} (got 'psychic')"


def test_keys_that_every_part_had_are_accepted_and_named_where_a_part_does_not_use_them(install: Install) -> None:
    old = {"epochs": 3, "hidden": [8, 2], "samples": 4}
    assert parse({"train": old}).unused == ["train.samples: the scorer ensemble does not use it; remove it"]
    trees = parse({"train": {"scorer": "half_space_trees", **old}})
    assert [line.partition(":")[0] for line in trees.unused] == ["train.epochs", "train.hidden", "train.samples"]
    assert parse({"train": {"scorer": "vae", **old}}).unused == []
    assert "train.trees: the scorer vae has no such option; it has: epochs, hidden, samples; " in refused(
        {"train": {"scorer": "vae", "trees": 3}}
    )
    install("threshold", "mine", OPTIONS.format(section="ThresholdOptions") + OLD_THRESHOLD + "    Options = Options\n")
    made = parse({"threshold": {"kind": "mine", "half_life_rows": 3}})
    assert made.unused == ["threshold.half_life_rows: the threshold mine does not use it; remove it"]


def test_the_chosen_part_may_come_from_the_environment() -> None:
    environ = {"STREAM_AD__TRAIN__TREES": "40", "STREAM_AD__TRAIN__SCORER": "half_space_trees"}
    made = parse({}, environ)
    assert (made.train.trees, made.train.height) == (40, 8)  # type: ignore[attr-defined]
    del environ["STREAM_AD__TRAIN__SCORER"]
    text = refused({}, environ)
    assert text.startswith(
        "config: train.trees: the scorer ensemble has no such option; it has: epochs, hidden, members, "
    )
    assert text.endswith("(set by STREAM_AD__TRAIN__TREES)")
