"""The stream for the measurements: card payments as JSON, about 150 bytes a record."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stream_ad.config import Config, parse

PARTITIONS = 4
START_MS = 1_780_000_000_000
MERCHANTS = 500
ENSEMBLE, ALONE = "ensemble", "autoencoder"  # the default, and what was the default before


def config(brokers: str, redis: str, topic: str, pipeline: str, max_keys: int, device: str = "cpu") -> Config:
    """A model on every event, exactly once; a record has two numbers and a category."""
    return parse(
        {
            "pipeline": pipeline,
            "kafka": {"brokers": brokers},
            "source": {"topic": topic},
            "redis": {"url": redis, "snapshot_interval": "1h"},
            "record": {"key": "card", "timestamp": "ts", "timestamp_format": "ms"},
            "window": {"rows": 16, "max_keys": max_keys},
            "features": {
                "event": ["gap", "count:1h"],
                "numeric": {"amount": ["log1p", "zscore", "diff"], "balance": ["log1p", "zscore"]},
                "categorical": {"merchant": ["novelty"]},
            },
            "scoring": {"device": device},
            "train": {"epochs": 2, "max_rows": 20_000, "auto": False},
            "server": {"port": 0},
        }
    )


def records(events: int, keys: int, seed: int = 7) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) pairs; the keys take turns, in one random order."""
    noise = random.Random(seed)
    amounts = np.random.default_rng(seed).lognormal(3.5, 0.8, 4096).round(2).tolist()
    order = np.random.default_rng(seed).permutation(keys).tolist()
    for number in range(events):
        card = order[number % keys]
        value = (
            f'{{"ts":{START_MS + number},"card":"card-{card:07d}","amount":{amounts[number & 4095]},'
            f'"balance":{noise.randrange(10_000_000) / 100},"merchant":"m{noise.randrange(MERCHANTS)}",'
            f'"terminal":"{noise.randrange(10**9):09d}","currency":"EUR"}}'
        )
        yield b"card-%07d" % card, value.encode()


def create(brokers: str, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()


def fill(brokers: str, topic: str, events: int, keys: int) -> None:
    create(brokers, topic, PARTITIONS)
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "linger.ms": 50,
            "enable.idempotence": True,
            "queue.buffering.max.messages": 500_000,
            "partitioner": "murmur2",
        }
    )
    for key, value in records(events, keys):
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
