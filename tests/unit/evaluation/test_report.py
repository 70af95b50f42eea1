"""The report shows what the figures say, and escapes what comes from the stream."""

from __future__ import annotations

import re

import numpy as np
import pytest

from stream_ad.evaluation import baselines
from stream_ad.evaluation.labelled import Answers, Labelled, Stream
from stream_ad.evaluation.report import POINTS, report, section


def stream(n: int, labelled: bool = True) -> Stream:
    random = np.random.default_rng(0)
    key = random.integers(0, 3, n)
    label = (random.random(n) < 0.01) & (key == 1) & labelled
    known = Labelled(key, 1_700_000_000_000 + 3_600_000 * np.arange(n), label, np.ones(n, bool))
    score = random.normal(size=n) + 6 * label
    answers = Answers.of(known, score, score > 4)
    return Stream(answers, np.full(n, 4.0), np.ones(n), random.normal(size=(n, 1)), ["first", "<second>", "third"])


def test_the_page_needs_no_other_file_and_escapes_names() -> None:
    made = stream(5000)
    text = report(
        "a <b>.csv", "<p>figures</p>", [section("mine & co", made, {"random": baselines.random(made.answers)})]
    )
    assert "<h1>a &lt;b&gt;.csv</h1>" in text
    assert "<h2>mine &amp; co</h2>" in text
    assert "<h4>&lt;second&gt;</h4>" in text
    assert "<h4>first</h4>" not in text  # has no labelled record
    assert text.count("<svg") == 4
    assert not re.search(r'(src|href)="http', text)


def test_the_same_stream_gives_the_same_page() -> None:
    assert section("mine", stream(2000), {}) == section("mine", stream(2000), {})


@pytest.mark.filterwarnings("error")  # a user would see them
@pytest.mark.parametrize("n", [1, 10, 20 * POINTS])
def test_short_and_long_streams_without_a_label_are_drawn(n: int) -> None:
    text = section("mine", stream(n, labelled=False), {})
    assert text.count("<svg") == 3
    assert "no record is labelled" in text
    assert len(text) < 1_000_000


def test_the_keys_with_most_false_alarms_are_named() -> None:
    made = stream(20_000)
    flags = made.answers.flag & ~made.answers.label
    noisiest = made.names[int(np.bincount(made.answers.key[flags]).argmax())]
    rows = re.findall(r"<tr><td>([^<]*)</td>", section("mine", made, {}))
    assert rows[0].replace("&lt;", "<").replace("&gt;", ">") == noisiest
