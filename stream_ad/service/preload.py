"""Everything a worker imports: loaded once, by the process that workers are forked from.

A worker that is started again is there at once, and workers share the memory of the libraries.
Nothing here may start a thread or open a connection: neither survives a fork.
"""

import gc
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches the whole group; the supervisor passes it on
gc.disable()  # modules are no garbage: looking for some takes a tenth of the time

from stream_ad import build  # noqa: E402, F401
from stream_ad.codec import guard  # noqa: E402
from stream_ad.io.kafka import models as kafka_models  # noqa: E402, F401
from stream_ad.io.kafka import sink as kafka_sink  # noqa: E402, F401
from stream_ad.io.kafka import source as kafka_source  # noqa: E402, F401
from stream_ad.io.kafka import until as kafka_until  # noqa: E402, F401
from stream_ad.io.redis import stores as redis  # noqa: E402, F401
from stream_ad.jobs import train as training  # noqa: E402, F401
from stream_ad.score import engine  # noqa: E402, F401
from stream_ad.service import http as server  # noqa: E402, F401
from stream_ad.service import worker  # noqa: E402, F401

guard.safe(b"{}")  # the first compiled loop to be loaded brings half a second of the compiler with it
gc.enable()
gc.freeze()
