"""All that a bounded source gives: a thread reads, or reads and decodes, ahead of whoever folds it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from stream_ad.batch import RawBatch
from stream_ad.codec.decoded import Decoded
from stream_ad.io.seeks import FromTheStart
from stream_ad.protocols import Codec, Listener, Source

T = TypeVar("T")
POLL_MS = 100


def read(source: Source) -> Generator[list[RawBatch]]:
    """What one poll after the other answers, to the end; then, or when the iterator is closed, closes the source.

    Every partition is read from its beginning. Raises what the source raises.
    """
    return _read_ahead(source, FromTheStart(source), lambda raw: raw)


def read_decoded(source: Source, codec: Codec, listener: Listener | None = None) -> Generator[list[Decoded]]:
    """As `read`, decoded by the thread that reads. With a `listener`, it says where each partition begins."""
    return _read_ahead(source, listener or FromTheStart(source), lambda raw: Decoded.of(codec, raw))


def _read_ahead(source: Source, listener: Listener, made: Callable[[RawBatch], T]) -> Generator[list[T]]:
    def polled() -> tuple[list[T], bool]:
        return [made(raw) for raw in source.poll(POLL_MS)], source.finished()

    try:
        source.open(listener)
        with ThreadPoolExecutor(1, "reader") as thread:
            finished = False
            coming = thread.submit(polled)
            while not finished:
                batches, finished = coming.result()
                if not finished:
                    coming = thread.submit(polled)
                yield batches
    finally:
        source.close()
