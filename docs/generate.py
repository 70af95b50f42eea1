"""Writes the generated parts of the documentation: `make docs`.

configuration.md is made from the schema; in other pages, what stands between
`<!-- generated: NAME -->` and `<!-- end -->` is made by the function called NAME.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stream_ad import metrics
from stream_ad.config import Config, feature_kinds
from stream_ad.config.feature_kinds.row import Role
from stream_ad.config.parts import KINDS, Kind
from stream_ad.config.sections import duration_ms, moment_ms, most_per_period
from stream_ad.registry import BUILT_IN, KEYS

FOLDER = Path(__file__).resolve().parent

HEAD = """# Configuration reference

<!-- Generated from the schema (stream_ad/config/) by `make docs`; do not edit. -->

One TOML file is one pipeline: `stream-ad init` writes it, `stream-ad check` checks it, and every command
reads it (`--config`, `STREAM_AD_CONFIG`; default `./stream_ad.toml`). Every key has a default. An unknown
key is an error that names it and lists its neighbours.

- **Durations** are text with a unit: `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"7d"`. A bare number has no unit
  and is refused.
- **Dates** are text such as `"2000-01-01"` or `"2026-01-31T12:00:00Z"`, in UTC unless they say otherwise.
- **Budgets** are text such as `"20/day"` (or `/minute`, `/hour`, `/week`); `""` is none.
- **Environment**: `STREAM_AD__SECTION__KEY` overrides a key, as in `STREAM_AD__REDIS__URL`. Lists and tables
  are written as in TOML. Under `kafka.options`, underscores stand for dots:
  `STREAM_AD__KAFKA__OPTIONS__SASL_PASSWORD` sets `sasl.password`.
- **Options of parts**: a registered part (the last table) brings keys of its own to its section; those of the
  built-in ones follow each section's table. A key that another part has is an error, with one exception: keys that
  every part of the kind once had (`epochs`, `hidden`, `samples`, `half_life_rows`, `prior_rows`, `escape_after`,
  `escape_rows`) may stand where the part does not use them; `check` and `run` say so.
- **Secrets** are refused in the file. Put them into the environment, or name a file that holds one:
  `"sasl.password.file" = "/run/secrets/kafka"`. No error and no log repeats them.
"""

FEATURES = """
`SPAN` is a duration of event time, `ROWS` a half-life in events of the key. A feature of a missing value or of
a missing category is NaN, unless the table says otherwise. Values are cut at ±1e100, features at ±1e30.
[Writing a feature](writing-a-feature.md) shows how to add one.

