"""Records that could not become events, as messages for the rejects topic."""

from __future__ import annotations

import hashlib

from stream_ad.batch import Headers, Message, RejectBatch

_KEY_BYTES = 1024  # no key that is accepted is longer
_REASON_BYTES = 2048
_HEADER_BYTES = 16  # of a header at most, beyond its name and value: their lengths
_CUT_BYTES = 512  # of the headers about a cut, at most


def encode(rejects: RejectBatch, most_bytes: int, payload: bool = True) -> list[Message]:
    """Key, value and headers as they came; further headers, `reject_*`, say why and from where.

    A record that was rejected before loses its earlier `reject_*` headers. A message that would be larger
    than `most_bytes` is cut: brokers would refuse it, and the partition would never get beyond it. Then
    `reject_cut` names the incomplete parts, `reject_<part>_bytes` have their full sizes, and for key and value
    `reject_<part>_sha256` their hashes. The input topic has the complete record at its position.

    Without `payload` the message has nothing of the record itself. Its value is empty: a message without a
    value would be a tombstone.
    """
    raw = rejects.raw
    messages = []
    for row, reason in zip(rejects.row, rejects.reason, strict=True):
        kept = raw.headers(row) if payload else []
        headers = [(name, value) for name, value in kept if not name.startswith("reject_")]
        why: Headers = [
            ("reject_code", reason.partition(":")[0].encode()),
            ("reject_reason", reason.encode("utf-8", "backslashreplace")[:_REASON_BYTES]),
            ("reject_topic", raw.topic.encode()),
            ("reject_partition", b"%d" % raw.partition),
            ("reject_offset", b"%d" % raw.offset[row]),
        ]
        key, value = (raw.key[row], raw.value[row]) if payload else (None, b"")
        messages.append(_fitting(key, value, headers, why, most_bytes))
    return messages


def _fitting(key: bytes | None, value: bytes | None, headers: Headers, why: Headers, most_bytes: int) -> Message:
    left = most_bytes - _size(why) - len(key or b"") - len(value or b"") - _size(headers)
    if left >= 0:
        return Message(key, value, headers + why)
    left = most_bytes - _size(why) - _CUT_BYTES
    cut: list[str] = []
    sizes: Headers = []

    def part(name: str, content: bytes | None, most: int) -> bytes | None:
        if content is None or len(content) <= most:
            return content
        cut.append(name)
        sizes.append((f"reject_{name}_bytes", b"%d" % len(content)))
        sizes.append((f"reject_{name}_sha256", hashlib.sha256(content).hexdigest().encode()))
        return content[: max(most, 0)]

    kept = part("key", key, _KEY_BYTES)
    left -= len(kept or b"")
    if _size(headers) > left // 2:
        cut.append("headers")
        sizes.append(("reject_headers_bytes", b"%d" % _size(headers)))
        headers = []
    value = part("value", value, left - _size(headers))
    return Message(kept, value, [*headers, *why, ("reject_cut", " ".join(cut).encode()), *sizes])


def _size(headers: Headers) -> int:
    return sum(len(name.encode()) + len(value or b"") + _HEADER_BYTES for name, value in headers)
