"""The metrics of a worker, for Prometheus. One registry per process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream_ad.batch import Phase, Rule

REGISTRY = CollectorRegistry()

EVENTS = Counter("stream_ad_events", "events judged", registry=REGISTRY)
REJECTS = Counter("stream_ad_rejects", "records sent to the rejects topic", ["code"], registry=REGISTRY)
QUIET = Counter("stream_ad_quiet_events", "events in a quiet time of the calendar, not judged", registry=REGISTRY)
LATE = Counter("stream_ad_late", "late events that were dropped", registry=REGISTRY)
MISSING = Counter("stream_ad_missing_values", "events without a value of the field", ["field"], registry=REGISTRY)
ALERTS = Counter("stream_ad_alerts", "alerts published", ["rule", "phase"], registry=REGISTRY)
BUDGET = Gauge(
    "stream_ad_budget_incidents", "most incidents that the partition may tell in a period", ["partition"],
    registry=REGISTRY,
)  # fmt: skip
BUDGET_USED = Gauge(
    "stream_ad_budget_used", "incidents that were told in the latest period, of event time", ["partition"],
    registry=REGISTRY,
)  # fmt: skip
HELD = Gauge(
    "stream_ad_incidents_held", "incidents that the budget has held back since the beginning of the log", ["partition"],
    registry=REGISTRY,
)  # fmt: skip
PROGRESS = Gauge("stream_ad_progress_offset", "the next offset to judge", ["partition"], registry=REGISTRY)
LAG = Gauge("stream_ad_lag_events", "offsets in the topic not yet judged", ["partition"], registry=REGISTRY)
EVENT_TIME_LAG = Gauge(
    "stream_ad_event_time_lag_seconds", "wall clock less the newest event time", ["partition"], registry=REGISTRY
)
LAST_COMMIT = Gauge("stream_ad_last_commit_seconds", "time since the last commit", ["partition"], registry=REGISTRY)
STALLED = Gauge(
    "stream_ad_stalled", "1 while a partition with events to judge stands still", ["partition"], registry=REGISTRY
)
SPARE_MEMORY = Gauge("stream_ad_spare_memory_bytes", "memory that is still available", registry=REGISTRY)
KEYS = Gauge("stream_ad_keys", "keys with state", ["partition"], registry=REGISTRY)
MUTED = Gauge(
    "stream_ad_muted", "1 while a partition folds silently up to its committed offset", ["partition"], registry=REGISTRY
)
REPLAY = Gauge("stream_ad_replay_events", "events left to fold silently", ["partition"], registry=REGISTRY)
MODEL = Gauge("stream_ad_model", "1 for the version in use", ["partition", "version"], registry=REGISTRY)
SCORE = Gauge("stream_ad_score", "score of the latest judged event", registry=REGISTRY)
THRESHOLD = Gauge("stream_ad_threshold", "threshold of that event", registry=REGISTRY)
SCORER_FAULTS = Counter(
    "stream_ad_scorer_faults",
    "scores and explanations of a model that cannot be used: it raised, gave another shape or no finite number",
    ["version", "answer"],
    registry=REGISTRY,
)
SNAPSHOT_LAG = Gauge(
    "stream_ad_snapshot_lag_events", "events judged since the last snapshot", ["partition"], registry=REGISTRY
)
STORE_UP = Gauge("stream_ad_store_up", "1 while Redis answers", registry=REGISTRY)
REGISTRY_ERRORS = Counter(
    "stream_ad_registry_errors", "looks at the registry that ended in an error not foreseen", registry=REGISTRY
)
SWAPS = Counter("stream_ad_swaps", "model swaps", registry=REGISTRY)
SWAP_FAILURES = Counter(
    "stream_ad_swap_failures", "swaps that could not be saved; the former model judges on", registry=REGISTRY
)
SHADOW = Counter(
    "stream_ad_shadow_events",
    "events scored by the shadow, by who flagged them: both, live_only, shadow_only, neither",
    ["version", "flagged_by"],
    registry=REGISTRY,
)
TRANSACTION_FAILURES = Counter(
    "stream_ad_transaction_failures", "commits that failed; the shards were restored", registry=REGISTRY
)
RESTARTS = Counter("stream_ad_restarts", "new starts of the pipeline because partitions stood still", registry=REGISTRY)
BATCH_ROWS = Histogram(
    "stream_ad_batch_rows", "rows scored at once", registry=REGISTRY, buckets=[2**power for power in range(0, 15, 2)]
)
COMMIT_SECONDS = Histogram("stream_ad_commit_seconds", "duration of a commit", registry=REGISTRY)
LATENCY = Histogram(
    "stream_ad_latency_seconds",
    "from record timestamp to committed verdict, for the newest event of each commit",
    registry=REGISTRY,
    buckets=[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
)


def alert(rule: int, phase: int) -> None:
    ALERTS.labels(Rule(rule).name, Phase(phase).name).inc()


def model(partition: int, old: str | None, new: str) -> None:
    if old is not None:
        MODEL.labels(partition, old).set(0)
    MODEL.labels(partition, new).set(1)


def budget(partition: int, limit: int, used: int, held: int) -> None:
    if limit:
        BUDGET.labels(partition).set(limit)
        BUDGET_USED.labels(partition).set(used)
    HELD.labels(partition).set(held)


def scorer_faults(version: str, answer: str, rows: int) -> None:
    SCORER_FAULTS.labels(version, answer).inc(rows)
