"""Every command of `stream-ad`, in the order of its manual."""

from __future__ import annotations

from stream_ad.cli.alerts import alerts
from stream_ad.cli.app import app
from stream_ad.cli.check import check
from stream_ad.cli.demo import demo
from stream_ad.cli.init import init
from stream_ad.cli.models import models
from stream_ad.cli.produce import produce
from stream_ad.cli.replay import replay
from stream_ad.cli.run import run
from stream_ad.cli.train import train

for command in (demo, init, check, train, run, alerts, replay, produce):
    app.command()(command)
app.add_typer(models, name="models")

__all__ = ["app"]
