"""What `sink.redact` covers is nowhere in an alert: payload, explanation, summary, key, ids, headers."""

from __future__ import annotations

import dataclasses

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.batch import Phase, RejectBatch, Rule
from stream_ad.config import parse
from stream_ad.errors import ConfigError
from stream_ad.messages import alerts as alert
from stream_ad.messages import rejects as reject
from stream_ad.messages.explain import Contributor
from stream_ad.messages.redact import Redaction
from tests.support.alerts import VALIDATOR, WHY, alerts_of, verdicts_of

SHOP = Contributor(
    "shop.name.frequency", "shop.name", "frequency", "Zlatna", 0.031, 0.02, 0.05, "rare", 0, 0.2, 4.0,
    "shop.name Zlatna in 0.1 % of the events of this key, expected 2–5 %",
)  # fmt: skip
GONE = Contributor(
    "pin.missing", "pin", "missing", None, None, None, None, "missing", 0, 0.1, None, "pin is missing"
)  # fmt: skip


def told(redact: list[str], row: dict | None = None, value: bytes = b"{}", fields: tuple[str, ...] = (), key="$key"):
    (message,) = alert.encode(
        alerts_of({"row": 0} | (row or {})),
        verdicts_of([value]),
        {0: [WHY, SHOP, GONE]},
        pipeline="fraud",
        topic="cards",
        partition=3,
        most_bytes=900_000,
        payload_fields=fields,
        redaction=Redaction(redact, key),
    )
    body = orjson.loads(message.value)
    VALIDATOR.validate(body)
    return message, body


def test_a_redacted_figure_is_told_by_name_share_and_distance_only() -> None:
    message, body = told(["amount"])
    assert body["contributors"][0] == {
        "feature": "amount.zscore", "field": "amount", "kind": "zscore", "observed": None, "expected": None,
        "low": None, "high": None, "direction": "above", "lag_rows": 0, "share": 0.8, "deviations": 9.1,
        "text": "amount.zscore ***, 9.1 σ above",
    }  # fmt: skip
    assert body["summary"].startswith("card-17 is anomalous: amount.zscore ***, 9.1 σ above; shop.name Zlatna")
    for shown in (b"812", b"62.5", b"35", b"90"):
        assert shown not in message.value


def test_a_redacted_category_is_told_without_its_text_and_figures() -> None:
    for path in ("shop.name", "shop"):
        message, body = told([path])
        assert body["contributors"][1]["observed"] == "***"
        assert body["contributors"][1]["text"] == "shop.name.frequency ***, rare"
        assert b"Zlatna" not in message.value
        assert b"0.031" not in message.value
        assert body["contributors"][0]["observed"] == 812.4, "other fields are told as before"


@pytest.mark.parametrize("path", ["shop", "shop.name", "till"])
def test_a_pair_is_redacted_with_either_half(path: str) -> None:
    pair = dataclasses.replace(SHOP, feature="shop.name + till.frequency", field="shop.name + till")
    assert "Zlatna" not in Redaction([path]).contributor(pair).text
    assert Redaction(["name", "shop.name + other"]).contributor(pair) == pair


def test_that_a_field_is_missing_is_no_value() -> None:
    assert told(["pin"])[1]["contributors"][2]["text"] == "pin is missing"


def test_an_older_event_is_still_told_as_older() -> None:
    older = dataclasses.replace(WHY, lag_rows=2)
    assert Redaction(["amount"]).contributor(older).text == "amount.zscore ***, 9.1 σ above (2 events before)"


def test_what_is_allowed_and_redacted_is_masked_in_the_payload() -> None:
    value = b'{"a": 4711, "b": {"c": [4712, {"d": 4713, "e": 1}], "x.y": 4714}, "f": {"d": 2}}'
    message, body = told(["a", "b.c.d", "b.x.y"], value=value, fields=("a", "b", "b.c", "f"))
    assert body["payload"] == {
        "a": "***",
        "b": {"c": [4712, {"d": "***", "e": 1}], "x.y": "***"},
        "b.c": [4712, {"d": "***", "e": 1}],
        "f": {"d": 2},
    }
    assert b"4711" not in message.value
    assert b"4713" not in message.value
    assert b"4714" not in message.value


