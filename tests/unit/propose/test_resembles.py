"""What looks like a time or a number is said, and what only looks a little like one is left alone."""

from __future__ import annotations

import pytest

from stream_ad.propose.resembles import likeness_of


@pytest.mark.parametrize(
    "text",
    ["03/02/2026 08:00:00", "3/2/2026 8:00 AM", "02.03.2026", "02.03.26 08:00", "2026/03/02 08:00:00",
     "20260302T080000Z", "20260302", "20260302080000", "02/Mar/2026:08:00:00 +0000", "Mon, 02 Mar 2026 08:00:00 GMT",
     "Mar  2 08:00:00", "Mar 2, 2026", "2026-03-02 08:00:00 UTC", "2026-W10-1", "2-Mar-26", "Mon Mar  2 08:00:00 2026"],
)  # fmt: skip
def test_times_of_other_forms(text):
    found = likeness_of([text, None, text])
    assert found is not None
    assert (found.of_time, found.of_day) == (True, False)
    assert text in found.why


def test_a_number_that_is_a_date_is_a_time():
    assert likeness_of([20260302, 20260303, 20260401]) is not None
    assert likeness_of([20260302080000] * 3) is not None
    assert likeness_of([20269902, 20260399, 20261301]) is None


@pytest.mark.parametrize("text", ["08:00:00", "8:00 PM", "23:59", "08:00:00.250Z"])
def test_a_clock_without_a_date(text):
    found = likeness_of([text])
    assert found is not None
    assert found.of_day


@pytest.mark.parametrize(
    "text", ["21,3", "1,234.50", "1.234,50", "1 234,5", "1'234", "$12.50", "45 %", "21.3 °C", "-3,5 kW", "20.5ms"]
)
def test_numbers_of_other_forms(text):
    found = likeness_of([text] * 9 + ["ERR"])
    assert found is not None
    assert not found.of_time
    assert text in found.why


@pytest.mark.parametrize(
    "text",
    ["2026-03-02T08:00:00Z", "2026-03-02", "10.0.0.1", "192.168.100.200", "1.2.3", "v1.2.3", "ok", "pump-3", "3rd",
     "7b", "Mar", "may", "00:1b:44:11:3a:b7", "420-123-456", "A1, B2", "5", "x=1,5"],
)  # fmt: skip
def test_what_is_neither(text):
    assert likeness_of([text] * 5) is None


def test_times_that_too_few_records_have():
    found = likeness_of(["2026-03-02T08:00:00Z"] * 5 + [None] * 5)
    assert found is not None
    assert found.why == "holds times, but only 5 of 10 records do"
