"""The page that shows how well it went."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stream_ad.demo import report
from stream_ad.demo.feed import Placed
from stream_ad.demo.scenarios import SCENARIOS
from stream_ad.demo.watch import Watch
from stream_ad.errors import StreamAdError
from tests.support.demo import SETTINGS, FixedFeed, FixedTail, FixedWorker, episode


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith(("#", "data:")):
                self.outside.append(value)


def test_the_report_is_one_file_with_plots(watch: Watch, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report.write(path, watch)
    text = path.read_text(encoding="utf-8")
    page = Links()
    page.feed(text)
    assert page.outside == []
    assert page.tags.count("svg") >= 4
    assert "script" not in page.tags
    assert "@import" not in text
    assert "exfiltration" in text
    assert "&lt;b&gt;bytes_out" in text  # what comes from the stream is escaped
    assert re.search(r"50% \(1 of 2\)", text)


def test_the_report_shows_the_configuration(watch: Watch) -> None:
    text = report.html(watch)
    for shown in (SETTINGS.command, escape(SETTINGS.file), "STREAM_AD__SINK__DELIVERY=at_least_once"):
        assert shown in text


def test_a_report_without_alerts_or_episodes(tmp_path: Path) -> None:
    made = Watch(SCENARIOS["sensors"], FixedFeed([]), FixedWorker(), FixedTail([]), "al", "mo", SETTINGS)  # type: ignore[arg-type]
    report.write(tmp_path / "empty.html", made)
    assert "– (0 of 0)" in (tmp_path / "empty.html").read_text(encoding="utf-8")


def test_a_report_while_the_first_episode_goes_on(tmp_path: Path) -> None:
    feed = FixedFeed([Placed(episode(1, "a", 2, 30), 0, 100)])
    made = Watch(SCENARIOS["network"], feed, FixedWorker(), FixedTail([]), "al", "mo", SETTINGS)  # type: ignore[arg-type]
    made.sample()
    report.write(tmp_path / "early.html", made)
    text = (tmp_path / "early.html").read_text(encoding="utf-8")
    assert "– (0 of 0)" in text
    assert "Some keys" not in text


def test_a_report_that_cannot_be_written_says_so(watch: Watch, tmp_path: Path) -> None:
    with pytest.raises(StreamAdError, match="--report"):
        report.write(tmp_path, watch)