def test_without_a_list_nothing_of_the_payload_is_told_and_nothing_is_masked() -> None:
    message, body = told([], value=b'{"a": 4711}')
    assert body["payload"] == {}
    assert body["contributors"][0]["observed"] == 812.4
    assert message.key == b"card-17"


@pytest.mark.parametrize(("redact", "key"), [("$key", "$key"), ("$key", "card.id"), ("card", "card.id")])
@pytest.mark.parametrize("rule", [Rule.score, Rule.silence])
@pytest.mark.parametrize("phase", [Phase.opened, Phase.resolved])
def test_a_redacted_key_is_nowhere_and_its_alerts_still_belong_together(
    redact: str, key: str, rule: Rule, phase: Phase
) -> None:
    row = {"key": b"4000-1234", "rule": rule, "phase": phase}
    value = b'{"card": {"id": "4000-1234"}}'
    fields = ("card", "card.id") if key != "$key" else ()
    message, body = told([redact], row, value, fields, key=key)
    everything = message.value + message.key + b"".join(name.encode() + value for name, value in message.headers)
    assert b"4000" not in everything
    assert body["key"] == message.key.decode() == dict(message.headers)["ce_subject"].decode()
    assert body["key"].startswith("sha256:")
    assert len(body["key"]) == len("sha256:") + 16
    assert told([redact], row, value, fields, key=key)[0] == message
    assert told([redact], row | {"key": b"4000-1235"}, value, fields, key=key)[0].key != message.key


names = st.sampled_from(["a", "b", "c.d", "$key"])
documents = st.recursive(
    st.integers() | st.just("secret"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "c", "d", "c.d"]), inner),
    max_leaves=8,
)


@given(documents, st.lists(names, max_size=3))
def test_nothing_below_a_redacted_name_survives(document: object, paths: list[str]) -> None:
    found = Redaction(paths).record(document)

    def leaves(node: object, path: str = "") -> list[tuple[str, object]]:
        if isinstance(node, dict):
            return [leaf for n, v in node.items() for leaf in leaves(v, f"{path}.{n}" if path else n)]
        if isinstance(node, list):
            return [leaf for item in node for leaf in leaves(item, path)]
        return [(path, node)]

    for path, leaf in leaves(found):
        covered = any(path == name or path.startswith(name + ".") for name in paths)
        assert (leaf == "***") == covered
    if not paths:
        assert found == document


def test_a_record_nested_beyond_all_measure_stops_nobody() -> None:
    deep = b'{"b":' + b"[" * 1000 + b"4711" + b"]" * 1000 + b"}"
    message, _ = told(["a"], value=deep, fields=("b",))
    assert b"4711" not in message.value


def test_the_event_time_cannot_be_redacted() -> None:
    with pytest.raises(ConfigError, match=r"config: sink\.redact: the event time"):
        parse({"record": {"timestamp": "ts"}, "sink": {"redact": ["ts"]}})
    assert parse({"sink": {"redact": ["whatever", "not.in.the.features"]}}).sink.redact


def test_a_reject_without_its_payload_holds_position_and_reason_only() -> None:
    raw = verdicts_of([b"{}", b"4711"]).scores.features.windows.keyed.events.raw
    raw = dataclasses.replace(raw, key=[b"k", b"4712"], headers=lambda row: [("trace", b"4713")])
    (message,) = reject.encode(RejectBatch(raw, [1], ["not_an_object: the value is a number"]), 900_000, payload=False)
    assert (message.key, message.value) == (None, b"")
    assert [name for name, _ in message.headers] == [
        "reject_code", "reject_reason", "reject_topic", "reject_partition", "reject_offset",
    ]  # fmt: skip
    assert not any(b"471" in (value or b"") for _, value in message.headers)
