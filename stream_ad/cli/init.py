"""`stream-ad init`."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.cli.app import DEFAULT_CONFIG, JsonOption, load
from stream_ad.cli.output import answer
from stream_ad.cli.sample import SAMPLE_ROWS, of_file, of_topic, reject_reasons
from stream_ad.errors import ConfigError, InputError
from stream_ad.io.atomic_file import replaced

if TYPE_CHECKING:
    from stream_ad.propose.infer import Proposal


def init(
    topic: Annotated[str | None, typer.Option("--topic", "-t", help="the topic to watch")] = None,
    input: Annotated[
        Path | None, typer.Option("--input", "-i", help="look at a CSV, JSONL or Parquet file instead of a topic")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", "--config", "-c", help="the configuration file to write")
    ] = DEFAULT_CONFIG,
    brokers: Annotated[
        str | None, typer.Option(help="bootstrap servers; default $STREAM_AD__KAFKA__BROKERS, else 127.0.0.1:9092")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="what the topic holds: transactions, network, sensors or servers")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite the output")] = False,
    json: JsonOption = False,
) -> None:
    """Looks at a sample of a topic or a file and writes a commented configuration that works as it is.

    It says what it decided and why, and what it could not decide.
    """
    from stream_ad.config import parse
    from stream_ad.propose.infer import infer
    from stream_ad.propose.presets import PRESETS
    from stream_ad.propose.toml import toml_of

    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"--preset: no preset is called {preset!r}; there are: {', '.join(PRESETS)}")
    if topic is None and input is None:
        raise ConfigError("--topic or --input: name a topic or a file to look at")
    if os.path.exists(output) and not force:
        raise ConfigError(f"--output: {output} exists already; --force overwrites it")
    kafka = load(None).kafka
    if brokers is not None:
        kafka = kafka.model_copy(update={"brokers": brokers})
    if input is not None:
        sample, origin = of_file(input), str(input)
        topic = topic or _plain(
            re.sub(r"(\.csv|\.tsv|\.jsonl|\.ndjson|\.json|\.parquet)?(\.gz)?$", "", input.name, flags=re.I)
        )
    else:
        assert topic is not None
        sample, origin = of_topic(kafka, topic, SAMPLE_ROWS, "--topic"), f"topic {topic}"
        if not sample.value:
            raise InputError(
                f"--topic: topic {topic!r} at {kafka.brokers} has no records to look at; "
                "wait until it has some, or look at a file with --input"
            )
    proposal = infer(sample, PRESETS[preset] if preset else None)
    if not proposal.records:
        first = next((value for value in sample.value if value), b"")
        raise InputError(
            f"{origin}: none of {len(sample.value)} records is a JSON object; the first begins with {first[:60]!r}"
        )
    text = toml_of(proposal, _plain(topic), topic, kafka.brokers, origin)
    reasons = reject_reasons(parse(tomllib.loads(text)), sample)
    rejects = dict(Counter(reason.partition(":")[0] for reason in reasons))
    try:
        with replaced(output) as file:
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--output: {output} cannot be written: {error}") from None
    answer(
        {"output": str(output), "topic": topic, **asdict(proposal), "rejects": rejects},
        json,
        _words(proposal, output, origin, rejects, len(sample.course or sample.value), input),
    )
    _check_rejects(reasons, len(sample.course or sample.value), output, origin)


def _check_rejects(reasons: Sequence[str], read: int, output: Path, origin: str) -> None:
    """Raises `InputError` where the configuration, which is there to be corrected, rejects everything."""
    if len(reasons) == read:
        raise InputError(
            f"{origin}: {output} rejects all of {read} records, the first for {reasons[0]!r}; "
            "see what is not decided, and set record.*"
        )


def _plain(name: str) -> str:
    """Any text as a valid name of a topic or a pipeline."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:200] or "events"


def _words(
    proposal: Proposal, output: Path, origin: str, rejects: dict[str, int], read: int, input: Path | None
) -> str:
    from stream_ad.propose.toml import about

    def listed(names: Sequence[str]) -> str:
        return ", ".join(names) if names else "none"

    lines: list[tuple[str, Any]] = [
        ("key", f"{proposal.key} ({proposal.key_why})"),
        ("event time", f"{proposal.timestamp} ({proposal.timestamp_why})"),
        ("numeric", listed([f"{name} ({' '.join(choice.features)})" for name, choice in proposal.numeric.items()])),
        ("categorical", listed([f"{name} ({' '.join(c.features)})" for name, c in proposal.categorical.items()])),
        ("of the event", listed(proposal.event)),
    ]
    if proposal.rhythm.lasting and proposal.real_time:
        gap = about(proposal.rhythm.gap_ms)
        lines.append(("silence", f"a key that has no event, where one comes about every {gap}"))
    lines += [("the file", text) for text in proposal.remarks]
    lines += [("left out", f"{name}: {why}") for name, why in proposal.left_out.items()]
    lines += [("not decided", text) for text in proposal.undecided]
    lines += [("rejected", f"{count} of {read} records: {code}") for code, count in rejects.items()]
    if input is not None and proposal.timestamp == "$timestamp":
        lines.append(("rejected", "every record of the file where it is replayed, since none has an event time"))
    produce = "" if input is None else f"stream-ad produce --config {output} --input {input}; "
    lines.append(("next", f"{produce}stream-ad check --config {output}; stream-ad run --config {output}"))
    text = "\n".join(f"  {label:<13}{words}" for label, words in lines)
    return f"wrote {output} from {proposal.records:,} records of {origin}\n{text}"
