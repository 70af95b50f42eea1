"""`stream-ad models`: the registry that running workers obey within a second."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, exits, load
from stream_ad.cli.output import answer, say
from stream_ad.protocols import BUILT_IN

if TYPE_CHECKING:
    from stream_ad.protocols import ModelInfo, ModelStore

models = typer.Typer(no_args_is_help=True, help="The registry of models; running workers obey within a second.")

EXITS = exits(0, 2, 3, 5, 130)
Version = Annotated[str, typer.Argument(help="as `models list` shows it")]


def _store(path: Path) -> ModelStore:
    from stream_ad.io.redis.stores import RedisModelStore

    return RedisModelStore(load(path).redis)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _row(info: ModelInfo) -> dict[str, Any]:
    return {
        "version": info.version,
        "kind": info.kind,
        "created_ms": info.created_ms,
        "size_bytes": info.size_bytes,
        "sha256": info.sha256,
        "metrics": dict(info.metrics),
    }


@models.command("list", epilog=EXITS)
def list_models(path: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Lists all versions, with the wanted one and the shadow."""
    store = _store(path)
    infos, wish = store.list(), store.wish()
    if json:
        answer({"models": [_row(info) for info in infos], "wanted": wish.wanted, "shadow": wish.shadow}, True, "")
        return
    if not infos:
        say("no model yet: the built-in statistical scorer judges; `stream-ad train --promote` makes one")
        return
    table = Table(Column("version", no_wrap=True), "scorer", "created (UTC)", "size", "", box=SIMPLE_HEAD)
    for info in infos:
        state = "wanted" if info.version == wish.wanted else "shadow" if info.version == wish.shadow else ""
        table.add_row(info.version, info.kind, _time(info.created_ms), f"{info.size_bytes / 1024:.0f} KiB", state)
    say(table)
    if wish.wanted in (None, BUILT_IN):
        say("wanted: the built-in statistical scorer")


@models.command(epilog=EXITS)
def show(version: Version, path: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Shows one version: where it comes from, how good it is, which features it expects."""
    import orjson

    from stream_ad.score.bundle import Bundle

    store = _store(path)
    bundle = Bundle.from_bytes(store.get(version), None)
    manifest = orjson.loads(bundle.manifest.to_json())
    lines = [f"{name}: {value}" for name, value in manifest.items() if name not in ("spec", "quality")]
    answer(manifest, json, "\n".join(lines))


@models.command(epilog=exits(0, 2, 3, 4, 5, 130))
def add(
    file: Annotated[Path, typer.Argument(help="a bundle, as `train --output` writes it")],
    path: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Registers a bundle from a file if it fits the pipeline, and signs it if `models.signing_key` is set."""
    from stream_ad.config.features import FeatureSpec
    from stream_ad.errors import InputError
    from stream_ad.jobs.train import approved, next_step, register
    from stream_ad.score.bundle import Bundle

    config = load(path)
    try:
        blob = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    bundle = approved(config, Bundle.from_bytes(blob, FeatureSpec.of(config)))
    info = register(_store(path), bundle)
    answer(_row(info), json, f"{info.version} is registered; {next_step(info, config)}")


@models.command(epilog=EXITS)
def shadow(
    version: Annotated[str | None, typer.Argument(help="a version; without one, the shadow ends")] = None,
    path: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Lets a version score the same events as the wanted one, without any effect on alerts."""
    _store(path).shadow(version)
    answer({"shadow": version}, json, f"{version} is the shadow" if version else "no shadow")


@models.command(epilog=EXITS)
def promote(
    version: Version,
    path: ConfigOption = DEFAULT_CONFIG,
    force: Annotated[bool, typer.Option("--force", help="whatever the trial of its training says")] = False,
    json: JsonOption = False,
) -> None:
    """Lets `version` judge: running workers swap between two commits."""
    from stream_ad.jobs.train import promote as let_judge

    store = _store(path)
    info = next((info for info in store.list() if info.version == version), None)
    if info is None:
        store.promote(version)  # says what is wrong with it
    else:
        let_judge(store, info, load(path), force)
    answer({"wanted": version}, json, f"{version} is wanted now")


@models.command(epilog=EXITS)
def rollback(path: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Promotes the version that was wanted before."""
    version = _store(path).rollback()
    words = "the built-in statistical scorer" if version == BUILT_IN else version
    answer({"wanted": version}, json, f"{words} is wanted again")


@models.command(epilog=EXITS)
def history(path: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Lists all promotions, rollbacks and shadows with their times."""
    notes = _store(path).history()
    words = "\n".join(f"{_time(ms)}  {action:9} {version}" for ms, action, version in notes) or "nothing yet"
    answer([{"time_ms": ms, "action": action, "version": version} for ms, action, version in notes], json, words)
