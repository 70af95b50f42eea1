"""The shell's sections of `stream_ad.toml`: every key, its default, what it means.

`config.parts` has those that registered parts bring options to; `docs/configuration.md` is made of both.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from stream_ad.config.environment import plaintext_host

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_PERIODS = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000, "week": 604_800_000}
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(value: object) -> object:
    """ "250ms", "1.5h", "30m" -> milliseconds. Bare numbers are refused: they have no unit."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*(ms|s|m|h|d)\s*", value, re.ASCII)
        if match:
            return round(float(match[1]) * _UNITS[match[2]])
    elif value == 0:
        return 0
    raise ValueError('a duration such as "250ms", "30s", "5m", "1h" or "7d"')


def moment_ms(value: object) -> object:
    """ "2000-01-01", "2026-01-31T12:00:00Z", or a date of TOML -> milliseconds since the epoch (UTC)."""
    if isinstance(value, date):
        value = value.isoformat()
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (moment - _EPOCH) // _MILLISECOND
        except (ValueError, OverflowError):
            pass
    raise ValueError('a date such as "2000-01-01", or a time such as "2026-01-31T12:00:00Z"')


Duration = Annotated[int, BeforeValidator(duration_ms), Field(ge=0, le=10**15)]
Moment = Annotated[int, BeforeValidator(moment_ms), Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _fits(cls, value: object) -> object:
        """Raises `ValueError` for a number that an array cannot hold."""
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise ValueError("must fit into 64 bits")
        return value


class Kafka(Section):
    """The connection to Kafka."""

    brokers: str = Field("127.0.0.1:9092", description="bootstrap servers, comma separated")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        repr=False,
        description="any librdkafka setting, passed through; `<name>.file` reads the value from a file",
    )
    group_protocol: Literal["consumer", "classic"] = Field(
        "consumer",
        description="how workers share partitions; `classic`: for brokers before Kafka 4.0, stops in rebalances",
    )
    static_membership: bool = Field(
        False, description="keep partitions over a quick restart (group.instance.id per worker)"
    )


class Source(Section):
    """What is read."""

    topic: str = Field("events", min_length=1, max_length=249, description="the topic to watch")
    start: Literal["earliest", "latest"] = Field(
        "earliest", description="where a group without committed offsets begins"
    )


class Sink(Section):
    """What is written."""

    alerts: str = Field("", description="topic of alerts; default `<pipeline>.alerts`")
    rejects: str = Field("", description="topic of rejects; default `<pipeline>.rejects`")
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="at_least_once is for brokers without transactions"
    )
    commit_interval: Duration = Field(200, description="event to visible alert waits at most this long")
    create_topics: bool = Field(True, description="create missing output topics at the start")
    payload_fields: list[str] = Field(
        default_factory=list, description="fields of the event that are copied into its alerts; no others are"
    )
    redact: list[str] = Field(
        default_factory=list,
        description="fields (with all within them) whose values alerts never show, nor their explanations; "
        "`$key`: who is watched, shown as a hash",
    )
    rejects_payload: bool = Field(
        True, description="rejects hold the record as it came; false: only its position and the reason"
    )
    max_record_bytes: int = Field(
        900_000,
        ge=65_536,
        description="larger alerts leave out payload fields, larger rejects are cut, and say so; "
        "to be below `max.message.bytes` of the output topics (Kafka's default: 1,048,588)",
    )


class Redis(Section):
    """Where snapshots and the model registry live."""

    url: str = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="redis:// or rediss:// URL, no password in the file"
    )
    allow_plaintext: bool = Field(
        False, validate_default=True, description="let a redis:// URL lead beyond this machine, readable on its way"
    )
    prefix: str = Field("", description="prefix of all keys; default `stream_ad:<pipeline>`")
    snapshot_interval: Duration = Field(10_000, description="between two snapshots; large states take 5 % of the time")
    snapshot_events: int = Field(
        1_000_000, ge=1, description="or after so many events of a partition, whichever is first"
    )
    wait: Duration = Field(5_000, description="how long a new partition waits for its snapshot before it is rebuilt")
    rebuild: Literal["all", "horizon", "cold"] = Field(
        "all", description="without a snapshot: fold the whole log, the last `horizon_events`, or start cold"
    )
    horizon_events: int = Field(100_000, ge=0, description="events per partition folded by rebuild = horizon")

    @field_validator("allow_plaintext")
    @classmethod
    def _encrypted(cls, allowed: bool, info: ValidationInfo) -> bool:
        host = None if allowed else plaintext_host(info.data.get("url", ""))
        if host is not None:
            raise ValueError(
                f"redis.url leads to {host}, beyond this machine, and is not encrypted: make it rediss://, or set this "
                "to true"
            )
        return allowed


