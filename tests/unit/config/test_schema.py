"""Errors of the configuration name the key, and never show a secret."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ad.config import Config, load, parse
from stream_ad.config.sections import duration_ms
from stream_ad.errors import ConfigError

SECTIONS = sorted(name for name, field in Config.model_fields.items() if hasattr(field.annotation, "model_fields"))
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)


def known(section: str | None) -> set[str]:
    return set(type(parse({}) if section is None else getattr(parse({}), section)).model_fields)


def refused(data: dict[str, Any], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(data, environ)
    return str(caught.value)


def complaint(read: Callable[[], Config]) -> ConfigError | None:
    try:
        read()
    except ConfigError as error:
        return error
    return None


def test_nothing_at_all_is_a_valid_configuration() -> None:
    config = parse({})
    assert config.sink.alerts == "stream_ad.alerts"
    assert config.sink.rejects == "stream_ad.rejects"
    assert config.redis.prefix == "stream_ad:stream_ad"
    assert (config.models_topic, config.bundles_topic) == ("stream_ad.models", "stream_ad.bundles")


def test_the_pipelines_name_is_the_prefix_of_what_it_owns() -> None:
    config = parse({"pipeline": "cards", "sink": {"alerts": "mine"}})
    assert (config.sink.alerts, config.sink.rejects) == ("mine", "cards.rejects")
    assert config.redis.prefix == "stream_ad:cards"


@given(
    section=st.sampled_from([None, *SECTIONS]),
    name=NAMES,
    value=st.integers() | st.text() | st.dictionaries(NAMES, st.text()),
)
def test_an_unknown_key_is_named_with_its_path_and_its_neighbours(
    section: str | None, name: str, value: object
) -> None:
    if name in known(section):
        return
    text = refused({name: value} if section is None else {section: {name: value}})
    path = name if section is None else f"{section}.{name}"
    assert text.startswith(f"config: {path}: ")
    assert "\n" not in text
    listed = re.findall(r"(?:known here|has): ([a-z0-9_, ]+)", text)
    assert set(", ".join(listed).split(", ")) - {"none"} == known(section)


@given(st.sets(st.tuples(st.sampled_from(SECTIONS), NAMES), min_size=2, max_size=5))
def test_every_mistake_is_told_at_once(keys: set[tuple[str, str]]) -> None:
    wrong = {(section, name) for section, name in keys if name not in known(section)}
    data: dict[str, dict[str, int]] = {}
    for section, name in wrong:
        data.setdefault(section, {})[name] = 1
    if wrong:
        assert {line.split(": ")[1] for line in refused(data).splitlines()} == {f"{s}.{n}" for s, n in wrong}


@pytest.mark.parametrize(
    ("data", "key", "hint"),
    [
        ({"server": {"port": "http"}}, "server.port", "got 'http'"),
        ({"server": {"port": 70_000}}, "server.port", "65535"),
        ({"window": {"late": "keep"}}, "window.late", "'accept', 'drop' or 'reject'"),
        ({"window": {"rows": 0}}, "window.rows", "greater than or equal to 1"),
        ({"window": {"span": 5}}, "window.span", '"250ms", "30s"'),
        ({"window": "count"}, "window", "got 'count'"),
        ({"features": {"numeric": {"amount": "raw"}}}, "features.numeric.amount", "list"),
        ({"pipeline": "my cards"}, "pipeline", "got 'my cards'"),
        ({"threshold": {"false_alarm_rate": 0}}, "threshold.false_alarm_rate", "greater than 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(data: dict[str, Any], key: str, hint: str) -> None:
    text = refused(data)
    assert text.startswith(f"config: {key}: ")
    assert hint in text


@pytest.mark.parametrize("output", ["x.alerts", "x.rejects", "x.models", "x.bundles"])
def test_what_is_written_is_not_read_again(output: str) -> None:
    text = refused({"pipeline": "x", "source": {"topic": output}})
    assert text.startswith("config: source.topic, ")
    assert output in text


def test_every_output_has_a_topic_of_its_own() -> None:
    assert "sink.alerts, sink.rejects: " in refused({"sink": {"alerts": "out", "rejects": "out"}})
    assert "sink.rejects, pipeline" in refused({"pipeline": "x", "sink": {"rejects": "x.models"}})


def test_event_times_have_bounds_in_order() -> None:
    config = parse({"record": {"earliest": date(1970, 1, 1), "latest": "2030-06-01T02:00:00+02:00"}})
    assert (config.record.earliest, config.record.latest) == (0, 1_906_502_400_000)
    assert "record.earliest: a date such as" in refused({"record": {"earliest": 0}})
    assert "record.earliest: " in refused({"record": {"earliest": "1969-12-31"}})
    assert "record: earliest must lie before latest" in refused({"record": {"earliest": "2100-01-01"}})


def test_an_option_of_the_wrong_type_is_one_line() -> None:
    text = refused({"kafka": {"options": {"fetch.wait.max.ms": [5]}}})
    assert text == "config: kafka.options.fetch.wait.max.ms: must be text, a number, true or false"


# Durations


@given(
    st.integers(0, 10**6), st.sampled_from([("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)])
)
def test_a_duration_is_its_number_times_its_unit(number: int, unit: tuple[str, int]) -> None:
    name, factor = unit
    assert duration_ms(f"{number}{name}") == number * factor
    assert duration_ms(f" {number} {name} ") == number * factor
    assert duration_ms(f"{number}.5{name}") == round((number + 0.5) * factor)


@given(
    st.integers().filter(bool)
    | st.floats().filter(bool)
    | st.text(alphabet="0123456789.-+smhd ", max_size=6)
    | st.none()
)
def test_a_number_without_a_unit_is_no_duration(value: object) -> None:
    if isinstance(value, str) and value.strip().endswith(("s", "m", "h", "d")):
        return
    with pytest.raises(ValueError, match="a duration such as"):
        duration_ms(value)


# Environment


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = tmp_path / "stream_ad.toml"
    path.write_text('[source]\ntopic = "a"\n[window]\nspan = "5m"\nrows = 4\n')
    environ = {
        "STREAM_AD__SOURCE__TOPIC": "b",
        "STREAM_AD__WINDOW__SPAN": "10m",
        "STREAM_AD__SERVER__PORT": "0",
        "STREAM_AD__SILENCE__ENABLED": "true",
        "STREAM_AD__TRAIN__HIDDEN": "[8, 2]",
        "STREAM_AD__FEATURES__NUMERIC": '{ "a.b" = ["raw"] }',
        "STREAM_AD__KAFKA__OPTIONS__FETCH_WAIT_MAX_MS": "5",
        "OTHER": "x",
    }
    config = load(path, environ)
    assert (config.source.topic, config.window.span, config.window.rows) == ("b", 600_000, 4)
    assert (config.server.port, config.silence.enabled, config.train.hidden) == (0, True, [8, 2])
    assert config.features.numeric == {"a.b": ["raw"]}
    assert config.kafka.options == {"fetch.wait.max.ms": "5"}


@given(st.sampled_from(SECTIONS), st.text(max_size=8))
def test_overriding_one_key_leaves_the_others_and_the_data_alone(section: str, topic: str) -> None:
    data = {"source": {"topic": "kept", "start": "latest"}}
    config = parse(data, {"STREAM_AD__PIPELINE": "p", "STREAM_AD__SOURCE__START": "earliest"})
    assert (config.pipeline, config.source.topic, config.source.start) == ("p", "kept", "earliest")
    assert data == {"source": {"topic": "kept", "start": "latest"}}
    assert getattr(config, section) is not None


def test_an_error_names_the_variable_that_caused_it() -> None:
    assert refused({}, {"STREAM_AD__SERVER__PORT": "x"}).endswith("(set by STREAM_AD__SERVER__PORT)")
    assert "unknown key" in refused({}, {"STREAM_AD__REDIS__HOST": "x"})


# Secrets

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    "name", ["SASL_PASSWORD", "SASL__PASSWORD", "SSL_KEY_PASSWORD", "SASL_OAUTHBEARER_CLIENT_SECRET"]
)
def test_a_secret_comes_from_the_environment(name: str) -> None:
    config = parse({}, {f"STREAM_AD__KAFKA__OPTIONS__{name}": TOKEN})
    assert config.kafka.options == {name.replace("__", ".").replace("_", ".").lower(): TOKEN}


@given(
    path=st.lists(
        st.sampled_from([*SECTIONS, "options", "url", "password", "sasl", "port", "numeric", "x"]),
        min_size=1,
        max_size=4,
    ),
    shape=st.sampled_from(
        ["{}", "redis://:{}@host/0", "[{}", '{{ "sasl.password" = "{}" }}', '["{}"]', '{{ a = ["{}"']
    ),
)
def test_what_a_variable_holds_is_never_shown(path: list[str], shape: str) -> None:
    environ = {"STREAM_AD__" + "__".join(path).upper(): shape.format(TOKEN)}
    error = complaint(lambda: parse({}, environ))
    if error is not None:
        assert TOKEN not in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f'[kafka.options]\n"sasl.password" = "{TOKEN}"', "kafka.options.sasl.password"),
        (f'[kafka.options.sasl]\npassword = "{TOKEN}"', "kafka.options.sasl.password"),
        (f'[kafka.options]\n"ssl.key.pem" = "{TOKEN}"', "kafka.options.ssl.key.pem"),
        (f'[redis]\nurl = "redis://user:{TOKEN}@host/0"', "redis.url"),
        (f'[redis]\nurl = "redis://:{TOKEN}/x@host/0"', "redis.url"),
        (f'[redis]\nurl = "redis://host/0?password={TOKEN}"', "redis.url"),
        (f'[redis]\nurl = "rediss://host/0?ssl_ca_certs=ca.pem&ssl_password={TOKEN}"', "redis.url"),
        (
            f'[kafka.options]\n"sasl.oauthbearer.assertion.private.key.passphrase" = "{TOKEN}"',
            "kafka.options.sasl.oauthbearer.assertion.private.key.passphrase",
        ),
        (f'redis = "redis://:{TOKEN}@host/0"', "redis"),
        (f'[redis]\npassword = "{TOKEN}"', "redis.password"),
        (f'[kafka]\noptions = "sasl.password={TOKEN}"', "kafka.options"),
        (f'[kafka.options]\nsasl = ["{TOKEN}"]', "kafka.options.sasl"),
        (f'[redis]\nurl = "redis://:{TOKEN}@host', "not valid TOML"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "stream_ad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert f"{path}: {key}" in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_the_path_of_a_secret_may_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "stream_ad.toml"
    path.write_text('[kafka.options]\n"sasl.password.file" = "/run/secrets/kafka"\n"ssl.key.location" = "/etc/key.pem"')
    assert load(path, {}).kafka.options["sasl.password.file"] == "/run/secrets/kafka"


def test_secrets_do_not_show_in_what_is_printed_of_the_configuration() -> None:
    options = {"STREAM_AD__KAFKA__OPTIONS__SASL_PASSWORD": TOKEN, "STREAM_AD__REDIS__URL": f"rediss://:{TOKEN}@host/0"}
    config = parse({}, options)
    assert TOKEN in str(config.model_dump())
    for shown in (repr(config), str(config), f"{config.kafka}", f"{config.redis}"):
        assert TOKEN not in shown


# Redis in the clear


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0", "redis://127.0.0.1", "redis://127.8.9.10:1", "redis://[::1]:6379", "redis://",
        "unix:///run/redis.sock", "rediss://redis.example.com:6379/0", "redis://user:pw@localhost",
    ],
)  # fmt: skip
def test_redis_on_this_machine_or_encrypted_needs_no_leave(url: str) -> None:
    assert parse({"redis": {"url": url}}).redis.url == url


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("redis://redis:6379/0", "redis"),
        ("redis://10.0.0.5", "10.0.0.5"),
        ("redis://0.0.0.0", "0.0.0.0"),
        (f"redis://user:{TOKEN}@cache.example.com:6379/0", "cache.example.com"),
        (f"redis:///0?host=cache.example.com&password={TOKEN}", "cache.example.com"),
        ("redis://[2001:db8::1]:6379", "2001:db8::1"),
        ("redis://localhost.example.com", "localhost.example.com"),
    ],
)
def test_redis_beyond_this_machine_is_encrypted_or_asked_for(url: str, host: str) -> None:
    text = refused({}, {"STREAM_AD__REDIS__URL": url})
    assert text.startswith(f"config: redis.allow_plaintext: redis.url leads to {host}, beyond this machine")
    assert "rediss://" in text
    assert TOKEN not in text
    assert parse({"redis": {"url": url, "allow_plaintext": True}}).redis.url == url


# The file itself


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; `stream-ad init`"):
        load(tmp_path / "none.toml", {})


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_with_the_files_name(content: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(content)
        file.flush()
        error = complaint(lambda: load(Path(file.name), {}))
    assert error is None or str(error).startswith(file.name)


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})
