"""Imports all that a worker needs, once, in the process that workers are forked from.

So a restarted worker is ready at once, and workers share the memory of the libraries.
Nothing here may start a thread or open a connection: neither survives a fork.
"""

import gc
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor passes it on
gc.disable()  # modules are no garbage; the collector would take a tenth of the time

from stream_ad import build  # noqa: E402, F401
from stream_ad.codec import guard  # noqa: E402
from stream_ad.io.kafka import models, sink, source, until  # noqa: E402, F401
from stream_ad.io.redis import stores  # noqa: E402, F401
from stream_ad.jobs import train  # noqa: E402, F401
from stream_ad.score import engine  # noqa: E402, F401
from stream_ad.service import http, worker  # noqa: E402, F401

guard.safe(b"{}")  # loading the first compiled loop also loads the compiler, for half a second
gc.enable()
gc.freeze()
