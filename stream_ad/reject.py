"""Records that could not become events, as messages for the rejects topic."""

from __future__ import annotations

from stream_ad.batch import Message, RejectBatch


def encode(rejects: RejectBatch) -> list[Message]:
    """Key, value and headers as they came, and why and where from in `reject_*` headers.

    A record that has been rejected before loses its earlier `reject_*` headers: they are replaced.
    """
    raw = rejects.raw
    messages = []
    for row, reason in zip(rejects.row, rejects.reason, strict=True):
        headers = [(name, value) for name, value in raw.headers(row) if not name.startswith("reject_")]
        headers += [
            ("reject_code", reason.partition(":")[0].encode()),
            ("reject_reason", reason.encode("utf-8", "backslashreplace")),
            ("reject_topic", raw.topic.encode()),
            ("reject_partition", b"%d" % raw.partition),
            ("reject_offset", b"%d" % raw.offset[row]),
        ]
        messages.append(Message(raw.key[row], raw.value[row], headers))
    return messages