class Features(Section):
    """What is computed from each field. A feature is `kind` or `kind:parameter`."""

    event: list[str] = Field(
        default_factory=lambda: ["gap"], description="of the event itself; [Features](#features) lists what there is"
    )
    numeric: dict[str, list[str]] = Field(
        default_factory=dict, description="field (dotted path) -> features of a number, as in `zscore` or `sum:1h`"
    )
    categorical: dict[str, list[str]] = Field(
        default_factory=dict,
        description='field -> features of a category, as in `novelty`; `"a + b"` is the pair of two fields',
    )
    half_life_rows: float = Field(3000.0, gt=0, description="memory of zscore's mean and deviation, in events of a key")
    prior_rows: float = Field(8.0, gt=0, description="weight of the shard's pooled mean and deviation, in events")


class Scoring(Section):
    """How scores are computed."""

    device: str = Field("cpu", description="cpu, cuda or cuda:N")
    batch_rows: int = Field(4096, ge=64, description="a batch is closed at so many rows")
    latency: Duration = Field(20, description="a batch that is not full is closed after this")
    in_flight: int = Field(2, ge=1, le=16, description="batches on the device while the CPU folds")


class Budget(Section):
    """At most so many incidents in any period of event time."""

    incidents: int = Field(ge=1, le=10**9)
    period_ms: int = Field(ge=1)

    def __str__(self) -> str:
        unit = next(name for name, length in _PERIODS.items() if length == self.period_ms)
        return f"{self.incidents}/{unit}"


def most_per_period(value: object) -> object:
    """ "20/day" -> at most 20 in any 24 hours; "" -> no budget."""
    if value is None or isinstance(value, Budget):
        return value
    if value == "":
        return None
    if isinstance(value, str):
        match = re.fullmatch(rf"\s*(\d{{1,9}})\s*/\s*({'|'.join(_PERIODS)})\s*", value, re.ASCII)
        if match and int(match[1]):
            return Budget(incidents=int(match[1]), period_ms=_PERIODS[match[2]])
    raise ValueError('a budget such as "20/day" (or /minute, /hour, /week), at least 1')


Allowance = Annotated[Budget | None, BeforeValidator(most_per_period)]


class Incidents(Section):
    """How flags become alerts."""

    resolve_after: Duration = Field(300_000, description="quiet time of the key that ends an incident")
    resolve_rows: int = Field(10, ge=1, description="or so many normal events of the key in a row")
    cooldown: Duration = Field(600_000, description="least event time between two alerts of one incident")
    update_factor: float = Field(100.0, gt=1, description="an update is sent when the p-value falls by this factor")
    budget: Allowance = Field(
        None,
        description='`"20/day"`: at most so many incidents are told in any day, of event time; the less severe ones '
        "are held back",
    )
    key_budget: Allowance = Field(None, description="the same for each key, beside `budget`")

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return self.budget is not None or self.key_budget is not None


class Silence(Section):
    """Alerts on keys that send no events any more."""

    enabled: bool = Field(False, description="alert when a key is silent against its partition's watermark")
    min_gap: Duration = Field(60_000, description="no silence is shorter")
    deviations: float = Field(12.0, gt=0, description="mean gap plus so many standard deviations")
    min_events: int = Field(30, ge=2, description="events of a key before its rhythm is trusted")


class Models(Section):
    """Whose models are used. Keys are files, never text in this one; SECURITY.md tells how to make them."""

    verify_keys: list[str] = Field(
        default_factory=list,
        description="Ed25519 public keys (PEM files): a bundle that none of them has signed is refused; empty = any",
    )
    signing_key: str = Field(
        "", description="Ed25519 private key (a PEM file) that `train` and `models add` sign with; empty = unsigned"
    )

    least_found: float = Field(
        0.8,
        ge=0,
        le=1,
        description="a new model must find this share of the spikes that the version that judges finds in its trial",
    )
    most_flags: float = Field(
        10.0,
        gt=0,
        description="and may open so many times the incidents that `threshold.false_alarm_rate` states as false flags,"
        " or twice as many as the version that judges",
    )

    @field_validator("verify_keys", "signing_key")
    @classmethod
    def _paths(cls, value: str | list[str]) -> str | list[str]:
        if "-----BEGIN" in str(value):
            raise ValueError("the path of a file is expected, not the key itself")
        return value


class Run(Section):
    """How a run watches itself, and how it ends."""

    stop: Duration = Field(30_000, ge=1000, description="asked to stop, it has ended after so long, whatever hangs")
    stalled: Duration = Field(
        20_000,
        ge=1000,
        description="a partition that stands still for so long while others move is an alarm, and its worker starts "
        "anew; where none moves, after three times as long",
    )
    spare_memory: int = Field(
        256, ge=0, description="MiB: a worker that finds no more left, beside a snapshot, stops in order; 0 = off"
    )


class Server(Section):
    """Metrics and health over HTTP."""

    host: str = Field("127.0.0.1", description="address to bind")
    port: int = Field(9464, ge=0, le=65535, description="of worker 0; worker N uses port + N; 0 = off")
