"""`make soak`: runs for MINUTES (30) at the highest rate, on real servers. Memory must stay flat, no event be lost.

The feeder stays a few seconds ahead of the program. Each second the benchmark samples the memory of the program's
processes; a shared page counts in parts for those that share it. It fits a line to the samples after the first
quarter. Neighbouring samples are not independent, so the error of the slope is that of Newey and West (1987). Memory
is flat if the slope's 95 % interval reaches zero, or if the slope is below BYTES_PER_EVENT. Memory also changes as
queues fill and empty (the reader's holds some 130 MiB of this stream), for instance when other programs use the
machine; a longer run averages that out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import matplotlib as mpl
import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from benchmarks import load
from benchmarks.stages import toml
from stream_ad.io.kafka.admin import committed_offsets, end_offsets
from stream_ad.io.partition import partition_of
from tests.support.servers import free_port, kafka_broker, redis_server

KEYS = 5_000
POOL = 200_000  # records, sent again and again with new times
AHEAD = 500_000  # events in the topic that are not judged yet, so that the program never waits for the feeder
BYTES_PER_EVENT = 0.1
NORMAL_95 = 1.96
RETENTION = {"retention.bytes": str(256 << 20), "segment.bytes": str(32 << 20)}
WAIT_S = 120.0


@dataclass(frozen=True)
class Sample:
    second: float
    events: int  # judged so far
    memory_bytes: int


@dataclass(frozen=True)
class Verdict:
    minutes: float
    produced: int
    committed: int
    judged: int
    events_per_s: float  # median of the seconds
    memory_mib: float  # mean after the first quarter
    slope_kib_per_minute: float
    interval_kib_per_minute: float  # either side
    bytes_per_event: float
    flat: bool
    lost: int


def main() -> None:
    arguments = argparse.ArgumentParser(prog="make soak", description=__doc__)
    arguments.add_argument("--minutes", type=float, default=30.0)
    arguments.add_argument("--output", type=Path, default=Path("out"), help="folder for soak.json and soak.png")
    chosen = arguments.parse_args()
    console = Console()
    settings = {"log.retention.check.interval.ms": "5000", "log.segment.delete.delay.ms": "1000"}
    with tempfile.TemporaryDirectory() as folder, kafka_broker(settings) as brokers, redis_server() as redis:
        samples, produced, judged, committed = soak(brokers, redis, Path(folder), chosen.minutes, console)
    verdict = judge(samples, produced, judged, committed)
    chosen.output.mkdir(parents=True, exist_ok=True)
    document = {**asdict(verdict), "samples": [asdict(sample) for sample in samples]}
    (chosen.output / "soak.json").write_text(json.dumps(document, indent=1))
    draw(samples, verdict, chosen.output / "soak.png")
    console.print(asdict(verdict))
    sys.exit(0 if verdict.flat and not verdict.lost else 1)


def soak(
    brokers: str, redis: str, folder: Path, minutes: float, console: Console
) -> tuple[list[Sample], int, int, int]:
    """The samples, and how many events were produced, judged and committed."""
    topic, port, file = "soak", free_port(), folder / "soak.toml"
    config = load.config(brokers, redis, topic, "soak", 2 * KEYS)
    text = toml(config).replace("server.port = 0", f"server.port = {port}")
    text = text.replace('timestamp = "ts"', 'timestamp = "$timestamp"')
    file.write_text(text)
    program = [sys.executable, "-m", "stream_ad"]
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(topic, load.PARTITIONS, 1, config=RETENTION)])[topic].result()
    context = multiprocessing.get_context("spawn")
    allowed, produced, stop = context.Value("q", 100_000), context.Value("q", 0), context.Event()
    feeder = context.Process(target=feed, args=(brokers, topic, allowed, produced, stop), daemon=True)
    feeder.start()
    with console.status("training on the first events"):
        while produced.value < 100_000:
            time.sleep(0.1)
        subprocess.run([*program, "train", "--config", str(file), "--promote", "--force"], check=True)
    run = subprocess.Popen([*program, "run", "--config", str(file)])
    samples: list[Sample] = []
    try:
        began = time.monotonic()
        with console.status("soaking") as status:
            while (now := time.monotonic() - began) < 60 * minutes:
                time.sleep(max(0.0, len(samples) + 1 - now))
                if run.poll() is not None:
                    raise RuntimeError(f"the run ended with {run.returncode}")
                events = judged_events(port)
                allowed.value = events + AHEAD
                samples.append(Sample(time.monotonic() - began, events, memory_bytes(run.pid)))
                line = f"{now:,.0f} s: {events:,} events, {samples[-1].memory_bytes >> 20:,} MiB"
                status.update(line)
                if not console.is_terminal and len(samples) % 60 == 0:
                    console.print(line)
        stop.set()
        feeder.join()
        ends = end_offsets(config.kafka, topic)
        deadline = time.monotonic() + WAIT_S
        while (committed := sum_of(committed_offsets(config.kafka, "soak", topic))) < sum_of(ends):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        judged = judged_events(port)
        run.send_signal(signal.SIGTERM)
        if run.wait(60) != 0:
            raise RuntimeError(f"the run ended with {run.returncode}")
        return samples, int(produced.value), judged, committed
    finally:
        stop.set()
        run.kill()
        run.wait()


def feed(brokers: str, topic: str, allowed: Any, produced: Any, stop: Any) -> None:
    """Writes as fast as it may; what it has written is there when it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    pool = [(value, key, partition_of(key, 0, load.PARTITIONS)) for key, value in load.records(POOL, KEYS)]
    options = {
        "linger.ms": 20,
        "enable.idempotence": True,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 200_000,
    }
    producer = Producer({"bootstrap.servers": brokers, **options})
    rows = cycle(pool)
    while not stop.is_set():
        if produced.value >= allowed.value:
            producer.poll(0.01)
            continue
        for value, key, partition in islice(rows, 2000):
            while True:
                try:
                    producer.produce(topic, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
        produced.value += 2000
    if producer.flush(60):
        raise RuntimeError("the broker did not take everything")


def judged_events(port: int) -> int:
    """Events judged, rejected or dropped as late; 0 while the run does not answer yet."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return 0
    counted = {"stream_ad_events_total", "stream_ad_rejects_total", "stream_ad_late_total"}
    families = text_string_to_metric_families(text)
    return int(sum(sample.value for family in families for sample in family.samples if sample.name in counted))


def sum_of(offsets: dict[int, int | None] | dict[int, int]) -> int:
    return sum(offset or 0 for offset in offsets.values())


def memory_bytes(pid: int) -> int:
    """The memory of a process and all its descendants."""
    total, waiting = 0, [pid]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        try:
            lines = (folder / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10
            for task in (folder / "task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue  # the process has just ended
    return total


def judge(samples: list[Sample], produced: int, judged: int, committed: int) -> Verdict:
    steady = samples[len(samples) // 4 :]
    second, memory = np.array([sample.second for sample in steady]), np.array([s.memory_bytes for s in steady])
    centred = second - second.mean()
    slope = float((centred * memory).sum() / (centred**2).sum())
    score = centred * (memory - memory.mean() - slope * centred)
    lags = len(steady) // 4
    spread = (score**2).sum() + 2 * sum(
        (1 - lag / (lags + 1)) * (score[lag:] * score[:-lag]).sum() for lag in range(1, lags + 1)
    )
    error = NORMAL_95 * float(np.sqrt(spread)) / float((centred**2).sum())
    rate = float(np.median(np.diff([sample.events for sample in steady]) / np.diff(second)))
    per_event = slope / rate if rate else float("inf")
    return Verdict(
        minutes=samples[-1].second / 60,
        produced=produced,
        committed=committed,
        judged=judged,
        events_per_s=rate,
        memory_mib=float(memory.mean()) / 2**20,
        slope_kib_per_minute=slope * 60 / 1024,
        interval_kib_per_minute=error * 60 / 1024,
        bytes_per_event=per_event,
        flat=slope - error <= 0 or per_event < BYTES_PER_EVENT,
        lost=produced - min(judged, committed),
    )


def draw(samples: list[Sample], verdict: Verdict, path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    minute = np.array([sample.second for sample in samples]) / 60
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), layout="constrained")
    above.plot(minute, [sample.memory_bytes / 2**20 for sample in samples], color="#4c72b0")
    above.axvline(minute[len(minute) // 4], color="#999", linestyle=":")
    above.set_ylabel("memory [MiB]")
    above.set_ylim(bottom=0)
    above.set_title(
        "after the first quarter: "
        f"{verdict.slope_kib_per_minute:+,.0f} ± {verdict.interval_kib_per_minute:,.0f} KiB a minute, "
        f"{verdict.bytes_per_event:+.4f} bytes an event\n{verdict.produced:,} events, {verdict.lost} lost"
    )
    rates = np.diff([sample.events for sample in samples]) / np.diff([sample.second for sample in samples])
    below.plot(minute[1:], rates / 1000, color="#c44e52", linewidth=0.8)
    below.set_ylabel("thousand events/s")
    below.set_xlabel("minutes")
    below.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
