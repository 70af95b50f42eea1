"""Precision, recall and latency of the demo, and the page that shows them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from stream_ad.demo import report, view
from stream_ad.demo.feed import Placed
from stream_ad.demo.measure import ReceivedAlert, matches, measure
from stream_ad.demo.scenarios import SCENARIOS
from stream_ad.demo.simulate import HOUR_MS, START_MS, Episode
from stream_ad.demo.watch import Watch
from stream_ad.demo.worker import parsed
from stream_ad.errors import StreamAdError
from stream_ad.io.embedded import Arrival
from stream_ad.messages.models import encode_swap
from stream_ad.protocols import Swap

TOLERANCE_MS = HOUR_MS


def body(offset: int, key: str, at_ms: int, **changed: Any) -> dict[str, Any]:
    place = f"demo.network/0/{offset}"
    return {
        "id": f"{place}/score",
        "incident": f"{place}/score",
        "phase": "opened",
        "rule": "score",
        "key": key,
        "event_time": f"2025-01-06T{at_ms // HOUR_MS:02d}:{at_ms % HOUR_MS // 60_000:02d}:00.000Z",
        "score": 30.5,
        "threshold": 6.25,
        "severity": "high",
        "model": "statistical",
        "summary": f"{key} is anomalous: <b>bytes_out</b> 9,100,000, expected 8,000–21,000.",
        "position": {"topic": "demo.network", "partition": 0, "offset": offset},
        **changed,
    }


def heard(*args: Any, latency_ms: float | None = None, **changed: Any) -> ReceivedAlert:
    return ReceivedAlert.of(orjson.dumps(body(*args, **changed)), latency_ms)


def episode(number: int, key: str, start_h: float, end_h: float, kind: str = "port scan") -> Episode:
    return Episode(number, kind, key, START_MS + round(start_h * HOUR_MS), START_MS + round(end_h * HOUR_MS))


def test_an_alert_is_read_in_event_time() -> None:
    assert heard(5, "a", 3 * HOUR_MS).event_ms == START_MS + 3 * HOUR_MS


def test_true_false_found_and_missed() -> None:
    episodes = [episode(1, "a", 2, 3), episode(2, "b", 2, 3), episode(3, "c", 2, 3, "exfiltration")]
    alerts = [
        heard(10, "a", 2 * HOUR_MS, latency_ms=100.0),  # at the very start
        heard(11, "b", 4 * HOUR_MS, latency_ms=300.0),  # at the very end of the tolerance
        heard(12, "c", 5 * HOUR_MS),  # too late
        heard(13, "a", 1 * HOUR_MS),  # too early
        heard(14, "d", 2 * HOUR_MS),  # nobody did anything to d
    ]
    quality = measure(episodes, alerts, episodes, TOLERANCE_MS)
    assert (quality.incidents, quality.true, quality.injected, quality.found) == (5, 2, 3, 2)
    assert quality.precision == pytest.approx(0.4)
    assert quality.recall == pytest.approx(2 / 3)
    assert [(k.kind, k.injected, k.found) for k in quality.kinds] == [("exfiltration", 1, 0), ("port scan", 2, 2)]
    assert quality.latency_p50_ms == pytest.approx(200.0)


def test_an_update_within_an_episode_finds_it_and_a_resolution_does_not() -> None:
    one = episode(1, "a", 2, 3)
    opened = heard(10, "a", 1 * HOUR_MS)
    resolved = heard(11, "a", 2 * HOUR_MS, id="r", incident=opened.incident, phase="resolved")
    assert matches([one], [opened, resolved], TOLERANCE_MS) == {}
    updated = heard(12, "a", 2 * HOUR_MS, id="u", incident=opened.incident, phase="updated")
    quality = measure([one], [opened, updated], [one], TOLERANCE_MS)
    assert (quality.incidents, quality.true, quality.found) == (1, 1, 1)


def test_an_alert_about_another_models_episode_is_not_false() -> None:
    other = episode(1, "a", 2, 3)
    quality = measure([], [heard(10, "a", 2 * HOUR_MS)], [other], TOLERANCE_MS)
    assert (quality.true, quality.injected, quality.found) == (1, 0, 0)
    assert quality.precision == 1.0
    assert quality.recall is None


class FixedFeed:
    """What a feed has to say, at rest."""

    def __init__(self, placed: list[Placed]) -> None:
        self.placed = {one.episode.id: one for one in placed}
        self.live_from = [0]
        self.history_records, self.live_records, self.records_in_episodes = 80_000, 1000, 20
        self.now_ms, self.live_ms = START_MS + 9 * HOUR_MS, START_MS
        self.recent = [(b"a", START_MS + row * 600_000, 100.0 + row % 7) for row in range(54)]

    def sent_ms(self, partition: int, offset: int) -> float | None:
        return 1000.0 + offset


class FixedTail:
    def __init__(self, arrivals: list[Arrival]) -> None:
        self.arrivals = arrivals

    def take(self) -> list[Arrival]:
        arrivals, self.arrivals = self.arrivals, []
        return arrivals


METRICS = """\
# TYPE stream_ad_events_total counter
stream_ad_events_total 81000.0
# TYPE stream_ad_lag_events gauge
stream_ad_lag_events{partition="0"} 12.0
stream_ad_lag_events{partition="1"} 3.0
# TYPE stream_ad_keys gauge
stream_ad_keys{partition="0"} 240.0
# TYPE stream_ad_model gauge
stream_ad_model{partition="0",version="statistical"} 0.0
stream_ad_model{partition="0",version="v1"} 1.0
# TYPE stream_ad_score gauge
stream_ad_score 1.5
# TYPE stream_ad_threshold gauge
stream_ad_threshold 6.25
"""


class FixedWorker:
    def figures(self) -> Any:
        return parsed(METRICS)


def test_the_workers_figures_are_read() -> None:
    figures = parsed(METRICS)
    assert (figures.events, figures.keys) == (81_000, 240)
    assert figures.versions == {0: "v1"}
    assert (figures.score, figures.threshold) == (1.5, 6.25)


@pytest.fixture
def watch() -> Watch:
    placed = [Placed(episode(1, "a", 2, 3), 0, 100), Placed(episode(2, "b", 6, 7, "exfiltration"), 0, 500)]
    alerts = [
        body(100, "a", 2 * HOUR_MS),
        body(100, "a", 2 * HOUR_MS),  # delivered twice
        body(500, "b", 6 * HOUR_MS, model="v1"),
        body(600, "c", 6 * HOUR_MS, model="v1", severity="low"),
    ]
    arrivals = [Arrival("al", 0, row, b"", orjson.dumps(one), 1000.0 + 640) for row, one in enumerate(alerts)]
    swap = Arrival("mo", 0, 0, b"", encode_swap(Swap(0, 400, "v1")).value, 0.0)
    made = Watch(SCENARIOS["network"], FixedFeed(placed), FixedWorker(), FixedTail([*arrivals, swap]), "al", "mo")  # type: ignore[arg-type]
    made.listen()
    for _ in range(3):
        made.sample()
    made.settle()
    return made


def test_episodes_and_alerts_belong_to_the_model_that_judged(watch: Watch) -> None:
    assert len(watch.alerts) == 3  # the repeated one counts once
    before, after = watch.quality(trained=False), watch.quality(trained=True)
    assert (before.incidents, before.true, before.injected, before.found) == (1, 1, 1, 1)
    assert (after.incidents, after.true, after.injected, after.found) == (2, 1, 1, 1)
    assert before.latency_p50_ms == pytest.approx(540.0)  # read at 1640, sent at 1100
    assert watch.base_rate() == pytest.approx(0.02)
    assert watch.model == "v1"


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


def test_a_report_without_alerts_or_episodes(tmp_path: Path) -> None:
    made = Watch(SCENARIOS["sensors"], FixedFeed([]), FixedWorker(), FixedTail([]), "al", "mo")  # type: ignore[arg-type]
    report.write(tmp_path / "empty.html", made)
    assert "– (0 of 0)" in (tmp_path / "empty.html").read_text(encoding="utf-8")


def test_a_report_while_the_first_episode_goes_on(tmp_path: Path) -> None:
    feed = FixedFeed([Placed(episode(1, "a", 2, 30), 0, 100)])
    made = Watch(SCENARIOS["network"], feed, FixedWorker(), FixedTail([]), "al", "mo")  # type: ignore[arg-type]
    made.sample()
    report.write(tmp_path / "early.html", made)
    text = (tmp_path / "early.html").read_text(encoding="utf-8")
    assert "– (0 of 0)" in text
    assert "Some keys" not in text


def test_a_report_that_cannot_be_written_says_so(watch: Watch, tmp_path: Path) -> None:
    with pytest.raises(StreamAdError, match="--report"):
        report.write(tmp_path, watch)


def test_the_screen_and_the_line_show_what_is_known(watch: Watch) -> None:
    console = Console(width=140, height=40, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view.screen(watch, "live", 40, 140))
    shown = console.export_text()
    for text in ("v1", "240", "exfiltration", "anomalous", "6.25"):
        assert text in shown
    assert "3 incidents" in view.line(watch, "live")


def test_sparkline_spans_its_range() -> None:
    assert view.sparkline([0, 5, 10, 99], 10) == "▁▅██"
