"""Every command of `stream-ad`, in the order of its manual."""

from __future__ import annotations

from stream_ad.cli.alerts import alerts
from stream_ad.cli.app import app
from stream_ad.cli.demo import demo
from stream_ad.cli.init import init
from stream_ad.cli.produce import produce

app.command()(demo)
app.command()(init)
app.command()(produce)
app.command()(alerts)

__all__ = ["app"]
