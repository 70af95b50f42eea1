"""`stream-ad check`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from stream_ad.cli.app import DEFAULT_CONFIG, ConfigOption, JsonOption, load
from stream_ad.cli.changes import changes, sentence
from stream_ad.cli.output import answer, literal, say
from stream_ad.errors import InputError, ModelError, StreamAdError

if TYPE_CHECKING:
    from stream_ad.batch import EventBatch
    from stream_ad.config import Config
    from stream_ad.config.features import FeatureSpec
    from stream_ad.propose.infer import Sample

_SAMPLE_ROWS = 500
_LATEST = 4  # a sample has the latest records in its last quarter
_FEW = 20  # events of which it is no accident that all lack a field
_COLOURS = {"✓": "green", "!": "yellow", "✗": "red"}


def check(
    path: ConfigOption = DEFAULT_CONFIG,
    workers: Annotated[int, typer.Option(min=1, help="the number of workers that you plan")] = 1,
    json: JsonOption = False,
) -> None:
    """Validates the configuration and everything it points to, and says what a run will cost.

    It reports every problem with the key to change, and exits with the code of the first one.
    """
    from stream_ad.config.features import FeatureSpec
    from stream_ad.service.memory_limit import spare_bytes
    from stream_ad.state.size import too_much

    config = load(path)
    spec = FeatureSpec.of(config)
    facts: dict[str, Any] = {"features": [feature.name for feature in spec.features], "unused": config.unused}
    problems: list[StreamAdError] = []

    def attempt(part: Callable[[], dict[str, Any]]) -> None:
        try:
            facts.update(part())
        except StreamAdError as error:
            problems.append(error)

    attempt(lambda: _memory(config, spec))
    attempt(lambda: _kafka(config, workers))
    if "topic" in facts:
        attempt(lambda: _records(config, spec))
    if {"bytes_at_max_keys", "partitions"} <= facts.keys():
        facts["too_much_memory"] = too_much(facts["partitions"] * facts["bytes_at_max_keys"], spare_bytes())
    attempt(lambda: _registry(config, spec))
    if {"topic", "model"} <= facts.keys():
        attempt(lambda: changes(config, spec))
    facts["problems"] = [str(problem) for problem in problems]
    if json:
        answer(facts, True, "")
    else:
        _print(facts)
    if problems:
        raise typer.Exit(problems[0].exit_code)


def _memory(config: Config, spec: FeatureSpec) -> dict[str, Any]:
    from stream_ad.state import assemble
    from stream_ad.state.size import state_bytes

    fixed, per_key = state_bytes(lambda capacity: assemble.folds(config, spec, capacity))
    return {
        "bytes_per_key": per_key,
        "bytes_at_max_keys": fixed + per_key * config.window.max_keys,
        "max_keys": config.window.max_keys,
        "window_bytes": 8 * spec.rows * len(spec.numeric),
    }


def _kafka(config: Config, workers: int) -> dict[str, Any]:
    from stream_ad.io.kafka.admin import missing
    from stream_ad.io.kafka.range import range_of
    from stream_ad.io.kafka.versions import require_protocol

    start, stop = range_of(config.kafka, config.source.topic)
    require_protocol(config.kafka)
    partitions = len(stop)
    return {
        "topic": config.source.topic,
        "partitions": partitions,
        "events": sum(stop.values()) - sum(start.values()),
        "partitions_per_worker": -(-partitions // workers),
        "idle_workers": max(0, workers - partitions),
        "budget_per_partition": _share(config, partitions),
        "missing_topics": missing(config.kafka, config.outputs),
    }


def _share(config: Config, partitions: int) -> str | None:
    from stream_ad.fold.budget import share

    budget = config.incidents.budget
    return None if budget is None else share(budget, partitions)


def _records(config: Config, spec: FeatureSpec) -> dict[str, Any]:
    from stream_ad.cli.sample import decoded, of_topic

    sample = of_topic(config.kafka, config.source.topic, _SAMPLE_ROWS, "source.topic")
    events, rejects = decoded(config, sample)
    count, reasons = len(sample.value), rejects.reason
    if count and len(reasons) == count:
        raise InputError(
            f"source.topic: all {count} records sampled from {config.source.topic} would be rejected, "
            f"the first for {reasons[0]!r}; see record.*"
        )
    absent, gone = _without(spec, events, sample) if count else ([], [])
    if absent and len(absent) == len(spec.numeric) + len(spec.categorical) and not config.features.event:
        raise InputError(f"{', '.join(absent)}: in none of {len(events)} records; is any name right?")
    return {
        "looked_at": count,
        "would_be_rejected": len(reasons),
        "first_reason": reasons[0] if reasons else None,
        "would_be_late": _late(config, events, sample),
        "absent": absent + _unknown_paths(config, sample),
        "gone": gone,
    }


def _without(spec: FeatureSpec, events: EventBatch, sample: Sample) -> tuple[list[str], list[str]]:
    """The keys of fields that no event of the sample has, and of those that most have and none of the latest."""
    import numpy as np

    from stream_ad.runtime.fields import keys, present

    there = present(events, spec)
    partition = np.array(sample.partition, np.int64)[events.row]
    latest = np.zeros(len(events), np.bool_)
    for one in np.unique(partition).tolist():
        rows = np.flatnonzero(partition == one)
        latest[rows[-(len(rows) // _LATEST) :]] = len(rows) >= _LATEST
    absent = ~there.any(axis=0)
    gone = ~absent & ~there[latest].any(axis=0) & (there[~latest].mean(axis=0) > 0.5) & (latest.sum() >= _FEW)
    named = np.array(keys(spec), object)
    return named[absent].tolist(), named[gone].tolist()


def _late(config: Config, events: EventBatch, sample: Sample) -> int:
    """How many events of the sample come later than `window` allows, and are not judged for it."""
    import numpy as np

    from stream_ad.fold.keys import Keys

    folded, late = Keys(config.window, config.record.max_key_bytes), 0
    partition = np.array(sample.partition, np.int64)[events.row]
    for one in np.unique(partition).tolist():
        rows = np.flatnonzero(partition == one)
        late += len(rows) - len(folded.step(folded.init(len(rows)), events.take(rows)))
    return late


def _unknown_paths(config: Config, sample: Sample) -> list[str]:
    """The paths of `[sink]` that no record of the sample has: a misspelt one hides or shows what it should not."""
    import orjson

    asked = {"sink.payload_fields": config.sink.payload_fields, "sink.redact": config.sink.redact}
    left = {(key, path) for key, paths in asked.items() for path in paths if not path.startswith("$")}
    for value in sample.value:
        if not left:
            break
        with contextlib.suppress(ValueError):
            document = orjson.loads(value or b"")
            left = {(key, path) for key, path in left if not _has(document, path.split("."))}
    return [f"{key}: {path}" for key, path in sorted(left)] if sample.value else []


def _has(node: Any, path: list[str]) -> bool:
    for at in range(1, len(path) + 1):  # names may hold dots
        name, rest = ".".join(path[:at]), path[at:]
        if isinstance(node, dict) and name in node:
            return not rest or _has(node[name], rest)
    return isinstance(node, list) and any(_has(item, path) for item in node)


def _registry(config: Config, spec: FeatureSpec) -> dict[str, Any]:
    from stream_ad.io.redis.stores import RedisModelStore, reach
    from stream_ad.protocols import BUILT_IN
    from stream_ad.score.bundle import Bundle
    from stream_ad.score.signature import Trust

    trust = Trust(config.models.verify_keys)
    reach(config.redis)
    store = RedisModelStore(config.redis)
    wanted = store.wish().wanted
    unfit = None
    if wanted not in (None, BUILT_IN):
        try:
            Bundle.from_bytes(store.get(wanted), spec, trust)
        except ModelError as error:
            unfit = str(error)
    return {"model": wanted or f"{BUILT_IN} (built in)", "models": len(store.list()), "unfit": unfit}


def _print(facts: dict[str, Any]) -> None:
    def line(mark: str, text: str) -> None:
        say(Text.assemble((mark, _COLOURS[mark]), " ", literal(text)))

    line("✓", f"{len(facts['features'])} features: {', '.join(facts['features'])}")
    for unused in facts["unused"]:
        line("!", unused)
    if "bytes_per_key" in facts:
        mib = facts["bytes_at_max_keys"] / 2**20
        line(
            "✓",
            f"{facts['bytes_per_key']:,.0f} bytes per key ({facts['window_bytes']} of them the raw window); "
            f"at window.max_keys = {facts['max_keys']:,} a partition holds {mib:,.0f} MiB",
        )
    if "topic" in facts:
        line(
            "✓",
            f"topic {facts['topic']}: {facts['partitions']} partitions, {facts['events']:,} events, "
            f"at most {facts['partitions_per_worker']} partitions per worker",
        )
        if facts["idle_workers"]:
            line("!", f"{facts['idle_workers']} workers would have no partition: add partitions")
        if facts["budget_per_partition"]:
            line("✓", f"incidents.budget: {facts['budget_per_partition']}")
        for topic in facts["missing_topics"]:
            line("!", f"topic {topic} does not exist yet; `run` creates it")
    if facts.get("too_much_memory"):
        line("!", facts["too_much_memory"])
    if facts.get("would_be_rejected"):
        rejected, reason = facts["would_be_rejected"], repr(facts["first_reason"])
        line(
            "!",
            f"{rejected} of {facts['looked_at']} sampled records would be rejected, the first for {reason}",
        )
    elif facts.get("looked_at"):
        line("✓", f"{facts['looked_at']} records sampled: all can be read")
    for absent in facts.get("absent", []):
        line("!", f"{absent}: in none of {facts['looked_at']} records; is the name right?")
    for gone in facts.get("gone", []):
        line("!", f"{gone}: in none of the latest records, though most before have it; has it been renamed?")
    if facts.get("would_be_late"):
        line(
            "!",
            f"{facts['would_be_late']} of {facts['looked_at']} sampled records come later than "
            "window.allowed_lateness allows, and would not be judged; see window.late",
        )
    if facts.get("changed"):
        line("!", sentence(facts))
    if facts.get("unfit"):
        line("!", f"until another is promoted the built-in scorer judges: {facts['unfit']}")
    elif "model" in facts:
        line("✓", f"model: {facts['model']} ({facts['models']} in the registry)")
    for problem in facts["problems"]:
        for text in problem.splitlines():
            line("✗", text)
