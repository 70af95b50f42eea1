"""Card payments as JSON lines on standard output, for docker-compose.yml: `simulate.py EVENTS`.

The first half is quiet; then anomalies are injected, as in `make demo`.
"""

from __future__ import annotations

import itertools
import sys

from stream_ad.demo.scenarios import SCENARIOS
from stream_ad.demo.simulate import simulate

events = int(sys.argv[1])
for record in itertools.islice(simulate(SCENARIOS["transactions"], seed=1, history=events // 2), events):
    sys.stdout.buffer.write(record.value + b"\n")