The role is how the statistical scorer judges a feature:
"""

UNITS = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]


def configuration() -> str:
    """The whole of configuration.md."""
    top = {name: field for name, field in Config.model_fields.items() if not _is_section(field)}
    parts = [HEAD, "\n## The pipeline\n\n", _table(top)]
    for name, field in Config.model_fields.items():
        if _is_section(field):
            section: type[BaseModel] = typing.cast(Any, field.annotation)
            parts += [f"\n## [{name}]\n\n{(section.__doc__ or '').strip()}\n\n", _table(section.model_fields)]
            parts += options(KINDS[name]) if name in KINDS else []
            parts += entries(name, section)
    return "".join([*parts, "\n## Features\n\n", features(), "\n## Registered parts\n\n", registered()])


def options(kind: Kind[Any]) -> list[str]:
    """A table for each built-in part that brings options to the section."""
    tables = []
    for name in BUILT_IN[kind.name]:
        fields = kind.model(name).model_fields
        own = {key: field for key, field in fields.items() if key not in kind.common.model_fields}
        if own:
            tables.append(f"\nOptions of `{name}`:\n\n{_table(own)}")
    return tables


def entries(name: str, section: type[BaseModel]) -> list[str]:
    """A table for each key of the section that is a list of tables."""
    tables = []
    for key, field in section.model_fields.items():
        of = next((one for one in typing.get_args(field.annotation) if isinstance(one, type)), None)
        if of is not None and issubclass(of, BaseModel) and typing.get_origin(field.annotation) is list:
            tables.append(f"\nA table `[[{name}.{key}]]`. {(of.__doc__ or '').strip()}\n\n{_table(of.model_fields)}")
    return tables


def features() -> str:
    """What `features.event`, `features.numeric.*` and `features.categorical.*` may list."""
    lines = ["| of | feature | what it is | role |", "| --- | --- | --- | --- |"]
    for kind in feature_kinds.KINDS:
        about = kind.about.replace("|", "\\|")
        lines.append(f"| `{kind.of.value}` | `{kind.written}` | {about} | {kind.role.name.lower()} |")
    roles = [f"- {role.name.lower()}: {role.value}" for role in Role]
    return "\n".join([*lines, FEATURES, *roles, ""])


def registered() -> str:
    """What the registry knows without plug-ins."""
    lines = ["| kind | key | built in | entry point group of plug-ins |", "| --- | --- | --- | --- |"]
    for kind, names in BUILT_IN.items():
        lines.append(f"| {kind} | `{KEYS[kind]}` | {', '.join(f'`{name}`' for name in names)} | `stream_ad.{kind}` |")
    return "\n".join(lines) + "\n"


def metrics_table() -> str:
    """Every metric of stream_ad/metrics.py, as Prometheus sees it."""
    lines = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            family = next(iter(metric.describe()))
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines) + "\n"


GENERATED: dict[str, Callable[[], str]] = {"metrics": metrics_table}


def pages() -> dict[Path, str]:
    """Each page with generated parts, as it should be."""

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}\n{GENERATED[match[2]]()}{match[3]}"

    wanted = {FOLDER / "configuration.md": configuration()}
    for page in sorted(FOLDER.glob("*.md")):
        if page.name != "configuration.md":
            text = page.read_text(encoding="utf-8")
            wanted[page] = re.sub(r"(<!-- generated: (\w+) -->)\n.*?(<!-- end -->)", part, text, flags=re.S)
    return wanted


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _table(fields: dict[str, FieldInfo]) -> str:
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_type(field)} | {_default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _is_duration(field: FieldInfo) -> bool:
    return any(getattr(part, "func", None) is duration_ms for part in field.metadata)


def _is_moment(field: FieldInfo) -> bool:
    return any(getattr(part, "func", None) is moment_ms for part in field.metadata)


def _is_budget(field: FieldInfo) -> bool:
    return any(getattr(part, "func", None) is most_per_period for part in field.metadata)


def _type(field: FieldInfo) -> str:
    if _is_duration(field):
        return "duration"
    if _is_moment(field):
        return "date"
    if _is_budget(field):
        return "budget"
    if typing.get_origin(field.annotation) is typing.Literal:
        return " · ".join(f"`{choice}`" for choice in typing.get_args(field.annotation))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(part, name):g}"
        for part in field.metadata
        for name, sign in signs.items()
        if getattr(part, name, None) is not None
    ]
    return ", ".join([_name(field.annotation), *bounds])


def _name(annotation: Any) -> str:
    plain = {str: "text", int: "integer", float: "number", bool: "true/false"}
    if annotation in plain:
        return plain[annotation]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is list:
        return f"list of {_name(arguments[0])}"
    if typing.get_origin(annotation) is dict:
        return f"table of {_name(arguments[1])}"
    if typing.get_origin(annotation) is typing.Annotated:
        is_moment = any(getattr(part, "func", None) is moment_ms for part in annotation.__metadata__)
        return "date" if is_moment else _name(arguments[0])
    if type(None) in arguments:
        return _name(arguments[0])
    if typing.get_origin(annotation) is typing.Literal:
        return " · ".join(f"`{choice}`" for choice in arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "tables"
    if isinstance(annotation, types.UnionType):
        return "text, number or true/false"
    raise TypeError(f"no words for {annotation}")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if _is_duration(field):
        unit, factor = next((unit, factor) for unit, factor in UNITS if value % factor == 0 and (value or unit == "s"))
        return f'`"{value // factor}{unit}"`'
    if _is_moment(field):
        return f'`"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value in ("", {}, [], None) or value is PydanticUndefined:
        return "none"
    return f'`"{value}"`' if isinstance(value, str) else f"`{str(value).replace(chr(39), chr(34))}`"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
