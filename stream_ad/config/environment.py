"""Overrides from the environment, and the secrets that may stand only there.

`STREAM_AD__REDIS__URL` sets `redis.url`. Under `kafka.options` underscores stand for dots, which a
variable's name cannot hold: `STREAM_AD__KAFKA__OPTIONS__SASL_PASSWORD` sets `sasl.password`. Lists
and tables are written as in TOML. What a variable holds is never quoted in an error.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stream_ad.errors import ConfigError

ENV_PREFIX = "STREAM_AD__"
_SECRET = re.compile(r"passw|passphrase|secret|jaas|sasl\.oauthbearer\.config|\.pem$", re.I)
_URL_SECRET = re.compile(r"://.*:.+@|[?&][^=&]*(passw|passphrase|secret)[^=&]*=", re.I)


def overridden(
    data: dict[str, Any],
    environ: Mapping[str, str],
    is_table: Callable[[Sequence[str], Mapping[str, Any]], bool],
) -> dict[str, Any]:
    """The data with every variable of ours written over it; neither is changed. Raises `ConfigError`.

    `is_table(path, merged)` says whether a list or a table belongs at `path`. `merged` holds all variables as text,
    since one of them may name the part that has the key.
    """
    texts = _written(data, environ, lambda _: False)
    return _written(data, environ, lambda path: is_table(path, texts))


def _written(
    data: dict[str, Any], environ: Mapping[str, str], is_table: Callable[[Sequence[str]], bool]
) -> dict[str, Any]:
    merged = dict(data)
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX):
            if not _is_text(name + text):
                raise ConfigError(f"{name.encode(errors='replace').decode()}: this variable is not UTF-8")
            path = _path(name)
            node = merged
            for part in path[:-1]:
                child = node.get(part)
                node[part] = dict(child) if isinstance(child, dict) else {}
                node = node[part]
            node[path[-1]] = _from_toml(text) if is_table(path) else text
    return merged


def variable_for(key: Sequence[int | str], environ: Mapping[str, str]) -> str | None:
    """The variable that set this key, a part of it, or a table around it."""
    for name in environ:
        if name.startswith(ENV_PREFIX):
            path = _path(name)
            if path[: len(key)] == list(key)[: len(path)]:
                return name
    return None


def refuse_secrets(path: Path, data: dict[str, Any]) -> None:
    """Raises `ConfigError` for a secret in the file."""
    kafka = data.get("kafka")
    options = kafka.get("options", {}) if isinstance(kafka, dict) else {}
    for name in _flat(options):
        if is_secret(name):
            variable = f"{ENV_PREFIX}KAFKA__OPTIONS__{name.upper().replace('.', '_')}"
            raise ConfigError(
                f"{path}: kafka.options.{name}: secrets do not belong in this file; set {variable}, "
                f'or "{name}.file" to the path of a file that holds it'
            )
    redis = data.get("redis")
    if isinstance(redis, dict) and _URL_SECRET.search(str(redis.get("url", ""))):
        raise ConfigError(
            f"{path}: redis.url: a password does not belong in this file; set {ENV_PREFIX}REDIS__URL instead"
        )


def is_secret(option: str) -> bool:
    """Whether a librdkafka setting holds one."""
    return _SECRET.search(option) is not None and not option.endswith((".file", ".location"))


def plaintext_host(url: str) -> str | None:
    """The host that a redis:// URL sends passwords and data to in the clear; None = encrypted, or this machine."""
    try:
        parts = urlsplit(url)
        host = unquote(parts.hostname or "") or parse_qs(parts.query).get("host", ["localhost"])[0]
    except ValueError:
        return None  # no URL at all: who connects says so
    if parts.scheme != "redis" or host == "localhost":
        return None
    try:
        return None if ipaddress.ip_address(host).is_loopback else host
    except ValueError:
        return host


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that are no text come as lone surrogates
        return False
    return True


def _path(name: str) -> list[str]:
    path = name.removeprefix(ENV_PREFIX).lower().split("__")
    if path[:2] == ["kafka", "options"] and len(path) > 2:
        return ["kafka", "options", ".".join(path[2:]).replace("_", ".")]
    return path


def _from_toml(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _flat(options: object, prefix: str = "") -> list[str]:
    if not isinstance(options, dict):
        return [prefix]
    return [name for key, value in options.items() for name in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
