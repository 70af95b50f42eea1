"""The commands of `stream-ad` in the order of its manual, with their exit codes. `cli/NAME.py` has `NAME`."""

from __future__ import annotations

import importlib

from stream_ad.cli.alerts import alerts
from stream_ad.cli.app import app, exits
from stream_ad.cli.models import models

COMMANDS: dict[str, tuple[int, ...]] = {
    "demo": (0, 1, 2, 130),
    "init": (0, 2, 3, 4, 130),
    "check": (0, 2, 3, 4, 5, 130),
    "train": (0, 2, 3, 4, 5, 130),
    "evaluate": (0, 2, 3, 4, 5, 130),
    "run": (0, 2, 3, 4, 5, 6, 8, 9, 130),
    "replay": (0, 2, 3, 4, 5, 130),
    "produce": (0, 2, 3, 4, 130),
}
for command, codes in COMMANDS.items():
    app.command(epilog=exits(*codes))(getattr(importlib.import_module(f"stream_ad.cli.{command}"), command))
app.add_typer(alerts, name="alerts")
app.add_typer(models, name="models")

__all__ = ["app"]
