"""The screen and the lines."""

from __future__ import annotations

from rich.console import Console

from stream_ad.demo import view
from stream_ad.demo.watch import Watch


def test_the_screen_and_the_line_show_what_is_known(watch: Watch) -> None:
    console = Console(width=140, height=40, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view.screen(watch, "live", 40, 140))
    shown = console.export_text()
    for text in ("v1", "240", "exfiltration", "anomalous", "6.25"):
        assert text in shown
    assert "3 incidents" in view.line(watch, "live")


def test_sparkline_spans_its_range() -> None:
    assert view.sparkline([0, 5, 10, 99], 10) == "▁▅██"
