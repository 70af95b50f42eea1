"""What of an event alerts do not show: `sink.redact`.

A redacted field's name, its share and how far it is from the expected value may be told; its value,
what was expected and the text of a category may not. A redacted key is shown as the beginning of its
sha256, so that alerts of one key still belong together: a pseudonym, which whoever can guess keys can check.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stream_ad.messages.explain import Contributor, when
from stream_ad.messages.phrases import number

MASK = "***"
KEY = "$key"
_KEY_DIGITS = 16
_DEEPEST = 200  # what is nested more deeply could not be written as JSON either


class Redaction:
    """Of the fields `paths` (dotted) with all that lies within them."""

    def __init__(self, paths: Sequence[str] = (), key_field: str = KEY) -> None:
        """`key_field` is `record.key`: where it names a field, that field and `$key` are redacted together."""
        self._paths = frozenset(paths)
        self._hides_key = KEY in self._paths or self._covers(key_field)
        if self._hides_key:
            self._paths |= {key_field}

    def key(self, key: bytes) -> bytes:
        """Who is watched, as alerts name it."""
        if not self._hides_key:
            return key
        return b"sha256:" + hashlib.sha256(key).hexdigest()[:_KEY_DIGITS].encode()

    def contributor(self, one: Contributor) -> Contributor:
        if one.direction in ("missing", "present") or not self._covers(one.field):
            return one
        far = one.direction in ("above", "below") and one.deviations is not None
        distance = f"{number(one.deviations or 0.0, 1)} σ " if far else ""
        return replace(
            one,
            observed=MASK if isinstance(one.observed, str) else None,
            expected=None,
            low=None,
            high=None,
            text=f"{one.feature} {MASK}, {distance}{one.direction}{when(one.lag_rows)}",
        )

    def record(self, node: Any, path: str = "", depth: int = 0) -> Any:
        """Decoded JSON, with every redacted value masked, also where a name holds dots or lies in an array."""
        if not self._paths or not isinstance(node, list | dict):
            return node
        if depth > _DEEPEST:
            return MASK
        if isinstance(node, list):
            return [self.record(item, path, depth + 1) for item in node]
        found = {}
        for name, value in node.items():
            inner = f"{path}.{name}" if path else name
            found[name] = MASK if inner in self._paths else self.record(value, inner, depth + 1)
        return found

    def _covers(self, field: str) -> bool:
        parts = field.split(".")
        return any(".".join(parts[:count]) in self._paths for count in range(1, len(parts) + 1))
