"""Masks in alerts the fields that `sink.redact` names.

Alerts show the name of a redacted field, its share, and its distance from the expected value. They never show its
value, the expected value or the text of a category. They show a redacted key as the beginning of its sha256, so that
alerts of one key still belong together. That is a pseudonym: anybody who can guess a key can check the guess.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stream_ad.config.features import BETWEEN
from stream_ad.messages.explain import Contributor, when
from stream_ad.messages.phrases import number

MASK = "***"
KEY = "$key"
_KEY_DIGITS = 16
_DEEPEST = 200  # orjson could not write what is nested more deeply


class Redaction:
    """Masks the fields `paths` (dotted), with all that lies within them."""

    def __init__(self, paths: Sequence[str] = (), key_field: str = KEY) -> None:
        """`key_field` is `record.key`: where it names a field, that field and `$key` are redacted together."""
        self._paths = frozenset(paths)
        self._hides_key = KEY in self._paths or self._covers(key_field)
        if self._hides_key:
            self._paths |= {key_field}

    def key(self, key: bytes) -> bytes:
        """The key as alerts show it."""
        if not self._hides_key:
            return key
        return b"sha256:" + hashlib.sha256(key).hexdigest()[:_KEY_DIGITS].encode()

    def contributor(self, share: Contributor) -> Contributor:
        if share.direction in ("missing", "present") or not self._covers(share.field):
            return share
        far = share.direction in ("above", "below") and share.deviations is not None
        distance = f"{number(share.deviations or 0.0, 1)} σ " if far else ""
        return replace(
            share,
            observed=MASK if isinstance(share.observed, str) else None,
            expected=None,
            low=None,
            high=None,
            text=f"{share.feature} {MASK}, {distance}{share.direction}{when(share.lag_rows)}",
        )

    def record(self, node: Any, path: str = "", depth: int = 0) -> Any:
        """Decoded JSON, with every redacted value masked, also where a name holds dots or lies in an array."""
        if not self._paths or not isinstance(node, list | dict):
            return node
        if depth > _DEEPEST:
            return MASK
        if isinstance(node, list):
            return [self.record(item, path, depth + 1) for item in node]
        masked = {}
        for name, value in node.items():
            inner = f"{path}.{name}" if path else name
            masked[name] = MASK if inner in self._paths else self.record(value, inner, depth + 1)
        return masked

    def _covers(self, field: str) -> bool:
        paths = [one.split(".") for one in (field, *field.split(BETWEEN))]
        return any(".".join(parts[:count]) in self._paths for parts in paths for count in range(1, len(parts) + 1))
