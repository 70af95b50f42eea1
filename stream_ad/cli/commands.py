"""Every command of `stream-ad`, in the order of its manual."""

from __future__ import annotations

from stream_ad.cli.app import app
from stream_ad.cli.demo import demo

app.command()(demo)

__all__ = ["app"]
