"""The command line: one module per command, wired here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stream_ad.config import Config

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config", "-c", help="the pipeline's configuration file", envvar="STREAM_AD_CONFIG", show_default=True
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print the answer as JSON on standard output")]
DEFAULT_CONFIG = Path("stream_ad.toml")
EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "configuration or option",
    3: "Kafka or Redis unreachable",
    4: "unreadable input",
    5: "model",
    6: "state",
    7: "transaction",
    8: "stopped before all was committed",
    9: "memory short",
    130: "interrupted",
}


def _version(asked: bool) -> None:
    if asked:
        import stream_ad

        typer.echo(f"stream-ad {stream_ad.__version__}")
        raise typer.Exit


def exits(*codes: int) -> str:
    """The last line of a command's manual."""
    return f"Exit codes: {' · '.join(f'{code} {EXIT_CODES[code]}' for code in codes)}."


app = typer.Typer(
    name="stream-ad",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Real-time anomaly detection for Kafka topics: explained alerts, each exactly once.",
    epilog=exits(*EXIT_CODES),
)


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None: ...


def load(path: Path | None) -> Config:
    """The configuration of the file and the environment; None = no file. Raises `ConfigError`."""
    from stream_ad import config  # imported late, in every command, so that --help answers fast

    return config.load(path) if path is not None else config.parse({}, os.environ, "environment")
