"""The three streams of the demo."""

from __future__ import annotations

from stream_ad.demo.scenarios.network import NETWORK
from stream_ad.demo.scenarios.sensors import SENSORS
from stream_ad.demo.scenarios.transactions import TRANSACTIONS
from stream_ad.demo.simulate import Scenario

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (TRANSACTIONS, NETWORK, SENSORS)}
