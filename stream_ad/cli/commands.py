"""Every command of `stream-ad`, in the order of its manual."""

from __future__ import annotations

from collections.abc import Callable

from stream_ad.cli.alerts import alerts
from stream_ad.cli.app import app, exits
from stream_ad.cli.check import check
from stream_ad.cli.demo import demo
from stream_ad.cli.init import init
from stream_ad.cli.models import models
from stream_ad.cli.produce import produce
from stream_ad.cli.replay import replay
from stream_ad.cli.run import run
from stream_ad.cli.train import train

COMMANDS: dict[Callable[..., None], tuple[int, ...]] = {
    demo: (0, 1, 2, 130),
    init: (0, 2, 3, 4, 130),
    check: (0, 2, 3, 4, 5, 130),
    train: (0, 2, 3, 4, 5, 130),
    run: (0, 2, 3, 4, 5, 6, 8, 9, 130),
    alerts: (0, 2, 3, 4, 130),
    replay: (0, 2, 3, 4, 5, 130),
    produce: (0, 2, 3, 4, 130),
}
for command, codes in COMMANDS.items():
    app.command(epilog=exits(*codes))(command)
app.add_typer(models, name="models")

__all__ = ["app"]
